"""The order of a population's steps, and how it tells how far it is."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.database.errors import UsageError
from scripts.database.populate.progress import Progress, describe, duration
from scripts.database.populate.steps import Step, choose


def step(name: str, *needs: str) -> Step:
    return Step(
        name=name, summary="", needs=needs, records=lambda: iter(()), event=lambda _: {}, total=lambda: None
    )


STEPS = (step("c", "b"), step("b", "a"), step("a"), step("d"))


def names(steps: tuple[Step, ...]) -> list[str]:
    return [one.name for one in steps]


def test_steps_run_after_what_they_need() -> None:
    assert names(choose(STEPS)) == ["a", "b", "c", "d"]
    assert names(choose(STEPS, select=["b"])) == ["a", "b"]
    assert names(choose(STEPS, skip=["c", "d"])) == ["a", "b"]


def test_a_needed_step_is_not_skipped_silently() -> None:
    with pytest.raises(UsageError, match="'b' needs 'a'"):
        choose(STEPS, skip=["a"])
    with pytest.raises(UsageError, match="no step 'z'"):
        choose(STEPS, select=["z"])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_with_rate_and_remaining_time_every_five_seconds() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(stream, "events", 1000, clock)
    for second in range(11):
        clock.now = float(second)
        progress.at(second * 10, second * 10)
    progress.close()
    assert stream.getvalue().splitlines() == [
        "events: 50 records, 10 a second, 5 %, 1 min 35 s left",
        "events: 100 records, 10 a second, 10 %, 1 min 30 s left",
    ]


def test_a_terminal_gets_one_line_that_is_cleared_at_the_end() -> None:
    clock, stream = Clock(), Terminal()
    progress = Progress(stream, "events", None, clock)
    clock.now = 1.0
    progress.at(10, 10)
    progress.close()
    assert stream.getvalue() == "\r\x1b[Kevents: 10 records, 10 a second\r\x1b[K"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3600, "1 h 0 min"), (8000, "2 h 13 min")],
)
def test_a_duration_is_said_as_a_person_does(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@given(st.integers(0, 10**9), st.floats(0, 10**6), st.integers(0, 10**9), st.none() | st.integers(0, 10**9))
def test_progress_can_always_be_described(records: int, seconds: float, done: int, left: int | None) -> None:
    assert describe("x", records, seconds, done, left).startswith(f"x: {records:,} records")
