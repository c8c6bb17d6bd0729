"""A run does what its plan says, side by side, keeps what passed, and ends with the right code."""

import json
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from scripts.pipeline import events, runner
from scripts.pipeline.errors import SlipwayError, StageFailure, UnreachableError, UsageError
from scripts.pipeline.lock import RunLock
from scripts.pipeline.runner import Order, Runner
from scripts.pipeline.stage import Decision, Outcome, StageContext
from scripts.pipeline.telling import KEPT_RUNS
from tests.pipeline.ground import Listening, check, effect, make_tree, passing, proofs, run, until, write

WAIT = 20.0


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "a tree")


def failing(_context: StageContext) -> Outcome:
    raise StageFailure("two findings", where="a.txt", next_step="correct a.txt", details=["a.txt:1: wrong"])


def outputs(**made: str) -> Any:
    return lambda _context: Outcome(outputs=made)


def test_independent_stages_start_together(tree: Path) -> None:
    """Each waits for the other two: one after another, none would ever end."""
    together = threading.Barrier(3)

    def meet(_context: StageContext) -> Outcome:
        together.wait(WAIT)
        return Outcome()

    ran = run(
        tree, [check("lint", meet), check("test", meet, workers=8), check("build", meet)], runner={"cpus": 2}
    )
    assert ran.code == 0
    assert set(ran.view.results().values()) == {"success"}


def test_a_stage_starts_when_what_it_needs_has_ended_and_gets_its_outputs(tree: Path) -> None:
    seen: list[Any] = []

    def scan(context: StageContext) -> Outcome:
        seen.append(dict(context.outputs))
        return Outcome()

    ran = run(tree, [check("build", outputs(digest="d")), check("scan", scan, needs=("build",))])
    assert seen == [{"build": {"digest": "d"}}]
    started = [
        event.stage
        for event in ran.view.seen
        if isinstance(event, events.StageStarted | events.StageFinished)
    ]
    assert started == ["build", "build", "scan", "scan"]


def test_the_workers_of_all_stages_stay_within_the_budget(tree: Path) -> None:
    stages = [check("wide", workers=8), check("other", workers=3), check("single")]
    ran = run(tree, stages, runner={"cpus": 4})
    given = {event.stage: event.workers for event in ran.view.of(events.StageStarted)}
    assert given == {"wide": 4, "other": 1, "single": 1}


def test_a_second_run_does_nothing_and_says_why(tree: Path) -> None:
    first = run(tree, [check("lint")])
    second = run(tree, [check("lint", failing)])
    assert second.code == 0
    finished = second.view.finished("lint")
    assert finished.result == "skipped"
    assert finished.proof == first.run_id
    assert re.fullmatch(rf"proven \d\d:\d\d in run {first.run_id}, 2 files unchanged", finished.reason)
    assert not second.view.of(events.StageStarted)


def test_a_changed_file_runs_it_again_and_is_named(tree: Path) -> None:
    first = run(tree, [check("lint")])
    write(tree, {"a.txt": "changed"})
    second = run(tree, [check("lint")])
    assert second.view.finished("lint").reason == f"a.txt changed since run {first.run_id}"
    assert second.view.finished("lint").result == "success"


def test_a_failure_names_itself_and_stops_what_needs_it(tree: Path) -> None:
    stages = [check("lint", failing), check("build"), effect("push", needs=("lint", "build"))]
    ran = run(tree, stages)
    assert ran.code == 1
    assert ran.view.results() == {"lint": "failure", "build": "success", "push": "cancelled"}
    failure = ran.view.finished("lint").failure
    assert isinstance(failure, StageFailure)
    assert failure.details == ("a.txt:1: wrong",)
    assert ran.view.finished("push").reason == "not run: lint failed"
    assert ran.view.record()["result"] == "failure"


def test_a_failed_stage_has_no_proof_and_a_passed_one_beside_it_has(tree: Path) -> None:
    run(tree, [check("lint", failing), check("test")])
    again = run(tree, [check("lint"), check("test", failing)])
    assert again.view.results() == {"lint": "success", "test": "skipped"}


def after_failure(tree: Path, *, keep_going: bool) -> dict[str, str]:
    stages = [
        check("lint", failing),
        check("build"),
        check("scan", needs=("build",)),
        effect("push", needs=("lint", "scan")),
    ]
    # build ends only when lint has failed, so that scan would start after the failure
    failed = threading.Event()

    def lint(context: StageContext) -> Outcome:
        failed.set()
        return failing(context)

    def build(_context: StageContext) -> Outcome:
        assert failed.wait(WAIT)
        return Outcome()

    stages[0], stages[1] = check("lint", lint), check("build", build)
    return run(tree, stages, keep_going=keep_going).view.results()


def test_keep_going_does_what_does_not_depend_on_the_failure(tree: Path) -> None:
    assert after_failure(tree, keep_going=True) == {
        "lint": "failure",
        "build": "success",
        "scan": "success",
        "push": "cancelled",
    }


def test_without_it_nothing_is_started_after_a_failure(tree: Path) -> None:
    found = after_failure(tree, keep_going=False)
    assert (found["lint"], found["build"], found["push"]) == ("failure", "success", "cancelled")


def test_what_did_not_run_is_told_apart_from_what_failed(tree: Path) -> None:
    stages = [check("lint", failing), check("scan", needs=("lint",)), effect("push", needs=("scan",))]
    ran = run(tree, stages, keep_going=True)
    assert ran.view.finished("push").reason == "not run: scan did not run"


@pytest.mark.parametrize(
    ("error", "code"), [(UsageError("x"), 2), (UnreachableError("x"), 4), (SlipwayError("x"), 1)]
)
def test_the_first_failures_exit_code_is_the_runs(tree: Path, error: SlipwayError, code: int) -> None:
    def act(_context: StageContext) -> Outcome:
        raise error

    assert run(tree, [check("lint", act)]).code == code


def test_what_a_failed_stage_did_is_recorded(tree: Path) -> None:
    def roll_back(_context: StageContext) -> Outcome:
        raise StageFailure("not ready", outputs={"result": "rolled_back", "url": "u"}, figures={"tries": 3.0})

    ran = run(tree, [effect("deploy", roll_back)])
    assert ran.view.record()["deployment"]["result"] == "rolled_back"
    assert ran.view.record()["stages"][0]["figures"] == {"tries": 3.0}


def test_a_bug_in_a_stage_shows_its_traceback_and_ends_the_run_in_order(tree: Path) -> None:
    def broken(_context: StageContext) -> Outcome:
        raise ZeroDivisionError("a bug")

    ran = run(tree, [check("lint", broken), check("test")])
    assert ran.code == 1
    assert ran.view.finished("lint").result == "error"
    assert ran.view.record()["result"] == "error"
    assert any("Traceback" in line for line in ran.view.lines("lint"))
    assert "ZeroDivisionError: a bug" in str(ran.view.finished("lint").failure)
    assert ran.view.finished("test").result == "success"


def test_a_stage_that_exits_the_interpreter_is_a_bug_of_that_stage(tree: Path) -> None:
    def leave(_context: StageContext) -> Outcome:
        raise SystemExit(0)

    ran = run(tree, [check("lint", leave)])
    assert (ran.code, ran.view.finished("lint").result) == (1, "error")


def test_a_hanging_command_is_killed_with_its_tree_at_the_time_out(tree: Path) -> None:
    from scripts.pipeline import guardian

    def hang(context: StageContext) -> Outcome:
        context.run(["sh", "-c", "echo begun; sleep 60 & setsid sleep 60 & wait"])
        return Outcome()

    began = time.monotonic()
    ran = run(tree, [check("lint", hang, timeout=0.5)])
    assert 0.5 <= time.monotonic() - began < 4
    assert ran.code == 1
    failure = ran.view.finished("lint").failure
    assert failure is not None
    assert failure.what == "lint did not end within 0.5 s and was stopped"
    assert not guardian.marked(ran.run_id)


def test_a_hanging_python_action_is_given_up(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "STOP_SECONDS", 0.1)
    release = threading.Event()

    def hang(context: StageContext) -> Outcome:
        release.wait(WAIT)
        context.say("too late")
        return Outcome()

    try:
        ran = run(tree, [check("lint", hang, timeout=0.1, grace=0.1)])
    finally:
        release.set()
    assert ran.view.finished("lint").result == "failure"
    assert run(tree, [check("lint")]).view.results() == {"lint": "success"}, "the late end proves nothing"


def test_a_stage_that_ends_late_but_in_time_to_notice_still_timed_out(tree: Path) -> None:
    def slow(context: StageContext) -> Outcome:
        assert context.cancelled.wait(WAIT)
        return Outcome()

    assert run(tree, [check("lint", slow, timeout=0.1)]).view.finished("lint").result == "failure"


def test_what_a_stage_leaves_running_is_stopped_and_told(tree: Path) -> None:
    from scripts.pipeline import guardian

    def leave(context: StageContext) -> Outcome:
        context.run(["sh", "-c", "sleep 60 > /dev/null 2>&1 &"])
        return Outcome()

    ran = run(tree, [check("lint", leave)])
    assert ran.view.lines("lint") == ["stopped 1 process that was left running"]
    assert not guardian.marked(ran.run_id)


def test_a_rebuild_that_gives_the_same_digest_leaves_the_rest_skipped(tree: Path) -> None:
    def stages(digest: str) -> list[Any]:
        there = {"digest": digest}
        return [
            check("build", outputs(digest=digest), tools=lambda: {"docker": digest + str(time.time())}),
            check("scan", needs=("build",), inputs=()),
            effect(
                "push",
                needs=("scan",),
                observe=lambda made: Decision(run=made["build"] != there or digest == "2", reason="looked"),
            ),
        ]

    assert run(tree, stages("1")).view.results() == {"build": "success", "scan": "success", "push": "skipped"}
    again = run(tree, stages("1"))
    assert again.view.results() == {"build": "success", "scan": "skipped", "push": "skipped"}
    (started,) = again.view.of(events.RunStarted)
    assert [line.decision.run for line in started.plan] == [True, True, True], "this was not known before"
    other = run(tree, stages("2"))
    assert other.view.results() == {"build": "success", "scan": "success", "push": "success"}
    assert other.view.finished("scan").reason == "build gave another digest"


def test_inputs_that_change_while_a_stage_runs_leave_no_proof(tree: Path) -> None:
    def change(_context: StageContext) -> Outcome:
        write(tree, {"a.txt": str(time.time()), "b.txt": "new"})
        return Outcome()

    ran = run(tree, [check("lint", change)])
    assert ran.code == 0
    finished = ran.view.finished("lint")
    assert finished.note == "a.txt changed (+1 more) while it ran: no proof is kept"
    assert finished.proof is None
    assert run(tree, [check("lint")]).view.results() == {"lint": "success"}


def test_an_effect_is_refused_when_its_checks_saw_another_tree(tree: Path) -> None:
    def change(_context: StageContext) -> Outcome:
        write(tree, {"a.txt": "changed"})
        return Outcome()

    done: list[str] = []

    def push(_context: StageContext) -> Outcome:
        done.append("pushed")
        return Outcome()

    ran = run(tree, [check("lint", change), effect("push", push, needs=("lint",))])
    assert not done
    assert ran.code == 1
    failure = ran.view.finished("push").failure
    assert failure is not None
    assert failure.what.startswith("push is refused: a.txt changed while the checks ran")


def test_a_narrow_stage_is_not_disturbed_by_other_files(tree: Path) -> None:
    def change(_context: StageContext) -> Outcome:
        write(tree, {"README.md": "changed"})
        return Outcome()

    assert run(tree, [check("lint", change, inputs=("*.txt",))]).view.finished("lint").proof


def test_a_tree_that_can_no_longer_be_read_proves_nothing(tree: Path) -> None:
    def spoil(_context: StageContext) -> Outcome:
        (tree / ".git" / "index").write_bytes(b"spoilt")
        return Outcome()

    assert "git says" in run(tree, [check("lint", spoil)]).view.finished("lint").note


def test_only_does_just_that_stage_on_proven_ground(tree: Path) -> None:
    seen: list[Any] = []

    def push(context: StageContext) -> Outcome:
        seen.append(context.outputs["build"])
        return Outcome()

    stages = [check("build", outputs(digest="d")), effect("push", push, needs=("build",))]
    with pytest.raises(UsageError, match="build is not proven"):
        run(tree, stages, "push", only=True)
    assert not seen
    run(tree, stages, "build")
    ran = run(tree, stages, "push", only=True, force=True)
    assert ran.view.results() == {"push": "success"}
    assert seen == [{"digest": "d"}]


def test_force_runs_what_is_proven(tree: Path) -> None:
    run(tree, [check("lint")])
    assert run(tree, [check("lint")], force=True).view.finished("lint").reason == "forced"


def test_nothing_outside_git_is_run(tmp_path: Path) -> None:
    view = Listening()
    made = Runner(
        root=tmp_path, stages=[check("lint")], order=Order(command="lint", names=("lint",)), views=[view]
    )
    with pytest.raises(UsageError, match="not in a git repository"):
        made.run()
    assert (view.seen, view.closed) == ([], 1)
    assert not (tmp_path / ".slipway").exists()


def test_an_unknown_stage_is_refused_before_anything(tree: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'lint'"):
        run(tree, [check("lint")], "lnt")


def test_a_preview_decides_as_the_run_does_and_leaves_no_run(tree: Path) -> None:
    stages = [check("lint"), check("scan", needs=("lint",))]
    order = Order(command="plan", names=("scan",))
    lines = Runner(root=tree, stages=stages, order=order).preview()
    assert [(line.name, line.decision.run) for line in lines] == [("lint", True), ("scan", True)]
    assert not (tree / ".slipway" / "runs").exists()
    ran = run(tree, stages)
    (started,) = ran.view.of(events.RunStarted)
    assert started.plan == lines


def test_everything_is_told_in_order_and_the_record_is_on_disk(tree: Path) -> None:
    def act(context: StageContext) -> Outcome:
        context.progress("working")
        context.say("a line")
        return Outcome(figures={"tests": 3})

    ran = run(tree, [check("test", act)], environment="staging")
    kinds = [type(event).__name__ for event in ran.view.seen]
    assert kinds == [
        "RunStarted",
        "StageStarted",
        "StageProgress",
        "StageOutput",
        "StageFinished",
        "RunFinished",
    ]
    assert ran.view.closed == 1
    record = json.loads((ran.directory / "run.json").read_text())
    assert record == ran.view.record()
    assert (record["run"], record["result"], record["environment"]) == (ran.run_id, "success", "staging")
    (stage,) = record["stages"]
    assert (stage["name"], stage["proof"], stage["log"]) == ("test", ran.run_id, "test.log")
    assert stage["figures"] == {"tests": 3}
    assert (tree / ".slipway" / "runs" / "latest" / "test.log").read_text() == "a line\n"


def test_the_record_fits_its_schema(tree: Path) -> None:
    import jsonschema

    schema = json.loads((Path(__file__).parents[2] / "docs" / "run.schema.json").read_text())
    made = outputs(digest="sha256:" + "a" * 64, image="r/n", bytes="10", bytes_compressed="4")
    stages = [
        check("build", made),
        check("lint", failing),
        check("scan", needs=("build", "lint")),
        effect("deploy", outputs(result="succeeded", previous="", url="http://x"), needs=("build",)),
    ]
    ran = run(tree, stages, keep_going=True)
    jsonschema.validate(ran.view.record(), schema, format_checker=jsonschema.FormatChecker())
    assert ran.view.record()["release"]["bytes"] == 10
    assert ran.view.record()["deployment"]["previous"] is None


def test_a_run_in_progress_can_be_read(tree: Path) -> None:
    found: list[Any] = []

    def look(context: StageContext) -> Outcome:
        found.append(json.loads((context.directory / "run.json").read_text()))
        return Outcome()

    run(tree, [check("lint"), check("test", look, needs=("lint",))])
    assert found[0]["result"] == "running"
    assert [stage["name"] for stage in found[0]["stages"]] == ["lint"]


def test_a_view_that_breaks_is_left_out_and_the_run_goes_on(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def handle(self, event: events.Event) -> None:
            raise ZeroDivisionError("in a view")

        def close(self) -> None:
            raise ZeroDivisionError

    class Gone(Broken):
        def handle(self, event: events.Event) -> None:
            raise BrokenPipeError

    good = Listening()
    order = Order(command="lint", names=("lint",))
    made = Runner(root=tree, stages=[check("lint")], order=order, views=[Broken(), Gone(), good])
    assert made.run() == 0
    assert good.results() == {"lint": "success"}
    assert capsys.readouterr().err.count("a view broke") == 1


def test_silence_is_broken_by_a_heartbeat(tree: Path) -> None:
    view = Listening()

    def quiet(context: StageContext) -> Outcome:
        context.progress("compiling")
        until(lambda: view.of(events.Heartbeat))
        return Outcome()

    order = Order(command="lint", names=("lint",))
    made = Runner(root=tree, stages=[check("lint", quiet)], order=order, views=[view], heartbeat=0.1)
    assert made.run() == 0
    (running,) = view.of(events.Heartbeat)[0].running
    assert (running.stage, running.progress) == ("lint", "compiling")
    assert running.seconds >= 0.1


def test_secrets_are_in_no_event_no_log_and_no_file(tree: Path) -> None:
    from config.masking import Masker

    secret = "hunter2-hunter2"

    def leak(context: StageContext) -> Outcome:
        context.say(f"password={secret}")
        context.run(["echo", secret])
        context.progress(secret)
        if context.stage == "test":
            raise StageFailure(f"{secret} refused", details=[f"with {secret}"], outputs={"x": secret})
        return Outcome(outputs={"url": f"postgres://u:{secret}@h"})

    stages = [
        check("build", leak, parameters={}),
        check("test", leak),
        check("lint", lambda _: 1 / 0 if secret else None, needs=("build",)),  # type: ignore[arg-type, return-value]
    ]
    ran = run(tree, stages, runner={"mask": Masker([secret])}, keep_going=True)
    assert secret not in repr(ran.view.seen)
    files = [path for path in (tree / ".slipway").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if secret.encode() in path.read_bytes()]
    assert any("***" in line for line in ran.view.lines("build"))


def test_old_runs_are_forgotten_but_not_those_that_proofs_point_to(tree: Path) -> None:
    first = run(tree, [check("lint")])
    for _ in range(KEPT_RUNS + 3):
        last = run(tree, [check("lint")])
    names = {path.name for path in (tree / ".slipway" / "runs").iterdir()} - {"latest"}
    assert {first.run_id, last.run_id} <= names
    assert len(names) <= KEPT_RUNS + 1


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff"])
def test_a_damaged_proof_runs_the_stage_again_and_is_told(tree: Path, damage: bytes) -> None:
    run(tree, [check("lint")])
    for path in (tree / ".slipway" / "proofs").rglob("*.json"):
        path.write_bytes(damage)
    for path in (tree / ".slipway" / "runs").rglob("run.json"):
        path.write_bytes(damage)
    again = run(tree, [check("lint")])
    assert again.view.results() == {"lint": "success"}
    assert "damaged" in again.view.notices()[0]
    assert run(tree, [check("lint")]).view.results() == {"lint": "skipped"}


def test_a_release_remembers_the_proofs_it_came_with(tree: Path) -> None:
    digest = "sha256:" + "c" * 64
    stages = [
        check("lint"),
        check("build", outputs(digest=digest)),
        check("scan", needs=("build",), inputs=(), parameters={"level": "high"}),
        effect("push", needs=("lint", "scan")),
    ]
    run(tree, stages)
    found = proofs(tree).for_release(digest)
    assert found.keys() == {"lint", "build", "scan"}
    write(tree, {"a.txt": "the tree has moved on"})
    given = {name: found[name] for name in ("lint", "build")}
    promoted = run(tree, stages, "push", given=given)
    assert promoted.view.results() == {
        "lint": "skipped",
        "build": "skipped",
        "scan": "skipped",
        "push": "success",
    }
    assert promoted.view.finished("lint").reason.startswith("proven for this release in run")
    assert promoted.view.record()["release"]["digest"] == digest
    assert proofs(tree).for_release(digest)["lint"] == found["lint"]


def test_two_runs_in_one_tree_take_turns_and_the_second_uses_the_firsts_proofs(tree: Path) -> None:
    begun, release = threading.Event(), threading.Event()
    times: list[str] = []

    def slow(context: StageContext) -> Outcome:
        times.append(context.run_id)
        begun.set()
        assert release.wait(WAIT)
        return Outcome()

    views = [Listening(), Listening()]
    order = Order(command="lint", names=("lint",))
    runs = [Runner(root=tree, stages=[check("lint", slow)], order=order, views=[view]) for view in views]
    codes: dict[int, int] = {}
    threads = [threading.Thread(target=lambda n=n: codes.update({n: runs[n].run()})) for n in (0, 1)]
    threads[0].start()
    assert begun.wait(WAIT)
    threads[1].start()
    until(views[1].notices)
    assert runs[0].run_id in views[1].notices()[0]
    release.set()
    for thread in threads:
        thread.join(WAIT)
    assert codes == {0: 0, 1: 0}
    assert times == [runs[0].run_id]
    assert views[1].results() == {"lint": "skipped"}
    assert runs[0].run_id != runs[1].run_id


def test_a_run_with_nothing_to_do_waits_for_nobody(tree: Path) -> None:
    run(tree, [check("lint")])
    held = RunLock(tree / ".slipway" / "run.lock")
    assert held.take("OTHER", "ship")
    try:
        assert run(tree, [check("lint")]).view.results() == {"lint": "skipped"}
    finally:
        held.free()


def test_a_lock_file_that_says_nothing_still_locks(tmp_path: Path) -> None:
    one, other = RunLock(tmp_path / "lock"), RunLock(tmp_path / "lock")
    assert one.take("RUN", "ship")
    assert not other.take("OTHER", "ship")
    assert other.holder() == f"run RUN (invoke ship, process {os.getpid()})"
    (tmp_path / "lock").write_text("{")
    assert other.holder() == "another run"
    one.free()
    assert other.take("OTHER", "ship")
    other.free()
    other.free()


def test_a_signal_while_waiting_for_another_run_ends_it(tree: Path) -> None:
    held = RunLock(tree / ".slipway" / "run.lock")
    assert held.take("OTHER", "ship")
    view = Listening()
    order = Order(command="lint", names=("lint",))
    made = Runner(root=tree, stages=[check("lint")], order=order, views=[view])
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(made.run()))
    thread.start()
    until(view.notices)
    made.interrupt.set(15)
    thread.join(WAIT)
    held.free()
    assert codes == [143]
    assert view.results() == {"lint": "cancelled"}
    assert view.record()["result"] == "cancelled"


def test_a_state_folder_that_cannot_be_made_is_one_message(tree: Path) -> None:
    (tree / ".slipway").write_text("a file in its place")
    with pytest.raises(SlipwayError, match="cannot be written") as refused:
        run(tree, [check("lint")])
    assert refused.value.exit_code == 1
    assert "free some space" in refused.value.next_step


def test_a_proof_that_cannot_be_written_is_told_and_the_run_goes_on(tree: Path) -> None:
    (tree / ".slipway").mkdir()
    (tree / ".slipway" / "proofs").write_text("a file in its place")
    ran = run(tree, [check("lint"), effect("push", needs=("lint",))])
    assert ran.code == 0
    assert ran.view.results() == {"lint": "success", "push": "success"}
    assert [text for text in ran.view.notices() if "the proof of lint cannot be written" in text]
    (tree / ".slipway" / "proofs").unlink()
    assert run(tree, [check("lint")]).view.results() == {"lint": "success"}


def test_a_record_that_cannot_be_written_is_told_once(tree: Path) -> None:
    def spoil(context: StageContext) -> Outcome:
        (context.directory / "run.json").unlink()
        (context.directory / "run.json").mkdir()
        return Outcome()

    ran = run(tree, [check("lint", spoil), check("test", passing, needs=("lint",))])
    assert ran.code == 0
    assert len([text for text in ran.view.notices() if "run.json cannot be written" in text]) == 1


def test_an_event_flood_does_not_grow_without_bounds(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that tells faster than the views listen is slowed down, not stored."""
    monkeypatch.setattr(runner, "QUEUE_EVENTS", 10)

    def flood(context: StageContext) -> Outcome:
        for number in range(1000):
            context.say(str(number))
        return Outcome()

    ran = run(tree, [check("lint", flood)])
    assert ran.view.lines("lint") == [str(number) for number in range(1000)]
