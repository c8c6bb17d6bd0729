"""The tree in a terminal."""

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scripts.pipeline.errors import StageFailure
from scripts.pipeline.events import Event, Notice
from scripts.views.audience import front
from scripts.views.github import GitHub
from scripts.views.plain import Plain
from scripts.views.terminal import Terminal, size_of

from .screen import Screen
from .story import Story, broken, moment, shipped, watch

ROOT = Path(__file__).parent.parent.parent
NEVER = 1e-9
"""Frames a second: the clock of the view stands still, events alone repaint."""


class Window:
    """A terminal view before a screen, with a clock and a size that the test holds."""

    def __init__(self, columns: int = 100, rows: int = 40, encoding: str = "utf-8") -> None:
        self.stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
        self.columns, self.rows, self.at = columns, rows, 0.0
        self.screen = Screen(columns)
        self.view = Terminal(
            self.stream,
            size=lambda: (self.columns, self.rows),
            now=lambda: moment(self.at),
            frames_a_second=NEVER,
        )

    def show(self, *events: Event) -> list[str]:
        for event in events:
            self.at = (event.at - moment(0)).total_seconds()
            self.view.handle(event)
        return self.look()

    def look(self) -> list[str]:
        buffer = self.stream.buffer
        assert isinstance(buffer, io.BytesIO)
        self.screen.feed(buffer.getvalue().decode(self.stream.encoding))
        buffer.seek(0)
        buffer.truncate()
        return self.screen.text

    def narrow(self, columns: int) -> None:
        self.look()
        self.columns = columns
        self.screen.resize(columns)


def test_the_first_line_names_the_environment_and_production_is_red() -> None:
    for environment, style in (("production", "1;37;41"), ("staging", "1;30;43"), ("development", "1;30;46")):
        window = Window()
        assert window.show(Story("lint", environment=environment).events[0])[0].startswith(
            f" {environment}  ship"
        )
        assert style in window.screen.styles


def test_each_stage_has_one_row_that_is_repainted_in_place() -> None:
    window = Window()
    rows = window.show(*shipped().events[:8])
    assert [row.split()[:2] for row in rows[1:]] == [
        ["✓", "lint"],
        [rows[2].split()[0], "test"],
        [rows[3].split()[0], "build"],
        ["·", "scan"],
        ["·", "push"],
        ["·", "deploy"],
    ]


def test_a_running_stage_shows_what_it_does_and_for_how_long() -> None:
    window = Window()
    story = Story("test").start("test", 0).progress("test", 12, "120 of 412 tests")
    assert re.fullmatch(r"  . test      12 s  120 of 412 tests", window.show(*story.events)[1])


def test_without_progress_the_newest_line_tells_what_a_stage_does() -> None:
    window = Window()
    story = Story("lint", "test").start("lint", 0).say("lint", 1, "one", "\x1b[1mtwo\x1b[0m").start("test", 2)
    assert window.show(*story.events)[1].endswith("2.0 s  two")


def test_the_end_leaves_the_tree_the_release_and_where_it_is_live() -> None:
    window = Window(160)
    rows = window.show(*shipped().events)
    assert rows[2].startswith(
        "  ✓ test        22 s  app/web/api.py changed since run 01JPB3W8  412 tests, 0 "
    )
    assert rows[-3:] == [
        "  done in 30 s",
        "  release sha256:9c1f4e7ab2d8",
        "  development is live at http://127.0.0.1:8080",
    ]
    assert window.screen.cursor


def test_a_failure_shows_its_lines_and_what_to_do_next_below_the_tree() -> None:
    rows = Window().show(*broken().events)
    assert rows[1:] == [
        "  ✓ lint      3.0 s  never run here",
        "  ✗ test      6.4 s  1 of 8 tests failed  8 tests, 1 failed",
        "  ○ build            proven 14:02 in run 01JPB2AA, 212 files unchanged",
        "  ■ push             test failed",
        "",
        "  test failed",
        "    tests/app/test_api.py:41: AssertionError: the second delivery counts as a duplicate",
        "    >       assert answer.json == {'accepted': 0, 'duplicates': 1}",
        "    E       assert {'accepted': 1} == {'accepted': 0, 'duplicates': 1}",
        "    where  tests/app/test_api.py:41 test_events_are_taken_once",
        "    next   invoke test --only",
        "    log    .slipway/runs/01JPB3X4ZQ8N6M2V7T5R9K1WHC/test.log",
        "",
        "  failed in 6.5 s",
    ]


def test_a_bug_shows_the_last_lines_of_the_stage() -> None:
    story = Story("lint").start("lint", 0).say("lint", 1, *(f"line {number}" for number in range(99)))
    rows = Window().show(*story.finish("lint", 2, "error").events)
    assert [row.strip() for row in rows if row.strip().startswith("line")] == [
        f"line {n}" for n in range(79, 99)
    ]


@pytest.mark.parametrize("columns", [14, 33, 59, 60, 61, 100, 140])
def test_a_window_that_changes_its_width_keeps_one_tree(columns: int) -> None:
    window = Window(120)
    events = shipped().events
    window.show(*events[:8])
    window.narrow(columns)
    rows = window.show(*events[8:12])
    for stage in ("lint", "build", "scan", "push"):
        assert sum(bool(re.match(rf"  \S {stage}( |…|$)", row)) for row in rows) == 1, rows
    assert all(len(row) <= columns for row in rows)
    assert "".join(rows).count("run 01JPB3X4ZQ8N6M2V7T5R9K1WHC") == 1


def test_tabs_and_lines_within_a_message_do_not_upset_the_tree() -> None:
    window = Window(40)
    story = Story("lint", "test").start("lint", 0).start("test", 0)
    failure = StageFailure("one\ntwo", "here\nthere", "do\tthis", ["a\tb\tc\td\te\tf"])
    story.finish("lint", 1, "failure", failure=failure)
    for at in range(2, 6):
        story.say("test", at, "x\ty\t" * 20).progress("test", at, f"\t{at}\t" * 9)
    rows = window.show(*story.events)
    assert sum(" test " in row for row in rows) == 1
    assert rows.count("two") == 1
    assert all(len(row) <= 40 for row in rows)


def test_a_low_window_shows_what_fits() -> None:
    window = Window(rows=4)
    assert len(window.show(*shipped().events[:9])) == 4


def test_remarks_stand_above_the_tree_and_stay() -> None:
    window = Window()
    story = Story("lint").start("lint", 0).add(Notice(at=moment(1), text="the proof of lint is damaged"))
    rows = window.show(*story.events)
    assert rows[1] == "  the proof of lint is damaged"
    assert " lint " in rows[2]
    assert len(rows) == 3


def test_what_another_view_says_after_the_end_comes_last() -> None:
    window = Window()
    window.show(*shipped().events)
    window.view.note("ledger: 1 run waits")
    window.view.close()
    assert window.look()[-1] == "  ledger: 1 run waits"


def test_a_run_that_broke_leaves_its_tree_and_the_cursor() -> None:
    window = Window()
    window.show(*shipped().events[:5])
    assert not window.screen.cursor
    window.view.close()
    assert len(window.look()) == 7
    assert window.screen.cursor


def test_nothing_is_written_when_nothing_changed() -> None:
    window = Window()
    window.show(*shipped().events[:9])
    before = window.stream.buffer.tell()
    window.view._paint()
    window.view._paint()
    assert window.stream.buffer.tell() == before


def test_an_old_encoding_gets_marks_that_it_can_spell() -> None:
    rows = Window(encoding="ascii").show(*broken().events)
    assert rows[2].startswith("  x test")


def test_the_clock_repaints_a_running_stage() -> None:
    stream = io.StringIO()
    view = Terminal(stream, size=lambda: (80, 24), now=lambda: datetime.now(UTC), frames_a_second=200)
    story = Story("lint").start("lint", 0)
    for event in story.events:
        view.handle(event)
    written = len(stream.getvalue())
    deadline = time.monotonic() + 5
    while len(stream.getvalue()) == written:
        assert time.monotonic() < deadline, "the row was not repainted"
        time.sleep(0.005)
    view.close()


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "variables", "kind"),
    [
        (Tty, {"TERM": "xterm-256color"}, Terminal),
        (Tty, {"TERM": "xterm", "NO_COLOR": "1"}, Terminal),
        (Tty, {"TERM": "dumb"}, Plain),
        (Tty, {}, Plain),
        (io.StringIO, {"TERM": "xterm"}, Plain),
        (io.StringIO, {"GITHUB_ACTIONS": "true"}, GitHub),
        (Tty, {"GITHUB_ACTIONS": "true", "TERM": "xterm"}, GitHub),
    ],
)
def test_the_view_in_front_fits_the_output(
    stream: Callable[[], io.StringIO], variables: Mapping[str, str], kind: type
) -> None:
    assert type(front(stream(), root=ROOT, variables=variables)) is kind


def test_no_color_leaves_the_tree_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    window = Window()
    window.show(*broken("production").events)
    codes = {code for style in window.screen.styles for code in style.split(";")}
    assert not {code for code in codes if len(code) == 2}


def test_rich_is_not_loaded_for_a_pipe() -> None:
    """A run with nothing to do has no time for it."""
    program = (
        "import io, sys; from pathlib import Path; from scripts.views.audience import audience;"
        "audience(Path('.'), out=io.StringIO(), err=io.StringIO(), variables={}, ledger_url='http://x');"
        "print(sorted({'rich', 'sqlalchemy', 'http.client', 'ssl', 'jsonschema'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_stream_without_a_size_counts_as_an_old_terminal() -> None:
    assert size_of(io.StringIO()) == (80, 24)


def test_a_real_terminal_shows_the_run() -> None:
    """A program of its own behind a pseudo terminal, read to its end."""
    program = (
        "import os, sys; from pathlib import Path; from scripts.views.audience import front;"
        "from tests.views.story import broken, watch;"
        "watch(front(sys.stdout, root=Path('.'), variables=os.environ), broken('production').events)"
    )
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 72, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1"}
    for name in ("GITHUB_ACTIONS", "NO_COLOR", "COLUMNS", "LINES"):
        environment.pop(name, None)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        stdin=follower,
        stdout=follower,
        stderr=follower,
    ) as process:
        os.close(follower)
        text = read_all(leader)
        assert process.wait(10) == 0, text
    os.close(leader)
    screen = Screen(72)
    screen.feed(text)
    assert screen.text[0].startswith(" production  push")
    assert screen.text[-1] == "  failed in 6.5 s"
    assert sum(" test " in row and "6.4 s" in row for row in screen.text) == 1
    assert screen.cursor
    assert "\x1b[?1049h" not in text


def read_all(leader: int, within: float = 20.0) -> str:
    """Read a pseudo terminal until its program has ended."""
    read, deadline = b"", time.monotonic() + within
    while True:
        assert select.select([leader], [], [], max(deadline - time.monotonic(), 0))[0], read
        try:
            piece = os.read(leader, 65536)
        except OSError:  # Linux tells the end of a pseudo terminal so
            piece = b""
        if not piece:
            return read.decode()
        read += piece


def test_watching_costs_little() -> None:
    """Ten thousand lines go through the tree without a repaint each: output does not slow a stage."""
    window = Window()
    story = Story("lint").start("lint", 0).say("lint", 1, *(f"line {number}" for number in range(10_000)))
    watch(window.view, story.events)
    assert window.stream.buffer.tell() < 20_000
