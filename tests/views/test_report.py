"""The record and the page that a run leaves behind."""

import html.parser
import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from scripts.pipeline.errors import StageFailure, UsageError
from scripts.views.page import page
from scripts.views.report import Report, last_page, last_record, show
from scripts.views.timeline import step_of, timeline

from .story import RUN, Story, broken, shipped, watch

SCHEMA = Path(__file__).parent.parent.parent / "docs/run.schema.json"


def written(story: Story, runs: Path) -> Path:
    warnings: list[str] = []
    watch(Report(runs, warn=warnings.append), story.events)
    assert warnings == []
    assert [path.name for path in (runs / RUN).iterdir()] == ["report.html"]
    return runs / RUN


def cancelled() -> Story:
    story = Story("lint", "deploy").start("lint", 0).finish("lint", 1, "cancelled", reason="Ctrl-C")
    return story.finish("deploy", 1, "cancelled", reason="Ctrl-C").end(1, "cancelled", 130)


def bug() -> Story:
    story = Story("lint").start("lint", 0).say("lint", 0.5, "Traceback", "ZeroDivisionError")
    return story.finish("lint", 1, "error").end(1, "error", 1)


@pytest.mark.parametrize(
    "story", [shipped(), broken(), cancelled(), bug(), Story("lint").end(0, "cancelled", 130)]
)
def test_run_json_is_what_its_schema_says(story: Story) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    record = json.loads(json.dumps(story.record))
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(record)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run", "x"),
        ("result", "done"),
        ("started", "2026-03-14"),
        ("seconds", -1),
        ("commit", "main"),
        ("stages", {}),
    ],
)
def test_the_schema_refuses_what_a_program_would_trip_over(key: str, value: object) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    validator = Draft202012Validator(schema)
    assert validator.is_valid(shipped().record)
    assert not validator.is_valid({**shipped().record, key: value})
    assert not validator.is_valid({name: each for name, each in shipped().record.items() if name != key})


def test_the_last_page_is_that_of_the_last_run_that_ended(tmp_path: Path) -> None:
    for run in ("01JPB3X4ZQ8N6M2V7T5R9K1WBB", "01JPB3X4ZQ8N6M2V7T5R9K1WAA"):
        watch(Report(tmp_path, warn=pytest.fail), Story("lint", run=run).end(1).events)
        (tmp_path / run / "run.json").write_text(f"{run}\n")
    (tmp_path / "01JPB3X4ZQ8N6M2V7T5R9K1WCC").mkdir()  # a run that goes on
    (tmp_path / "latest").symlink_to("01JPB3X4ZQ8N6M2V7T5R9K1WAA")
    assert last_page(tmp_path) == tmp_path / "01JPB3X4ZQ8N6M2V7T5R9K1WBB/report.html"
    assert last_record(tmp_path) == "01JPB3X4ZQ8N6M2V7T5R9K1WBB\n"


def test_no_report_yet_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        last_page(tmp_path)
    assert caught.value.exit_code == 2
    assert "invoke lint" in caught.value.next_step


def test_a_disk_that_refuses_fails_no_run(tmp_path: Path) -> None:
    (tmp_path / RUN).write_text("a file where the folder should be")
    warnings: list[str] = []
    watch(Report(tmp_path, warn=warnings.append), shipped().events)
    assert len(warnings) == 1
    assert "this run has no report" in warnings[0]


def test_the_page_is_opened_only_for_somebody_before_a_screen(tmp_path: Path) -> None:
    assert not show(tmp_path, {}, interactive=True)
    assert not show(tmp_path, {"DISPLAY": ":0"}, interactive=False)


class Outline(html.parser.HTMLParser):
    """What a page is made of, and that every element that opens closes in order."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(story: Story, tmp_path: Path) -> Outline:
    return Outline((written(story, tmp_path) / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("story", [shipped(), broken(), cancelled(), bug(), Story().end(1)])
def test_the_page_needs_nothing_from_outside(story: Story, tmp_path: Path) -> None:
    seen = outline(story, tmp_path)
    style = (tmp_path / RUN / "report.html").read_text(encoding="utf-8")
    assert not {tag for tag, _ in seen.seen} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "use",
    }
    assert not {name for _, attributes in seen.seen for name in attributes} & {
        "src",
        "srcset",
        "style",
        "onclick",
    }
    assert not re.search(r"@import|url\(", style)
    links = [attributes["href"] for tag, attributes in seen.seen if "href" in attributes]
    assert links == (["http://127.0.0.1:8080"] if story.record.get("deployment") else [])


def test_the_page_tells_the_run(tmp_path: Path) -> None:
    text = outline(shipped(), tmp_path).text
    for expected in (
        "development",
        "ship succeeded",
        "with changes",
        "412 tests",
        "96.1 % coverage",
        "24.8 MB",
        "sha256:9c1f4e7ab2d8",
        "build made another image",
        "6 stages ran, 0 skipped",
    ):
        assert expected in text


def test_the_page_shows_the_first_failing_lines_and_what_to_do(tmp_path: Path) -> None:
    text = outline(broken(), tmp_path).text
    for expected in ("1 of 8 tests failed", "> assert answer.json", "invoke test --only", "test.log"):
        assert expected in " ".join(text.split())


def test_a_stage_that_broke_shows_the_last_lines_that_it_printed(tmp_path: Path) -> None:
    assert "Traceback\nZeroDivisionError" in outline(bug(), tmp_path).text


def test_nothing_that_a_stage_says_becomes_markup(tmp_path: Path) -> None:
    attack = "</pre></title></style><script>alert(1)</script>\" onload='x' &amp; \x1b[31m\x00"
    failure = StageFailure(attack, attack, attack, [attack])
    story = Story("lint", command=attack, environment=attack, reasons={"lint": attack})
    story.start("lint", 0).finish("lint", 1, "failure", failure=failure, figures={attack: 1.0})
    outputs = {"result": attack, "url": 'javascript:alert("1")', "previous": attack}
    story.finish("deploy", 1, outputs=outputs)
    seen = outline(story.end(1, attack, 1), tmp_path)
    assert "script" not in {tag for tag, _ in seen.seen}
    assert "onload" not in {name for _, attributes in seen.seen for name in attributes}
    assert not [attributes for _, attributes in seen.seen if "href" in attributes]
    assert "\x1b" not in (tmp_path / RUN / "report.html").read_text(encoding="utf-8")


def test_the_picture_has_one_bar_for_each_stage_that_ran() -> None:
    drawn = Outline(timeline(broken().record))
    bars = [attributes for _, attributes in drawn.seen if attributes.get("class") == "bar"]
    assert len(bars) == 2
    assert "build" in drawn.text
    assert "proven 14:02 in run 01JPB2AA" in drawn.text


@pytest.mark.parametrize("story", [shipped(), broken(), cancelled(), bug()])
def test_no_bar_leaves_the_picture(story: Story) -> None:
    for _, attributes in Outline(timeline(story.record)).seen:
        if attributes.get("class") == "bar":
            left, width = (float(str(attributes[name]).rstrip("%")) for name in ("x", "width"))
            assert left >= 0
            assert width > 0
            assert left + width <= 100.01


def test_bars_stand_where_the_stage_ran() -> None:
    drawn = Outline(timeline(shipped().record)).seen
    bars = [attributes for _, attributes in drawn if attributes.get("class") == "bar"]
    deploy = bars[-1]
    assert float(str(deploy["x"]).rstrip("%")) == pytest.approx(100 * 22.45 / 30.2, abs=0.1)
    assert float(str(deploy["width"]).rstrip("%")) == pytest.approx(100 * 7.65 / 30.2, abs=0.1)


@pytest.mark.parametrize("total", [0.3, 1, 7, 29, 61, 600, 4_000, 50_000])
def test_the_clock_has_few_and_round_marks(total: float) -> None:
    assert 2 <= total / step_of(total) <= 6 or total < 0.3


def test_a_clock_of_minutes_is_told_in_minutes() -> None:
    story = Story("test").start("test", 0).finish("test", 200).end(200)
    assert "1 min" in Outline(timeline(story.record)).text
    assert "2 min" in Outline(timeline(story.record)).text


def test_a_record_of_an_older_run_makes_a_page_without_its_events() -> None:
    Outline(page(json.loads(json.dumps(broken().record)), {}))
    Outline(page({}, {}))
