"""Deployments on the real engine with the real image under load: what users see of good and bad releases."""

import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from config.masking import MASK
from config.secret import Secret
from scripts.deployment import lock, rollback, status
from scripts.deployment.console import Foreground
from scripts.deployment.deployment import deploy
from scripts.deployment.errors import DeploymentError, DeploymentFailed, LockHeld
from scripts.deployment.release import CANCELLED, FAILED, ROLLED_BACK, SUCCEEDED, all_of
from scripts.deployment.target import check
from scripts.deployment.watch import answer
from scripts.image import engine
from scripts.pipeline.errors import Cancelled
from tests.deployment import images
from tests.deployment.images import Image
from tests.deployment.load import load
from tests.deployment.stage import SENTINEL, Stage, free_port, staged
from tests.postgres import children, wait_until

pytestmark = pytest.mark.system


@pytest.fixture(scope="session")
def image() -> Image:
    return images.built()


@pytest.fixture(scope="module")
def shared(image: Image) -> Iterator[Stage]:
    with staged() as stage:
        stage.deploy(image)
        yield stage


@pytest.fixture
def live(shared: Stage, image: Image) -> Stage:
    """A stage on which the image serves, whatever the test before left."""
    if shared.observed(image)[0]:
        shared.deploy(image)
    shared.lines.clear()
    return shared


def in_a_replica(live: Stage, code: str) -> bool:
    """Run Python in whichever replica takes it, and tell whether one did; they share the volume."""
    for task in live.swarm.tasks(f"{live.target.stack}_web"):
        container = task["Status"].get("ContainerStatus", {}).get("ContainerID", "")
        if task["Status"]["State"] == "running" and container:
            argv = [*engine.cli(), "exec", container, "python3", "-c", code]
            if subprocess.run(argv, capture_output=True, check=False).returncode == 0:
                return True
    return False


def test_while_no_replica_is_ready_the_proxy_still_asks_one(live: Stage) -> None:
    """Late answers to checks, or a lost database, must not take down what works without."""
    away = "import os; os.rename('/data/ledger.sqlite3', '/data/away')"
    back = "import os; os.path.exists('/data/away') and os.rename('/data/away', '/data/ledger.sqlite3')"
    assert in_a_replica(live, away)
    try:
        wait_until(lambda: answer(f"{live.target.public_url}/readyz")[0] == 503, 20)
        with load(live.target.public_url) as seen:
            wait_until(lambda: seen.total > 200, 20)
        assert (seen.failed, seen.troubles) == (0, []), seen.answers
    finally:
        # One that is not ready for long is replaced meanwhile.
        wait_until(lambda: in_a_replica(live, back), 60)
    wait_until(lambda: answer(f"{live.target.public_url}/readyz")[0] == 200, 60)
    wait_until(lambda: settled(live), 60)


def settled(live: Stage) -> bool:
    """Tell whether the swarm replaces no replica any more."""
    tasks = [
        task for task in live.swarm.tasks(f"{live.target.stack}_web") if task["DesiredState"] == "running"
    ]
    return [task["Status"]["State"] for task in tasks] == ["running"] * live.target.replicas


def test_what_serves_already_is_not_deployed_again(live: Stage, image: Image) -> None:
    needed, reason = live.observed(image)
    assert not needed
    assert "serves since" in reason


def test_an_update_fails_no_request_and_the_new_digest_serves(live: Stage, image: Image) -> None:
    other = images.changed(image)
    with load(live.target.public_url) as seen:
        done = live.deploy(other)
    assert (seen.failed, seen.troubles) == (0, []), seen.answers
    assert seen.total > 100
    assert live.serves == other.digest
    assert (done.result, done.previous) == ("succeeded", image.digest)
    newest = live.releases[0]
    assert (newest.state, newest.digest, newest.commit, newest.schema) == (
        SUCCEEDED,
        other.digest,
        "c0ffee",
        "0001",
    )


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("crash", "ended at its start"),
        ("refuse", "refused its configuration"),
        ("stuck", "turn"),
        ("errors", "saved by another replica|page answers with status 500"),
    ],
)
def test_a_bad_release_goes_back_with_no_failed_request(
    live: Stage, image: Image, fault: str, reason: str
) -> None:
    bad = images.faulty(image, fault)
    with (
        load(live.target.public_url, path="/") as seen,
        pytest.raises(DeploymentFailed, match=reason) as caught,
    ):
        live.deploy(bad, **({"health_start_period": 2.0} if fault == "stuck" else {}))
    assert caught.value.exit_code == 3
    assert "serves again" in caught.value.what
    assert (seen.failed, seen.troubles) == (0, []), seen.answers
    assert live.serves == image.digest
    assert live.releases[0].state == ROLLED_BACK
    first_lines = {
        "crash": "its first line",
        "refuse": "error LOG_LEVEL: no such level",
        "stuck": "waiting for ever",
    }
    assert first_lines.get(fault, "") in "\n".join(caught.value.details)


def test_a_failed_migration_leaves_the_old_release_untouched(live: Stage, image: Image) -> None:
    before = {task["ID"] for task in live.swarm.tasks(f"{live.target.stack}_web")}
    with pytest.raises(DeploymentFailed, match="The migrate job failed") as caught:
        live.deploy(images.unmigratable(image))
    assert "broken on purpose" in "\n".join(caught.value.details)
    assert {task["ID"] for task in live.swarm.tasks(f"{live.target.stack}_web")} == before
    assert live.serves == image.digest
    assert live.swarm.jobs(live.target.stack) == []


def test_an_image_that_nobody_has_is_named_and_the_old_release_goes_on(live: Stage, image: Image) -> None:
    gone = replace(image, repository="127.0.0.1:9/gone", digest="sha256:" + "0" * 64)
    with pytest.raises(DeploymentFailed, match="No such image") as caught:
        live.deploy(gone)
    assert "registry" in caught.value.next_step or "image" in caught.value.next_step
    assert live.serves == image.digest


class CancelAt(Foreground):
    """A console that gives the order to stop when it hears certain words."""

    def __init__(self, words: str) -> None:
        super().__init__(self._hear)
        self._words = words

    def _hear(self, line: str) -> None:
        if self._words in line:
            self.cancelled.set()


def test_a_cancelled_roll_out_is_put_back(live: Stage, image: Image) -> None:
    with load(live.target.public_url) as seen, pytest.raises(Cancelled):
        live.deploy(images.changed(image), CancelAt("waiting for web"))
    assert (seen.failed, seen.troubles) == (0, []), seen.answers
    assert live.serves == image.digest
    assert live.releases[0].state == CANCELLED
    assert lock.holder(live.swarm, live.target.stack) is None


def test_a_held_lock_refuses_and_names_its_holder(live: Stage, image: Image) -> None:
    number = live.releases[0].number
    with (
        lock.held(live.swarm, live.target.stack, run="other-run", purpose="deploying abc", wait=0),
        pytest.raises(LockHeld, match="other-run"),
    ):
        live.deploy(image)
    assert live.releases[0].number == number
    assert lock.holder(live.swarm, live.target.stack) is None


def test_a_dead_owners_lock_frees_itself(live: Stage) -> None:
    stack = f"{live.target.stack}-dead"
    waited: list[str] = []
    with lock.held(live.swarm, stack, run="dead", purpose="dying", wait=0, expiry=1.0, heartbeat=3600):  # noqa: SIM117
        with lock.held(
            live.swarm, stack, run="next", purpose="living", wait=20, waiting=waited.append
        ) as mine:
            assert "run dead" in waited[0]
            found = lock.holder(live.swarm, stack)
            assert found is not None
            assert found.run == "next"
            mine.check()
    assert lock.holder(live.swarm, stack) is None


def test_a_lock_lives_as_long_as_its_owner(live: Stage) -> None:
    stack = f"{live.target.stack}-alive"
    with lock.held(live.swarm, stack, run="long", purpose="working", wait=0, expiry=5.0, heartbeat=0.2):  # noqa: SIM117
        with pytest.raises(LockHeld):
            with lock.held(live.swarm, stack, run="next", purpose="waiting", wait=8.0):
                pass


def test_a_broken_lock_is_noticed_by_its_owner(live: Stage) -> None:
    stack = f"{live.target.stack}-broken"
    with lock.held(live.swarm, stack, run="mine", purpose="working", wait=0, heartbeat=0.1) as mine:
        broken = lock.unlock(live.swarm, stack)
        assert broken is not None
        assert broken.run == "mine"
        assert mine.lost.wait(10)
        with pytest.raises(lock.LockLost):
            mine.check()
    assert lock.unlock(live.swarm, stack) is None


def test_of_two_deployments_at_once_one_waits_for_the_other(live: Stage, image: Image) -> None:
    other = images.changed(image)
    results: list[str] = []

    def run(wanted: Image) -> None:
        order = replace(live.order(wanted), lock_wait=120.0)
        results.append(deploy(order, live.swarm, live.console()).result)

    threads = [threading.Thread(target=run, args=(wanted,)) for wanted in (other, image)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["succeeded", "succeeded"]
    assert any("waiting for the lock" in line for line in live.lines)
    newest, before = live.releases[:2]
    assert {newest.digest, before.digest} == {image.digest, other.digest}
    assert live.serves == newest.digest


def test_a_rollback_brings_image_configuration_and_secrets_back_together(live: Stage, image: Image) -> None:
    other = images.changed(image)
    good = (
        live.releases[0] if live.releases[0].state == SUCCEEDED else next(r for r in live.releases if r.good)
    )
    changes = {
        "variables": {**live.target.variables, "LOG_LEVEL": "DEBUG"},
        "secrets": {**live.target.secrets, "SECRET_KEY": Secret("another-" + SENTINEL)},
    }
    live.deploy(other, **changes)
    replaced = live.releases[0]
    assert replaced.secrets["SECRET_KEY"] != good.secrets["SECRET_KEY"]
    warnings: list[str] = []
    with load(live.target.public_url) as seen:
        done = rollback.rollback(live.order(other), "", live.swarm, live.console(), warnings.append)
    assert (seen.failed, seen.troubles) == (0, []), seen.answers
    assert (done.digest, live.serves, warnings) == (image.digest, image.digest, [])
    newest = live.releases[0]
    assert (newest.copy_of, newest.fingerprint) == (good.number, good.fingerprint)
    assert next(r for r in live.releases if r.number == replaced.number).state == ROLLED_BACK
    web = live.swarm.service(f"{live.target.stack}_web")
    assert web is not None
    container = web["Spec"]["TaskTemplate"]["ContainerSpec"]
    assert not any(entry.startswith("LOG_LEVEL=") for entry in container["Env"])
    assert {each["SecretName"] for each in container["Secrets"]} == set(good.secrets.values())
    assert not live.observed(image)[0]


def test_a_rollback_over_a_migration_warns(live: Stage, image: Image) -> None:
    from scripts.deployment import release

    live.deploy(images.changed(image))
    release.mark(live.swarm, live.target.stack, live.releases[0], schema="0002")
    warnings: list[str] = []
    rollback.rollback(live.order(image), "", live.swarm, live.console(), warnings.append)
    assert len(warnings) == 1
    assert "the schema stays at 0002" in warnings[0]


def test_changes_by_hand_are_seen_told_and_undone(live: Stage, image: Image) -> None:
    docker = engine.cli()
    web = f"{live.target.stack}_web"
    subprocess.run(
        [*docker, "service", "update", "--detach", "--replicas=1", "--env-add=DEBUG_TOKEN=hidden-value", web],
        check=True,
        capture_output=True,
    )
    assert live.observed(image) == (True, "the running services were changed by hand")
    found = status.of(live.target, live.swarm)
    assert "web has 1 replicas, the release has 2" in found.drift
    assert "environment DEBUG_TOKEN was added" in found.drift
    assert "hidden-value" not in json.dumps(found.as_dict())
    live.deploy(image)
    after = status.of(live.target, live.swarm)
    assert (after.drift, after.state) == ((), "healthy")


def test_status_tells_what_runs_since_when_and_from_whom(live: Stage, image: Image) -> None:
    found = status.of(live.target, live.swarm)
    told = json.loads(json.dumps(found.as_dict()))
    assert told["state"] == "healthy"
    assert told["release"]["digest"] == image.digest
    assert told["release"]["commit"] == "c0ffee"
    assert told["release"]["owner"] == lock.owner()
    assert [(each["name"], each["running"], each["desired"]) for each in told["services"]] == [
        ("proxy", 1, 1),
        ("web", 2, 2),
    ]
    text = "\n".join(status.lines_of(found))
    assert "development: healthy" in text
    assert image.digest[7:19] in text


def test_every_container_is_confined(live: Stage) -> None:
    for container in live.swarm.containers(live.target.stack):
        facts = live.swarm.request("GET", f"/containers/{container['Id']}/json")
        host = facts["HostConfig"]
        assert facts["Config"]["User"].split(":")[0].isdecimal()
        assert facts["Config"]["User"] != "0:0"
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["Memory"] > 0
        assert host["NanoCpus"] > 0
        assert host["PidsLimit"] > 0
        assert host["Init"]
        assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
        assert not host["Privileged"]
        # The engine's own init is no program of ours; whatever it started is.
        family = descendants(facts["State"]["Pid"])
        assert family
        for pid in family:
            assert "NoNewPrivs:\t1\n" in Path(f"/proc/{pid}/status").read_text()


def descendants(pid: int) -> list[int]:
    return [each for child in children(pid) for each in (child, *descendants(child))]


def test_no_secret_is_seen_anywhere(live: Stage, image: Image, tmp_path: Path) -> None:
    """The sentinel is in every secret of this stage; the worst release prints one as it ends."""
    leaking = images.variant(
        image,
        "leaking",
        {"/fault/main.py": LEAKING},
        'ENTRYPOINT ["python3", "/fault/main.py"]',
        'CMD ["serve"]',
    )
    with pytest.raises(DeploymentFailed) as caught:
        live.deploy(leaking)
    seen = [str(caught.value), *caught.value.details, *live.lines]
    seen += status.lines_of(status.of(live.target, live.swarm))
    seen.append(json.dumps(live.swarm.services(live.target.stack)))
    seen.append(json.dumps(live.swarm.configs(live.target.stack)))
    seen.append(json.dumps(live.swarm.secrets(live.target.stack)))
    seen += [each.text for each in all_of(live.swarm, live.target.stack)]
    for container in live.swarm.containers(live.target.stack):
        seen.append(json.dumps(live.swarm.request("GET", f"/containers/{container['Id']}/json")))
    assert SENTINEL not in "\n".join(seen)
    assert f"the key is {MASK}" in "\n".join(caught.value.details)


LEAKING = """
import pathlib, sys
if sys.argv[1:] == ["serve"]:
    sys.exit("the key is " + pathlib.Path("/run/secrets/SECRET_KEY").read_text())
import runpy
runpy.run_module("app", run_name="__main__", alter_sys=True)
"""


def test_a_first_deployment_that_fails_leaves_nothing_behind(image: Image) -> None:
    with staged() as stage:
        with pytest.raises(DeploymentFailed, match="Nothing served before") as caught:
            stage.deploy(images.faulty(image, "crash"))
        assert caught.value.exit_code == 3
        assert stage.swarm.services(stage.target.stack) == []
        assert stage.swarm.containers(stage.target.stack) == []
        assert [each.state for each in stage.releases] == [FAILED]
        assert stage.serves == ""


def test_a_taken_port_is_named(live: Stage, image: Image) -> None:
    port = live.target.public_port
    with (
        staged(public_port=port, public_url=f"http://127.0.0.1:{port}") as stage,
        pytest.raises(DeploymentFailed, match="port") as caught,
    ):
        stage.deploy(image)
    assert "PUBLIC_PORT" in caught.value.next_step
    assert live.serves == image.digest


@pytest.mark.parametrize(("name", "value"), [("limit_memory", "99999G"), ("limit_cpus", 9999.0)])
def test_limits_that_no_node_has_are_refused_before_anything_changes(name: str, value: object) -> None:
    with staged(**{name: value}) as stage:
        with pytest.raises(DeploymentError, match=name.upper()):
            check(stage.swarm, stage.target)
        assert stage.releases == []


def test_an_engine_that_does_not_answer_is_named() -> None:
    from scripts.deployment.errors import TargetUnreachable
    from scripts.deployment.swarm import Swarm

    with pytest.raises(TargetUnreachable, match="does not answer") as caught:
        Swarm("unix:///nowhere/docker.sock").info()
    assert caught.value.exit_code == 4
    assert free_port() > 0
