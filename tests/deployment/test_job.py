from typing import cast

from config.secret import Secret
from scripts.deployment.job import specification
from scripts.deployment.stack import CA_PATH
from scripts.deployment.swarm import Json, Swarm
from scripts.deployment.target import Target
from tests.deployment.records import RENDERING


class Present:
    """A swarm that has the rendering's secret and nothing else."""

    def secrets(self, _stack: str) -> list[Json]:
        return [{"ID": "id-1", "Spec": {"Name": RENDERING.secrets["SECRET_KEY"]}}]

    def configs(self, _stack: str) -> list[Json]:
        return []


def made() -> Json:
    target = Target(environment="development", stack="s", secrets={"SECRET_KEY": Secret("never-to-be-seen")})
    return specification(cast(Swarm, Present()), target, RENDERING, "s-migrate-1", (), ("migrate",))


def test_a_job_is_confined_as_the_service_is() -> None:
    container = made()["TaskTemplate"]["ContainerSpec"]
    assert (container["User"], container["ReadOnly"]) == ("10001:10001", True)
    assert (container["CapabilityDrop"], container["Privileges"]) == (["ALL"], {"NoNewPrivileges": True})
    assert set(made()["TaskTemplate"]["Resources"]["Limits"]) == {"MemoryBytes", "NanoCPUs", "Pids"}


def test_a_long_migration_is_not_killed_for_serving_nothing() -> None:
    """The image's health check would call the job unhealthy after some twenty seconds."""
    assert made()["TaskTemplate"]["ContainerSpec"]["Healthcheck"] == {"Test": ["NONE"]}


def test_a_job_runs_once_and_gets_its_secrets_as_files() -> None:
    task = made()["TaskTemplate"]
    assert task["RestartPolicy"] == {"Condition": "none"}
    assert made()["Mode"] == {"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}}
    [secret] = task["ContainerSpec"]["Secrets"]
    assert (secret["SecretID"], secret["File"]["Name"], secret["File"]["Mode"]) == (
        "id-1",
        "SECRET_KEY",
        0o400,
    )
    assert "never-to-be-seen" not in str(made())
    assert not any(CA_PATH in str(each) for each in task["ContainerSpec"]["Configs"])
