"""One-shot work on the target with the release's own image: backing up and migrating before the roll-out."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence

from scripts.deployment.console import Console
from scripts.deployment.errors import DeploymentError, RolloutFailed
from scripts.deployment.release import KIND
from scripts.deployment.rollout import advice
from scripts.deployment.stack import APP_USER, CA_PATH, DATA_PATH, Rendering
from scripts.deployment.swarm import STACK_LABEL, Json, Swarm
from scripts.deployment.target import Target, size
from scripts.image import repository

POLL_SECONDS = 0.1
ENDED = frozenset({"complete", "failed", "rejected", "shutdown", "orphaned", "remove"})
UNPLACEABLE_SECONDS = 10.0


def run(
    swarm: Swarm,
    target: Target,
    rendering: Rendering,
    *,
    name: str,
    console: Console,
    deadline: float,
    entrypoint: Sequence[str] = (),
    arguments: Sequence[str] = (),
) -> list[str]:
    """Run a job to its end and return what it wrote.

    It gets the release's environment, secrets, volume and network. `deadline` is a moment of
    time.monotonic(). Raises `RolloutFailed` with the job's last lines when it fails; its service is gone
    afterwards in any case.
    """
    service = f"{target.stack}-{name}-{secrets.token_hex(4)}"
    identity = swarm.create_service(
        specification(swarm, target, rendering, service, entrypoint, arguments),
        repository.pull_credentials(target.registry.partition("/")[0]),
    )
    try:
        return _wait(swarm, identity, name, console, deadline)
    finally:
        swarm.remove_service(identity)


def _wait(swarm: Swarm, service: str, name: str, console: Console, deadline: float) -> list[str]:
    started = time.monotonic()
    while True:
        console.raise_if_cancelled()
        tasks = swarm.tasks(service)
        status = tasks[0]["Status"] if tasks else {}
        state = status.get("State", "new")
        if state == "complete":
            return swarm.service_logs(service)
        if state in ENDED:
            lines = swarm.task_logs(tasks[0]["ID"])
            code = (status.get("ContainerStatus") or {}).get("ExitCode")
            trouble = str(status.get("Err") or state)
            raise RolloutFailed(
                f"The {name} job failed" + (f" with exit code {code}." if code else f": {trouble}."),
                "the release's image on the target",
                "Mend what it says and deploy again." if code else advice(trouble),
                lines,
            )
        if state == "pending" and status.get("Err") and time.monotonic() - started > UNPLACEABLE_SECONDS:
            raise RolloutFailed(
                f"The {name} job could not be placed: {status['Err']}.",
                "the swarm",
                "See `docker node ls` there.",
            )
        if time.monotonic() > deadline:
            raise RolloutFailed(
                f"The {name} job did not end in time (its state is {state!r}).",
                "DEPLOY_TIMEOUT",
                "See why it hangs, or raise DEPLOY_TIMEOUT.",
                swarm.service_logs(service),
            )
        console.cancelled.wait(POLL_SECONDS)


def specification(
    swarm: Swarm,
    target: Target,
    rendering: Rendering,
    service: str,
    entrypoint: Sequence[str],
    arguments: Sequence[str],
) -> Json:
    """Return the service specification of a job."""
    scratch: Json = {"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": {"SizeBytes": 16777216}}  # noqa: S108
    mounts = [scratch]
    if rendering.volume:
        options = {"Labels": {STACK_LABEL: target.stack}}
        mounts.append(
            {"Type": "volume", "Source": rendering.volume, "Target": DATA_PATH, "VolumeOptions": options}
        )
    container: Json = {
        "Image": rendering.values["IMAGE"],
        "Env": [f"{name}={value}" for name, value in rendering.environment.items()],
        "Secrets": _files(swarm.secrets(target.stack), rendering.secrets, "Secret"),
        "Configs": _files(
            swarm.configs(target.stack), {CA_PATH: rendering.configs.get("database-ca", "")}, "Config"
        ),
        "Mounts": mounts,
        "User": f"{APP_USER}:{APP_USER}",
        "ReadOnly": True,
        "Init": True,
        # The image's own check asks a service that does not run here: a long migration would be killed.
        "Healthcheck": {"Test": ["NONE"]},
        "CapabilityDrop": ["ALL"],
        "Privileges": {"NoNewPrivileges": True},
    }
    if entrypoint:
        container["Command"] = list(entrypoint)
    if arguments:
        container["Args"] = list(arguments)
    limits = {
        "MemoryBytes": size(target.limit_memory),
        "NanoCPUs": int(target.limit_cpus * 1e9),
        "Pids": target.limit_pids,
    }
    return {
        "Name": service,
        "Labels": {STACK_LABEL: target.stack, KIND: "job"},
        "TaskTemplate": {
            "ContainerSpec": container,
            "Resources": {"Limits": limits},
            "RestartPolicy": {"Condition": "none"},
            "Networks": [{"Target": target.network}],
            "LogDriver": {"Name": "json-file", "Options": {"max-size": "10m", "max-file": "3"}},
        },
        "Mode": {"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}},
    }


def _files(known: list[Json], wanted: Mapping[str, str], kind: str) -> list[Json]:
    ids = {each["Spec"]["Name"]: each["ID"] for each in known}
    files = []
    for path, on_swarm in wanted.items():
        if not on_swarm:
            continue
        if on_swarm not in ids:
            raise DeploymentError(
                f"The {kind.lower()} {on_swarm} is gone from the swarm.", "the target", "Deploy again."
            )
        file = {"Name": path, "UID": APP_USER, "GID": APP_USER, "Mode": 0o400}
        files.append({"File": file, f"{kind}ID": ids[on_swarm], f"{kind}Name": on_swarm})
    return files
