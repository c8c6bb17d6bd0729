"""A command's output is whole, bounded and readable, and nothing that it started outlives its stage."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from scripts.pipeline import events, guardian, process
from scripts.pipeline.errors import Cancelled, StageFailure, UnreachableError
from scripts.pipeline.record import new_run_id
from scripts.pipeline.stage import StageContext
from tests.pipeline.ground import until


class Stand:
    """A stage's context with what it told."""

    def __init__(self, folder: Path) -> None:
        self.told: list[events.Event] = []
        self.cancelled = threading.Event()
        self.mark = f"{new_run_id(events_now())}/work"
        self.context = StageContext(
            stage="work",
            root=folder,
            directory=folder / "run",
            emit=self.told.append,
            cancelled=self.cancelled,
            family=process.Family(self.mark),
        )

    @property
    def lines(self) -> list[str]:
        return [event.line for event in self.told if isinstance(event, events.StageOutput)]

    def python(self, program: str, **more: Any) -> process.Completed:
        return self.context.run([sys.executable, "-c", program], **more)

    def alive(self) -> set[int]:
        return guardian.marked(self.mark)


def events_now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


@pytest.fixture
def stand(tmp_path: Path) -> Any:
    made = Stand(tmp_path)
    yield made
    made.context.close()
    guardian.kill_marked(made.mark)


def test_lines_come_in_order_with_both_streams_merged(stand: Stand) -> None:
    done = stand.context.run(["sh", "-c", "echo one; echo two >&2; printf three"])
    assert stand.lines == ["one", "two", "three"]
    assert (done.exit_code, done.output, done.errors) == (0, "one\ntwo\nthree", "")
    stand.context.close()
    assert (stand.context.directory / "work.log").read_text() == "one\ntwo\nthree\n"


def test_a_quiet_command_shows_nothing_and_keeps_its_streams_apart(stand: Stand) -> None:
    done = stand.context.run(["sh", "-c", "echo one; echo two >&2"], quiet=True)
    assert (done.output, done.errors, stand.lines) == ("one\n", "two\n", [])


def test_lines_can_go_elsewhere(stand: Stand) -> None:
    taken: list[str] = []
    stand.context.run(["echo", "one"], on_line=taken.append)
    assert (taken, stand.lines) == (["one"], [])


def test_what_is_no_text_is_replaced(stand: Stand) -> None:
    stand.context.run(["printf", r"caf\351 \377\n"])
    assert stand.lines == ["caf\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}"]


def test_a_line_that_was_drawn_over_shows_what_it_ended_as(stand: Stand) -> None:
    stand.context.run(["printf", r"10%%\r50%%\r100%%\ndone\r\n"])
    assert stand.lines == ["100%", "done"]


def test_a_line_without_end_arrives_in_pieces(stand: Stand) -> None:
    stand.python("print('x' * 100_000, end='')")
    assert sum(map(len, stand.lines)) == 100_000
    assert max(map(len, stand.lines)) <= process.LINE_LIMIT


def test_input_and_variables_reach_the_command(stand: Stand) -> None:
    done = stand.context.run(
        ["sh", "-c", "cat; echo $COLOUR"], input="text ", env={"COLOUR": "red"}, quiet=True
    )
    assert done.output == "text red\n"
    assert stand.context.run(["cat"], input=b"\x00raw", quiet=True).output == "\x00raw"


def test_no_input_is_empty_and_never_the_terminal(stand: Stand) -> None:
    assert stand.context.run(["cat"], quiet=True).output == ""


def test_a_failure_shows_the_end_of_the_output(stand: Stand) -> None:
    with pytest.raises(StageFailure) as failed:
        stand.context.run(["sh", "-c", "seq 100; exit 3"])
    assert "exited with 3" in failed.value.what
    assert failed.value.details[-1] == "100"
    assert len(failed.value.details) == 40
    assert "work.log" in failed.value.next_step


def test_a_quiet_failure_shows_its_errors(stand: Stand) -> None:
    with pytest.raises(StageFailure) as failed:
        stand.context.run(["sh", "-c", "echo out; echo wrong >&2; exit 1"], quiet=True)
    assert failed.value.details == ("wrong",)


def test_an_unchecked_failure_is_an_answer(stand: Stand) -> None:
    done = stand.context.run(["sh", "-c", "exit 7"], check=False)
    assert (done.exit_code, done.ended) == (7, "exited with 7")
    done = stand.context.run(["sh", "-c", "kill -9 $$"], check=False)
    assert done.ended == "was killed by SIGKILL"


def test_an_unknown_signal_is_still_said() -> None:
    done = process.Completed(command="x", exit_code=-99, output="", errors="", seconds=0)
    assert done.ended == "exited with -99"


def test_a_command_that_does_not_exist_is_a_tool_that_is_not_reachable(stand: Stand) -> None:
    with pytest.raises(UnreachableError) as missing:
        stand.context.run(["no-such-program", "x"])
    assert "`no-such-program` cannot be started" in missing.value.what
    assert "bootstrap" in missing.value.next_step


def test_a_folder_that_does_not_exist_is_named(stand: Stand, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError) as missing:
        stand.context.run(["true"], cwd=tmp_path / "gone")
    assert missing.value.next_step == "the folder does not exist"


@pytest.mark.system
def test_a_hundred_megabytes_stay_out_of_memory_and_views(stand: Stand) -> None:
    """The log has it all, the views the first lines, the answer the last megabyte."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = stand.context.run(
        ["sh", "-c", "yes 0123456789012345678901234567890123456789012345678 | head -c 100000000"]
    )
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 40_000, f"{grown} KiB more"
    assert done.truncated
    assert len(done.output) <= process.TAIL_LIMIT
    assert len(stand.lines) == process.SHOWN_LINES
    assert "the rest is in work.log" in stand.lines[-1]
    stand.context.close()
    assert (stand.context.directory / "work.log").stat().st_size == 100_000_000


def test_a_log_stops_at_its_limit_and_says_so(tmp_path: Path) -> None:
    log = process.Log(tmp_path / "x.log", limit=30)
    for _ in range(5):
        log.write("0123456789")
    log.close()
    assert (tmp_path / "x.log").read_text().splitlines() == [
        "0123456789",
        "0123456789",
        "the log has reached its limit; what follows is not kept",
    ]


def test_a_log_that_cannot_be_written_costs_the_log_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = process.Log(tmp_path / "file" / "x.log")
    assert log.write("line") == "line"
    assert log.write("line") == "line"
    log.close()


def test_a_full_disk_costs_the_log_only() -> None:
    log = process.Log(Path("/dev/full"))
    assert log.write("line") == "line"
    log.close()


def test_a_background_process_that_holds_the_output_is_not_waited_for(stand: Stand) -> None:
    began = time.monotonic()
    done = stand.context.run(["sh", "-c", "sleep 60 & echo started"], quiet=True)
    assert done.output == "started\n"
    assert time.monotonic() - began < 5
    assert len(stand.alive()) == 1
    assert stand.context._family.sweep() == 1
    assert not stand.alive()


def test_a_command_that_closed_its_output_is_still_waited_for(stand: Stand) -> None:
    done = stand.python(
        "import os, time; os.close(1); os.close(2); time.sleep(0.3); os._exit(4)", check=False
    )
    assert done.exit_code == 4
    assert done.seconds >= 0.3


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
# a grandchild in a session of its own, and one whose parent is gone
subprocess.Popen(["sleep", "60"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)
print("ready", flush=True)
time.sleep(60)
"""


def test_a_cancelled_command_is_gone_within_two_seconds_with_all_below_it(stand: Stand) -> None:
    raised: list[BaseException] = []

    def work() -> None:
        try:
            stand.python(STUBBORN)
        except Cancelled as error:
            raised.append(error)
            stand.context._family.sweep()

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: stand.lines == ["ready"])
    until(lambda: len(stand.alive()) == 3)
    began = time.monotonic()
    stand.cancelled.set()
    thread.join(20)
    assert time.monotonic() - began < 10
    assert isinstance(raised[0], Cancelled)
    assert not stand.alive()


def test_a_cancelled_stage_starts_nothing_more(stand: Stand) -> None:
    stand.cancelled.set()
    with pytest.raises(Cancelled):
        stand.context.run(["touch", "made"])
    assert not (stand.context.root / "made").exists()


def test_putting_things_back_works_also_when_cancelled(stand: Stand) -> None:
    stand.cancelled.set()
    assert stand.context.run(["echo", "back"], even_if_cancelled=True, quiet=True).output == "back\n"


def test_a_reader_that_breaks_stops_the_command(stand: Stand) -> None:
    def broken(_line: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stand.context.run(["sh", "-c", "echo x; sleep 60"], on_line=broken)
    assert not stand.alive()


def test_the_mark_of_an_outer_run_stays(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(guardian.MARK, "OUTER/test")
    done = stand.context.run(["sh", "-c", f"echo ${guardian.MARK}"], quiet=True)
    assert done.output == f"OUTER/test {stand.mark}\n"


@pytest.mark.parametrize(("farewell", "left"), [(guardian.FAREWELL, True), (b"", False)])
def test_the_guardian_kills_what_a_killed_run_left(farewell: bytes, left: bool) -> None:
    run = new_run_id(events_now())
    orphan = subprocess.Popen(["sleep", "60"], env={**os.environ, guardian.MARK: f"{run}/test"})
    try:
        watching = subprocess.Popen(
            [sys.executable, "-I", "-S", guardian.__file__, run],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        watching.communicate(farewell, timeout=10)
        assert (orphan.poll() is None) is left
    finally:
        orphan.kill()
        orphan.wait()


def test_the_guardian_says_farewell_when_it_is_closed() -> None:
    run = new_run_id(events_now())
    orphan = subprocess.Popen(["sleep", "60"], env={**os.environ, guardian.MARK: f"{run}/test"})
    try:
        process.Guardian(run).close()
        assert orphan.poll() is None
    finally:
        orphan.kill()
        orphan.wait()


def test_processes_with_odd_names_are_read(tmp_path: Path) -> None:
    odd = tmp_path / "a) R (b c"
    odd.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(odd), "60"])
    try:
        assert guardian.parents()[child.pid] == os.getpid()
        assert child.pid in guardian.descendants({os.getpid()})
    finally:
        child.kill()
        child.wait()
    assert child.pid not in guardian.parents()


def test_signals_to_the_departed_are_harmless() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    guardian.send({child.pid}, signal.SIGKILL)


def test_progress_and_secrets_given_late_are_handled(tmp_path: Path) -> None:
    from config.masking import Masker

    told: list[Any] = []
    context = StageContext(stage="work", root=tmp_path, directory=tmp_path, emit=told.append, mask=Masker())
    context.hide("late-secret")
    context.say("it is late-secret")
    context.progress("using late-secret")
    context.close()
    assert [told[0].line, told[1].text] == ["it is ***", "using ***"]
    assert "late-secret" not in (tmp_path / "work.log").read_text()


def test_a_secret_nobody_could_hide_is_refused(tmp_path: Path) -> None:
    context = StageContext(stage="work", root=tmp_path, directory=tmp_path)
    with pytest.raises(ValueError, match="no mask"):
        context.hide("secret")
    context.hide()
