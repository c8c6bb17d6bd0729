"""Plain lines for a pipe."""

import io
from datetime import timedelta

import pytest

from scripts.pipeline.errors import StageFailure
from scripts.pipeline.events import Heartbeat, Notice
from scripts.views.plain import LAST_LINES, MOST_LINES, Plain

from .story import Story, broken, moment, shipped, watch


def told(story: Story, **options: float) -> list[str]:
    stream = io.StringIO()
    watch(Plain(stream, **options), story.events)
    return stream.getvalue().splitlines()


def test_the_first_line_names_the_environment() -> None:
    assert told(shipped("production"))[0].startswith(
        "[production] ship from 4f1c0de2b7, with changes, run 01J"
    )


def test_lines_of_stages_side_by_side_are_not_mixed() -> None:
    story = Story("lint", "test", "build").start("lint", 0).start("test", 0.1).start("build", 0.2)
    for at in range(1, 6):
        for stage in ("build", "test", "lint"):
            story.say(stage, at, f"{stage} says {at}")
    story.finish("test", 7).finish("lint", 8).finish("build", 9).end(9)
    speakers = [line.split()[0] for line in told(story) if " says " in line]
    assert speakers == ["lint"] * 5 + ["test"] * 5 + ["build"] * 5


def test_the_stage_that_holds_the_floor_is_heard_at_once() -> None:
    stream = io.StringIO()
    view = Plain(stream)
    for event in (
        Story("lint", "test").start("lint", 0).start("test", 0).say("test", 1, "T").say("lint", 1, "L").events
    ):
        view.handle(event)
    assert stream.getvalue().endswith("\nL\n")


def test_the_stage_that_runs_longest_takes_the_floor_with_all_it_said() -> None:
    story = Story("lint", "test", "build").start("lint", 0).start("test", 1).start("build", 2)
    story.say("build", 3, "B1").say("test", 3, "T1").finish("lint", 4).say("test", 5, "T2")
    stream = io.StringIO()
    view = Plain(stream)
    for event in story.events:
        view.handle(event)
    assert stream.getvalue().splitlines()[-3:] == ["== test: never run here", "T1", "T2"]


def test_a_failed_stage_says_what_where_and_what_to_do_next() -> None:
    lines = told(broken())
    start = lines.index("✗ test failed after 6.4 s: 1 of 8 tests failed")
    assert "    E       assert {'accepted': 1} == {'accepted': 0, 'duplicates': 1}" in lines[start:]
    assert "  where: tests/app/test_api.py:41 test_events_are_taken_once" in lines[start:]
    assert "  next:  invoke test --only" in lines[start:]
    assert "  log:   .slipway/runs/01JPB3X4ZQ8N6M2V7T5R9K1WHC/test.log" in lines[start:]


def test_a_skipped_stage_says_why_on_its_own_line() -> None:
    assert "○ build skipped: proven 14:02 in run 01JPB2AA, 212 files unchanged" in told(broken())


def test_the_summary_has_every_result_the_figures_and_what_is_live() -> None:
    lines = told(shipped())
    end = lines[lines.index("") + 1 :]
    assert end[0] == "done in 30 s:  ✓ lint  ✓ test  ✓ build  ✓ scan  ✓ push  ✓ deploy"
    assert "  test: 412 tests, 0 failed, 96.1 % coverage" in end
    assert "  release sha256:9c1f4e7ab2d8" in end
    assert "  development is live at http://127.0.0.1:8080" in end


def test_a_deployment_that_was_put_back_says_so() -> None:
    story = Story("deploy").start("deploy", 0)
    outputs = {"result": "rolled_back", "previous": "sha256:" + "7" * 64, "url": "http://127.0.0.1:8080"}
    story.finish("deploy", 9, "failure", outputs=outputs).end(9, "failure", 3)
    expected = "  development did not take it (rolled back); what served before serves again at http://127.0.0.1:8080"
    assert expected in told(story)


def test_a_flood_is_cut_and_its_end_is_shown() -> None:
    story = Story("test").start("test", 0)
    total = MOST_LINES + LAST_LINES + 7_000
    story.say("test", 1, *(f"line {number}" for number in range(total))).finish("test", 2).end(2)
    lines = told(story)
    assert len(lines) < MOST_LINES + LAST_LINES + 10
    log = ".slipway/runs/01JPB3X4ZQ8N6M2V7T5R9K1WHC/test.log"
    assert f"[7,000 lines left out here; all of them are in {log}]" in lines
    assert f"line {total - 1}" in lines


def test_quiet_for_twenty_seconds_brings_a_sign_of_life() -> None:
    story = Story("test", "build").start("test", 0).start("build", 5).progress("test", 6, "120 of 412 tests")
    story.add(Heartbeat(at=moment(19.9), running=())).add(Heartbeat(at=moment(25.5), running=()))
    story.add(Heartbeat(at=moment(40), running=())).finish("test", 41).finish("build", 41).end(41)
    signs = [line for line in told(story) if "still running" in line]
    assert signs == ["[still running: test 26 s (120 of 412 tests), build 20 s]"]


def test_a_chatty_stage_without_the_floor_does_not_hide_the_silence() -> None:
    story = Story("lint", "test").start("lint", 0).start("test", 0)
    for at in range(1, 30):
        story.say("test", at, "still talking")
    story.finish("lint", 30).finish("test", 31).end(31)
    assert sum("still running" in line for line in told(story)) == 1


def test_remarks_about_the_run_are_printed_between_brackets() -> None:
    story = Story("lint").add(Notice(at=moment(0), text="the proof of lint is damaged; lint runs again"))
    assert "[the proof of lint is damaged; lint runs again]" in told(story.end(1))


def test_a_stage_that_never_ended_is_not_lost() -> None:
    story = (
        Story("lint", "test")
        .start("lint", 0)
        .start("test", 0)
        .say("test", 1, "half a")
        .say("lint", 1, "word")
    )
    assert {"half a", "word"} <= set(told(story))


def test_a_note_beside_the_reason_is_told() -> None:
    story = (
        Story("lint")
        .start("lint", 0)
        .finish("lint", 1, note="app/web/api.py changed meanwhile: no proof")
        .end(1)
    )
    assert "  note:  app/web/api.py changed meanwhile: no proof" in told(story)


def test_colours_and_cursor_movements_of_tools_do_not_reach_the_pipe() -> None:
    story = (
        Story("lint")
        .start("lint", 0)
        .say("lint", 0, "\x1b[31mred\x1b[0m \x1b[2J\x1b]0;title\x07text", "1 %\r100 %")
    )
    lines = told(story.finish("lint", 1).end(1))
    assert {"red text", "100 %"} <= set(lines)
    assert not any("\x1b" in line for line in lines)


def test_a_reader_that_goes_away_ends_the_writing_and_not_the_run() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    view = Plain(Closed())
    watch(view, shipped().events)
    view.note("nobody hears this")


def test_an_old_encoding_gets_marks_that_it_can_spell() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    story = Story("lint").start("lint", 0).say("lint", 1, "größer").finish("lint", 1).end(1)
    watch(Plain(stream), story.events)
    text = raw.getvalue().decode("ascii")
    assert "+ lint passed after 1.0 s" in text
    assert "gr\\xf6\\xdfer" in text


def test_moments_come_from_the_events_alone() -> None:
    """The heartbeat needs no clock of its own: replaying a run of last year prints the same."""
    story = Story("test").start("test", 0)
    story.add(Heartbeat(at=moment(0) + timedelta(days=1), running=()))
    assert "[still running: test 24 h 00 min]" in told(story)


def test_lines_that_the_output_has_just_shown_are_not_told_twice() -> None:
    failure = StageFailure("ruff found fault", details=["app/a.py:1: E501"])
    story = Story("lint").start("lint", 0).say("lint", 1, "  app/a.py:1: E501")
    story.finish("lint", 1, "failure", failure=failure).end(1, "failure", 1)
    assert sum("E501" in line for line in told(story)) == 1


def test_a_bug_without_a_failure_still_closes_its_stage() -> None:
    story = Story("lint").start("lint", 0).finish("lint", 1, "error").end(1, "error", 1)
    assert "✗ lint broke after 1.0 s" in told(story)


@pytest.mark.parametrize(
    ("result", "previous", "expected"),
    [
        ("unchanged", "sha256:1", "  development runs it already at http://127.0.0.1:8080"),
        (
            "failed",
            "sha256:1",
            "  development did not take it (failed); what served before serves again at http://127.0.0.1:8080",
        ),
        ("failed", "", "  development did not take it (failed)"),
    ],
)
def test_the_last_line_says_what_a_deployment_left_serving(result: str, previous: str, expected: str) -> None:
    story = Story("deploy").start("deploy", 0)
    story.finish(
        "deploy", 9, outputs={"result": result, "previous": previous, "url": "http://127.0.0.1:8080"}
    )
    assert expected in told(story.end(9))
