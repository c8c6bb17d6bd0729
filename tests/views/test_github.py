"""The run under GitHub Actions."""

import io
import re
from pathlib import Path

import pytest

from scripts.pipeline.errors import StageFailure
from scripts.pipeline.events import Heartbeat, Notice
from scripts.views.findings import Finding, findings
from scripts.views.github import MOST_ANNOTATIONS, SUMMARY_BYTES, GitHub, command, harmless

from .story import DIGEST, Story, broken, moment, shipped, watch


@pytest.fixture
def root(tmp_path: Path) -> Path:
    file = tmp_path / "tree/tests/app/test_api.py"
    file.parent.mkdir(parents=True)
    file.write_text("pass\n")
    return tmp_path / "tree"


class Seen:
    def __init__(self, story: Story, root: Path) -> None:
        stream = io.StringIO()
        files = {name: root.parent / name for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
        view = GitHub(stream, root=root, variables={name: str(path) for name, path in files.items()})
        watch(view, story.events)
        self.text = stream.getvalue()
        self.lines = self.text.splitlines()
        self.summary, self.outputs = (
            path.read_text(encoding="utf-8") if path.exists() else "" for path in files.values()
        )

    def commands(self) -> list[str]:
        """Return the lines that GitHub acts upon: what stands between stop-commands and its token is text."""
        found, token = [], ""
        for line in self.lines:
            if token:
                token = "" if line == f"::{token}::" else token
            elif line.startswith("::stop-commands::"):
                token = line.removeprefix("::stop-commands::")
            elif line.lstrip().startswith("::") or "##[" in line:
                found.append(line)
        return found


def test_a_stage_that_passed_is_folded_with_its_output(root: Path) -> None:
    seen = Seen(broken(), root)
    start, end = (
        seen.lines.index("::group::✓ lint passed after 3.0 s: never run here"),
        seen.lines.index("::endgroup::"),
    )
    assert "All checks passed!" in seen.lines[start:end]


def test_the_failing_stage_is_left_open(root: Path) -> None:
    seen = Seen(broken(), root)
    outside, inside = [], False
    for line in seen.lines:
        inside = inside or line.startswith("::group::")
        if not inside:
            outside.append(line)
        inside = inside and line != "::endgroup::"
    assert "✗ test failed after 6.4 s: 1 of 8 tests failed" in outside
    assert "tests/app/test_api.py ..F." in outside


def test_a_finding_becomes_an_annotation_at_its_place(root: Path) -> None:
    expected = (
        "::error title=test,file=tests/app/test_api.py,line=41::"
        "AssertionError: the second delivery counts as a duplicate"
    )
    assert expected in Seen(broken(), root).commands()


def test_a_failure_with_no_place_is_annotated_all_the_same(root: Path) -> None:
    failure = StageFailure("100% of it, all: broken\nreally")
    story = Story("lint").start("lint", 0).finish("lint", 1, "failure", failure=failure).end(1, "failure", 1)
    assert "::error title=lint::100%25 of it, all: broken%0Areally" in Seen(story, root).commands()


def test_where_alone_gives_the_annotation_its_place(root: Path) -> None:
    failure = StageFailure("a test failed", "tests/app/test_api.py:7 test_it")
    story = Story("test").start("test", 0).finish("test", 1, "failure", failure=failure).end(1, "failure", 1)
    assert "::error title=test,file=tests/app/test_api.py,line=7::test_it" in Seen(story, root).commands()


def test_a_step_has_ten_annotations_at_most(root: Path) -> None:
    story = Story("lint", "test")
    for stage in ("lint", "test"):
        lines = [f"tests/app/test_api.py:{number}:2: wrong {number}" for number in range(1, 9)]
        story.start(stage, 0).say(stage, 1, *lines)
        story.finish(stage, 2, "failure", failure=StageFailure(f"{stage} is not content"))
    seen = Seen(story.end(2, "failure", 1), root)
    assert sum(line.startswith("::error") for line in seen.commands()) == MOST_ANNOTATIONS
    assert "[6 more findings without an annotation: a step shows 10]" in seen.lines


def test_what_a_stage_prints_is_never_a_command(root: Path) -> None:
    attack = [
        "::set-output name=digest::evil",
        "  ::add-path::/tmp",
        "##[error]x",
        "::endgroup::",
        "::stop-commands::x",
    ]
    story = Story("lint", "test", reasons={"lint": "::warning::r", "test": "##[group]t"})
    story.start("lint", 0).start("test", 0).say("lint", 1, *attack).say("test", 1, *attack)
    story.progress("test", 1, "##[command]p").add(Heartbeat(at=moment(40), running=()))
    story.add(Notice(at=moment(40), text="50 % ::error::n\nx"))
    story.finish("lint", 41)
    failure = StageFailure("::error::what", "::error::where", "::error::next", attack)
    seen = Seen(story.finish("test", 41, "failure", failure=failure).end(41, "failure", 1), root)
    assert [line.split("::")[1].split()[0] for line in seen.commands()] == [
        "notice",
        "group",
        "endgroup",
        "error",
    ]
    assert "::notice::50 %25 ::error::n%0Ax" in seen.commands()


def test_the_token_is_another_one_each_time(root: Path) -> None:
    tokens = re.findall("^::stop-commands::([0-9a-f]{32})$", Seen(broken(), root).text, re.MULTILINE)
    assert len(tokens) > 1
    assert len(set(tokens)) == len(tokens)


def test_the_outputs_are_the_digest_and_the_address(root: Path) -> None:
    outputs = Seen(shipped(), root).outputs
    read = dict(re.findall(r"^(\w+)<<(?:end-\w+)\n(.*?)\nend-\w+$", outputs, re.MULTILINE))
    assert read["digest"] == DIGEST
    assert read["url"] == "http://127.0.0.1:8080"
    assert read["result"] == "success"


def test_the_summary_is_a_table_of_the_stages(root: Path) -> None:
    summary = Seen(shipped("staging"), root).summary
    assert summary.startswith("### ✓ ship → staging: success in 30 s\n")
    figures = "412 tests, 0 failed, 96.1 % coverage"
    assert f"| ✓ | test | 22 s | app/web/api.py changed since run 01JPB3W8 | {figures} |" in summary
    assert f"Release `{DIGEST}`, 24.8 MB compressed." in summary


def test_the_failure_comes_first_in_the_summary(root: Path) -> None:
    summary = Seen(broken(), root).summary
    assert summary.index("**test**: 1 of 8 tests failed") < summary.index("| stage |")
    assert "Next: invoke test --only" in summary


def test_output_cannot_break_out_of_the_summary(root: Path) -> None:
    failure = StageFailure("a | b <img src=x> `c`", details=["````", "<script>alert(1)</script>"])
    story = Story("lint").start("lint", 0).finish("lint", 1, "failure", failure=failure).end(1, "failure", 1)
    summary = Seen(story, root).summary
    assert "`````text\n````\n<script>alert(1)</script>\n`````\n" in summary
    assert "a \\| b \\<img src=x\\> \\`c\\`" in summary


@pytest.mark.parametrize(("stages", "lines"), [(60, 60), (1_200, 0)])
def test_the_summary_stays_below_one_mebibyte(root: Path, stages: int, lines: int) -> None:
    story = Story(*(f"stage{number}" for number in range(stages)), reasons={"stage1": "x" * 600})
    for number in range(stages):
        failure = StageFailure("ü" * 900, details=["y" * 600] * lines)
        story.start(f"stage{number}", 0).finish(f"stage{number}", 1, "failure", failure=failure)
    summary = Seen(story.end(2, "failure", 1), root).summary
    assert 0 < len(summary.encode()) < SUMMARY_BYTES


def test_a_summary_that_cannot_be_written_is_a_warning(root: Path) -> None:
    stream = io.StringIO()
    view = GitHub(stream, root=root, variables={"GITHUB_STEP_SUMMARY": str(root)})
    watch(view, shipped().events)
    view.note("ledger: 1 run waits")
    assert re.search(r"^::warning::.*could not be written: Is a directory$", stream.getvalue(), re.MULTILINE)
    assert stream.getvalue().endswith("[ledger: 1 run waits]\n")


def test_stages_that_never_ended_are_printed_too(root: Path) -> None:
    story = Story("lint").start("lint", 0).say("lint", 1, "half a word")
    assert "half a word" in Seen(story, root).lines


def test_quiet_for_twenty_seconds_brings_a_sign_of_life(root: Path) -> None:
    story = Story("test").start("test", 0).say("test", 1, "hidden until the end")
    story.add(Heartbeat(at=moment(25), running=())).finish("test", 30).end(30)
    assert "[still running: test 25 s]" in Seen(story, root).lines


def test_properties_are_escaped_more_strictly_than_messages() -> None:
    written = command("error", "a:b,c%", title="x:y,z%\r\n", line=None)
    assert written == "::error title=x%3Ay%2Cz%25%0D%0A::a:b,c%25"


@pytest.mark.parametrize("text", ["::error::x", "  ::error::x", "a ##[error]x"])
def test_a_line_of_ours_holds_no_command(text: str) -> None:
    assert not harmless(text).lstrip().startswith("::")
    assert "##[" not in harmless(text)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("tests/app/test_api.py:3:5: E501 too long", (3, 5, "E501 too long")),
        ("tests/app/test_api.py:9: error: no type", (9, None, "error: no type")),
        ("  --> tests/app/test_api.py:3:5", (3, 5, "--> tests/app/test_api.py:3:5")),
        ("{root}/tests/app/test_api.py:3:5: note: x [SC2086]", (3, 5, "note: x [SC2086]")),
        ("In tests/app/test_api.py line 6:", (6, None, "In tests/app/test_api.py line 6:")),
        ("FAILED tests/app/test_api.py:12 - assert", (12, None, "assert")),
    ],
)
def test_places_are_read_as_the_tools_write_them(
    root: Path, line: str, place: tuple[int, int | None, str]
) -> None:
    at, column, message = place
    found = findings([line.format(root=root)] * 2, root)
    assert found == [Finding(file="tests/app/test_api.py", line=at, column=column, message=message)]


@pytest.mark.parametrize(
    "line",
    ["tests/app/other.py:1: x", "../tree/tests/app/test_api.py:1: x", "/etc/passwd:1: x", "at 12:30: x", ""],
)
def test_only_files_of_the_tree_are_places(root: Path, line: str) -> None:
    assert findings([line], root) == []
