"""One command ships: a fresh clone becomes a live service, and each further run does just what it must."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.clone import clean_environment, commit, fresh_clone, git, invoke
from tests.postgres import free_port, wait_until
from tests.stack import remove

pytestmark = pytest.mark.system

PAGE = Path("app/web/templates")
STAGES = ("lint", "test", "build", "scan", "push", "deploy")


@dataclass
class Ship:
    """A clone with an environment of its own: a stack name and ports that nobody else has."""

    folder: Path
    stack: str = field(default_factory=lambda: f"slipway-test-{uuid.uuid4().hex[:8]}")
    port: int = field(default_factory=free_port)

    @property
    def environment(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.port}"
        return {
            "STACK_NAME": self.stack,
            "PUBLIC_PORT": str(self.port),
            "PUBLIC_URL": url,
            "LEDGER_URL": url,
            "REPLICAS": "1",
            # Other tests, and the other stages of the run, take the processor meanwhile.
            "SCAN_START_SECONDS": "25",
        }

    def invoke(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return invoke(self.folder, *arguments, **self.environment)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `invoke` in a process group of its own."""
        return subprocess.Popen(
            [Path(sys.executable).with_name("invoke"), *arguments],
            cwd=self.folder,
            env=clean_environment(self.environment),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def get(self, path: str) -> Any:
        """Return what the live service answers, from JSON."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)

    def record(self) -> dict[str, Any]:
        """Return run.json of the last run."""
        content: dict[str, Any] = json.loads((self.folder / ".slipway/runs/latest/run.json").read_text())
        return content

    def results(self) -> dict[str, str]:
        return {stage["name"]: stage["result"] for stage in self.record()["stages"]}

    def reasons(self) -> dict[str, str]:
        return {stage["name"]: stage["reason"] for stage in self.record()["stages"]}

    def change_page(self) -> str:
        """Change one line of the page and return the new words."""
        words = f"changed-{uuid.uuid4().hex[:8]}"
        page = min((self.folder / PAGE).glob("*.html"))
        page.write_text(page.read_text() + f"{{# {words} #}}\n")
        return words


@pytest.fixture(scope="module")
def ship(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ship]:
    """A fresh clone, in a folder with a space, that has shipped once."""
    made = Ship(fresh_clone(tmp_path_factory.mktemp("ship") / "a fresh clone"))
    try:
        done = made.invoke("ship")
        assert done.returncode == 0, done.stdout + done.stderr
        yield made
    finally:
        remove(made.stack)


def test_a_fresh_clone_is_live_and_knows_the_run_that_put_it_there(ship: Ship) -> None:
    """The service serves the digest that was built, and its ledger holds the deploying run."""
    version = ship.get("/version")
    runs = ship.get("/api/v1/runs")
    deployments = ship.get("/api/v1/deployments")
    last = deployments["items"][0]
    assert version["digest"].startswith("sha256:")
    assert last["digest"] == version["digest"]
    assert last["run"] in {run["run"] for run in runs["items"]}
    assert last["result"] == "succeeded"


def test_running_it_again_does_nothing_and_says_why(ship: Ship) -> None:
    assert ship.invoke("ship").returncode == 0  # whatever the test before left live
    done = ship.invoke("ship")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ship.results() == dict.fromkeys(STAGES, "skipped")
    reasons = ship.reasons()
    assert all("proven" in reasons[name] for name in ("lint", "test", "build", "scan"))
    assert "holds" in reasons["push"]
    assert "serves since" in reasons["deploy"]


def test_one_changed_line_reaches_the_public_url(ship: Ship) -> None:
    """Only what depends on the line runs again, and the new digest is the one that answers."""
    before = ship.get("/version")["digest"]
    ship.change_page()
    commit(ship.folder, "change the page")
    done = ship.invoke("ship")
    assert done.returncode == 0, done.stdout + done.stderr
    after = ship.get("/version")["digest"]
    assert after != before
    assert ship.record()["release"]["digest"] == after
    assert ship.results()["deploy"] == "success"
    assert "app/web/templates" in ship.reasons()["build"]


def test_a_touched_file_undoes_no_proof(ship: Ship) -> None:
    """A proof covers the content, not the time."""
    for path in (ship.folder / "app").rglob("*.py"):
        path.touch()
    done = ship.invoke("lint", "test", "build", "scan")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(ship.results().values()) == {"skipped"}


def test_a_failing_test_stops_before_anything_outside_changes(ship: Ship) -> None:
    before = ship.get("/version")["digest"]
    broken = ship.folder / "tests/app/test_broken.py"
    broken.write_text("def test_broken() -> None:\n    assert 1 == 2\n")
    ship.change_page()
    try:
        done = ship.invoke("ship")
        assert done.returncode == 1
        assert "test_broken" in done.stdout
        assert ship.results()["test"] == "failure"
        assert ship.results()["deploy"] == "cancelled"
        assert ship.get("/version")["digest"] == before
    finally:
        broken.unlink()
        git(ship.folder, "checkout", "--quiet", ".")


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_in_any_stage_ends_it_and_the_next_run_goes_on(ship: Ship, stage: str) -> None:
    """Exit code 130, recorded as cancelled, nothing left running, and the service still answers."""
    if stage in ("build", "scan", "push", "deploy"):
        ship.change_page()
        commit(ship.folder, f"change the page for {stage}")
        if stage != "build":
            assert ship.invoke("build").returncode == 0
        if stage in ("push", "deploy"):
            assert ship.invoke("lint", "test", "scan").returncode == 0
        if stage == "deploy":
            assert ship.invoke("push").returncode == 0
        asked = ["ship"]
    else:
        asked = [stage, "--force"]
    child = ship.start(*asked)
    log = f"{stage}.log"

    def started() -> bool:
        runs = sorted((ship.folder / ".slipway/runs").glob(f"*/{log}"))
        return any(path.stat().st_mtime > before for path in runs) or child.poll() is not None

    before = time.time() - 0.5
    wait_until(started, 120, f"the start of {stage}")
    assert child.poll() is None, child.communicate()[0]
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=100)
    assert child.returncode == 130, output
    assert ship.record()["result"] == "cancelled"
    assert ship.get("/livez")
    done = ship.invoke("ship")
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_at_once_both_end_well(ship: Ship) -> None:
    """The second waits for the first or finds its work done; neither breaks the other."""
    ship.change_page()
    commit(ship.folder, "change the page for two")
    pair = [ship.start("ship"), ship.start("ship")]
    outputs = [child.communicate(timeout=300)[0] for child in pair]
    assert [child.returncode for child in pair] == [0, 0], "\n".join(outputs)
    assert ship.get("/version")["digest"] == ship.record()["release"]["digest"]


def test_an_engine_that_is_gone_is_named(ship: Ship) -> None:
    """Exit code 4 and one message, with no traceback."""
    ship.change_page()
    try:
        done = invoke(ship.folder, "build", **ship.environment, DOCKER_HOST="unix:///nowhere/docker.sock")
        assert done.returncode == 4
        assert "unix:///nowhere/docker.sock" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
    finally:
        git(ship.folder, "checkout", "--quiet", ".")


def test_a_release_is_promoted_by_its_commit_without_a_rebuild(ship: Ship, tmp_path: Path) -> None:
    """Another machine has no proofs of its own: they come from the registry, as does the image."""
    assert ship.invoke("ship").returncode == 0
    head = git(ship.folder, "rev-parse", "HEAD").strip()
    digest = ship.get("/version")["digest"]
    elsewhere = Ship(tmp_path / "elsewhere")
    git(tmp_path, "clone", "--quiet", str(ship.folder), str(elsewhere.folder))
    try:
        done = elsewhere.invoke("deploy", "--env=development", f"--release={head}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert elsewhere.get("/version")["digest"] == digest
        results = elsewhere.results()
        assert [results[name] for name in ("lint", "test", "build")] == ["skipped"] * 3
        assert results["scan"] == "success"
    finally:
        remove(elsewhere.stack)


def test_a_release_that_nobody_proved_is_refused(ship: Ship) -> None:
    done = ship.invoke("deploy", "--env=development", f"--release=sha256:{'0' * 64}")
    assert done.returncode == 2
    assert "has no proof of" in done.stderr


def test_rollback_brings_the_release_before_back(ship: Ship) -> None:
    """Image, configuration and secrets of the release before, with one command."""
    assert ship.invoke("ship").returncode == 0
    before = ship.get("/version")["digest"]
    ship.change_page()
    commit(ship.folder, "change the page to roll it back")
    assert ship.invoke("ship").returncode == 0
    assert ship.get("/version")["digest"] != before
    done = ship.invoke("rollback", "--env=development")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ship.get("/version")["digest"] == before
