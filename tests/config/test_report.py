"""A report is readable by people and by programs."""

import copy
import json
import pickle
import re

from hypothesis import given
from hypothesis import strategies as st

from config.errors import ConfigurationError, Level, Problem
from config.report import as_json, as_text, summary, table
from tests.config.world import World


def test_a_report_lists_everything_as_a_table(staging: World) -> None:
    staging.environ |= {"DB_PORT": "x", "DEBUG": "true"}
    first, *rows = as_text(staging.check(), 200).splitlines()
    assert first == "staging: 1 error, 1 warning"
    assert [re.split("  +", row) for row in rows] == [
        ["LEVEL", "VARIABLE", "SOURCE", "RULE", "FIX"],
        [
            "error",
            "DB_PORT",
            "process environment",
            "it is a whole number from 1 to 65535 [value]",
            "Write a whole number from 1 to 65535",
        ],
        ["warning", "DEBUG", "process environment", "debug mode is off [debug]", "Set DEBUG=false"],
    ]
    assert (
        len({row.index(cell) for row, cell in zip(rows, ("RULE", "it is", "debug mode"), strict=True)}) == 1
    )


def test_a_report_without_problems_is_one_line(staging: World) -> None:
    assert as_text(staging.check()) == "staging: 66 settings, no problem"


def test_a_file_that_is_meant_as_a_whole_has_a_dash_for_its_variable(world: World) -> None:
    world.yours("broken\n")
    assert as_text(world.check("development"), 160).splitlines()[2].split()[:3] == ["error", "-", ".env:1"]


def test_an_unknown_environment_has_a_summary_too(world: World) -> None:
    assert summary(world.check("nowhere")) == "no environment: 1 error, 0 warnings"


def test_the_json_has_every_problem(staging: World) -> None:
    staging.yours("broken\n").environ |= {"DB_PORT": "x", "DEBUG": "true"}
    document = json.loads(as_json(staging.check()))
    assert (document["environment"], document["ok"], document["errors"], document["warnings"]) == (
        "staging",
        False,
        2,
        1,
    )
    assert document["problems"][1] == {
        "id": "value",
        "level": "error",
        "variable": "DB_PORT",
        "source": "process environment",
        "rule": "it is a whole number from 1 to 65535",
        "fix": "Write a whole number from 1 to 65535",
    }
    assert document["problems"][0]["variable"] is None


def test_the_json_of_what_starts_and_of_what_does_not_exist(staging: World) -> None:
    text = as_json(staging.check())
    assert json.loads(text)["ok"] is True
    assert text == json.dumps(json.loads(text), indent=2), "it can be read by people too"
    assert json.loads(as_json(staging.check("nowhere")))["environment"] is None


@given(
    st.lists(st.tuples(*[st.text("abc -", max_size=90)] * 5), min_size=1, max_size=4),
    st.integers(min_value=40, max_value=200),
)
def test_a_table_is_as_wide_as_it_may_be_and_loses_no_word(rows: list[tuple[str, ...]], width: int) -> None:
    lines = table(("A", "B", "C", "D", "E"), rows, width)
    assert max(map(len, lines)) <= width
    assert (
        "".join(sorted("".join(lines))).strip()
        == "".join(sorted("ABCDE" + "".join("".join(r) for r in rows))).strip()
    )


def test_a_table_without_rows_has_no_heading() -> None:
    assert table(("A", "B"), [], 80) == []


def test_long_cells_are_wrapped_in_the_widest_column() -> None:
    assert table(("A", "B"), [("x", "one two three")], 12) == ["A  B", "x  one two", "   three"]


PROBLEM = Problem(id="value", variable="DB_PORT", source=".env:3", rule="it is a number", fix="Write one")


def test_a_problem_as_one_line() -> None:
    assert str(PROBLEM) == "error [value] DB_PORT (.env:3): it is a number. Write one."
    file = Problem(id="x", variable="", source=".env", rule="r", fix="F", level=Level.WARNING)
    assert str(file) == "warning [x] .env: r. F."


def test_the_exception_says_everything_and_what_to_do_next() -> None:
    error = ConfigurationError("staging", [PROBLEM, PROBLEM])
    assert str(error).splitlines() == [
        "The configuration of staging has 2 errors; nothing was started.",
        "  error [value] DB_PORT (.env:3): it is a number. Write one.",
        "  error [value] DB_PORT (.env:3): it is a number. Write one.",
        "Correct them, then run `invoke config.check --env=staging`.",
    ]
    assert error.exit_code == 2
    assert error.args == ("staging", (PROBLEM, PROBLEM))
    assert str(pickle.loads(pickle.dumps(error))) == str(copy.copy(error)) == str(error)
    unknown = str(ConfigurationError("", [PROBLEM]))
    assert unknown.startswith("The configuration has 1 error;")
    assert unknown.endswith("run `invoke config.check`.")
