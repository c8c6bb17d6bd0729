"""However a run is stopped, nothing of it stays, it is recorded, and the next one works."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

from scripts.pipeline import guardian
from scripts.pipeline.interrupt import Interrupt
from tests.pipeline.ground import make_tree, until

PROGRAM = Path(__file__).with_name("program.py")
WITHIN = 10.0 if os.environ.get("PYTEST_XDIST_WORKER") else 2.0
"""Seconds; workers share the machine with each other, so there it is not the two that we promise."""


class Going:
    """A pipeline in a process of its own, at the head of its own session like a shell's job."""

    def __init__(self, tree: Path, *stages: str) -> None:
        self.tree = tree
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(tree), *stages],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []

    @property
    def stdout(self) -> IO[str]:
        assert self.process.stdout
        return self.process.stdout

    def read_until(self, line: str, times: int = 1) -> None:
        for found in self.stdout:
            self.lines.append(found.rstrip())
            times -= found.rstrip() == line
            if not times:
                return
        pytest.fail(f"no {line!r} in {self.lines}")

    @property
    def folder(self) -> Path:
        return (self.tree / ".slipway" / "runs" / "latest").resolve()

    def left(self) -> set[int]:
        return guardian.marked(f"{self.folder.name}/")

    def end(self) -> tuple[int, float]:
        """Return the exit code and how long it took to get it, in seconds."""
        began = time.monotonic()
        rest, _ = self.process.communicate(timeout=30)
        self.lines += rest.splitlines()
        return self.process.returncode, time.monotonic() - began

    def record(self) -> dict:
        return json.loads((self.folder / "run.json").read_text())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture
def going(tree: Path) -> Iterator[list[Going]]:
    started: list[Going] = []
    yield started
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.communicate()
        if each.folder.exists():
            guardian.kill_marked(f"{each.folder.name}/")


def begin(going: list[Going], tree: Path, *stages: str) -> Going:
    """Start a pipeline and wait until each of its stages is at work."""
    made = Going(tree, *stages)
    going.append(made)
    hanging = [name for name in stages if not name.startswith("quick")]
    made.read_until("ready", len(hanging))
    return made


def quick(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run one quick stage to its end."""
    words = [sys.executable, str(PROGRAM), str(tree), "quick"]
    return subprocess.run(words, check=False, capture_output=True, text=True)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Put a real file system of that size on a folder."""
    folder.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if os.geteuid() or subprocess.run(words, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while os.write(descriptor, b"x" * 4096):
            pass
    os.close(descriptor)


def again(tree: Path) -> None:
    """The next run works."""
    done = quick(tree)
    assert (done.returncode, done.stderr) == (0, "")
    assert "quick success" in done.stdout or "quick skipped" in done.stdout


WAYS = {
    "ctrl-c": lambda made: os.killpg(made.process.pid, signal.SIGINT),
    "parent": lambda made: made.process.send_signal(signal.SIGINT),
    "sigterm": lambda made: made.process.send_signal(signal.SIGTERM),
    "hangup": lambda made: made.process.send_signal(signal.SIGHUP),
}
CODES = {"ctrl-c": 130, "parent": 130, "sigterm": 143, "hangup": 129}


@pytest.mark.parametrize("way", WAYS)
def test_a_signal_stops_the_whole_tree_within_two_seconds(going: list[Going], tree: Path, way: str) -> None:
    made = begin(going, tree, "hang", "stubborn")
    until(lambda: len(made.left()) >= 6)
    WAYS[way](made)
    code, seconds = made.end()
    assert code == CODES[way]
    assert seconds < WITHIN
    assert not made.left()
    record = made.record()
    assert record["result"] == "cancelled"
    assert {stage["result"] for stage in record["stages"]} == {"cancelled"}
    again(tree)


def test_a_python_action_that_does_not_listen_is_left_behind(going: list[Going], tree: Path) -> None:
    made = begin(going, tree, "python")
    made.process.send_signal(signal.SIGTERM)
    code, seconds = made.end()
    assert (code, made.record()["result"]) == (143, "cancelled")
    assert seconds < WITHIN


def test_what_passed_before_the_signal_stays_proven(going: list[Going], tree: Path) -> None:
    made = begin(going, tree, "hang", "quick")
    made.read_until("quick success")
    made.process.send_signal(signal.SIGINT)
    assert made.end()[0] == 130
    after = quick(tree)
    assert "quick skipped" in after.stdout


def test_a_stage_with_grace_puts_things_back(going: list[Going], tree: Path) -> None:
    made = begin(going, tree, "undo")
    made.process.send_signal(signal.SIGTERM)
    assert made.end()[0] == 143
    assert (tree / "undone.ignored").read_text() == "undone\n"


def test_a_second_signal_does_not_wait_for_that(going: list[Going], tree: Path) -> None:
    made = begin(going, tree, "undo")
    made.process.send_signal(signal.SIGINT)
    until(made.left)
    made.process.send_signal(signal.SIGINT)
    code, seconds = made.end()
    assert code == 130
    assert seconds < WITHIN
    assert not (tree / "undone.ignored").exists()
    assert not made.left()


def test_a_killed_run_leaves_no_process_keeps_its_proofs_and_frees_its_lock(
    going: list[Going], tree: Path
) -> None:
    made = begin(going, tree, "hang", "stubborn", "quick")
    made.read_until("quick success")
    assert made.left()
    made.process.kill()
    made.process.communicate()
    until(lambda: not made.left(), WITHIN)
    assert made.record()["result"] == "running", "nobody was there to write how it ended"
    after = quick(tree)
    assert "quick skipped" in after.stdout
    again(tree)


def test_signals_go_back_to_whoever_had_them() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: interrupt.number)
        assert (interrupt.number, interrupt.exit_code, interrupt.count) == (signal.SIGTERM, 143, 1)
        interrupt.set(signal.SIGINT)
        assert (interrupt.exit_code, interrupt.count) == (143, 2), "the first one says how it ended"
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.system
def test_a_full_disk_ends_in_one_message_and_the_next_run_works(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    with small_disk(tree / ".slipway", "1m"):
        fill(tree / ".slipway" / "filler")
        full = quick(tree)
        said = full.stdout + full.stderr
        assert "Traceback" not in said
        assert "No space left on device" in said
        if full.returncode == 0:
            assert "the proof of quick cannot be written" in said
        else:
            assert full.returncode == 1
            assert "free some space" in said
        (tree / ".slipway" / "filler").unlink()
        again(tree)


@pytest.mark.system
def test_a_disk_that_is_full_for_a_proof_keeps_the_result(tmp_path: Path) -> None:
    """Room for the run's folder, none for the proof: the stage passed, and runs again next time."""
    tree = make_tree(tmp_path / "tree", {f"f{number}": "x" for number in range(600)})
    proofs = tree / ".slipway" / "proofs"
    with small_disk(proofs, "16k"):
        for _ in range(2):
            done = quick(tree)
            assert (done.returncode, done.stderr) == (0, "")
            assert "quick success" in done.stdout
            assert "the proof of quick cannot be written (No space left on device)" in done.stdout
            assert not [path for path in proofs.rglob("*") if path.is_file()]
    again(tree)
