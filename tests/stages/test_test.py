"""test believes the files that pytest writes, and shows the failing tests first."""

from pathlib import Path
from typing import Any

import pytest

from scripts.pipeline import events
from scripts.pipeline.errors import StageFailure
from scripts.pipeline.stage import StageContext
from scripts.stages import test as stage
from tests.pipeline.ground import make_tree, write

SETTINGS = """[tool:pytest]
markers =
    system: slow
[coverage:run]
branch = true
source = app
"""
APP = "def sign(number: int) -> str:\n    if number < 0:\n        return 'minus'\n    return 'plus'\n"
GOOD = "from app.sign import sign\n\n\ndef test_plus() -> None:\n    assert sign(1) == 'plus'\n"
BAD = "def test_bad() -> None:\n    print('said before')\n    assert 1 == 2, 'one is not two'\n"
SLOW = "import pytest\n\n\n@pytest.mark.system\ndef test_slow() -> None:\n    raise AssertionError('ran')\n"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # What the outer pytest told its own children must not reach this one.
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "COV_CORE_SOURCE", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    files = {"setup.cfg": SETTINGS, "app/__init__.py": "", "app/sign.py": APP, "test_good.py": GOOD}
    return make_tree(tmp_path / "tree", {".gitignore": ".slipway/\n__pycache__/\n", **files})


def ran(tree: Path, selection: str = stage.FAST, workers: int = 1) -> tuple[Any, list[str]]:
    told: list[events.Event] = []
    directory = tree / ".slipway" / "runs" / "R"
    directory.mkdir(parents=True, exist_ok=True)
    context = StageContext(stage="test", root=tree, directory=directory, workers=workers, emit=told.append)
    try:
        outcome = stage.suite(context, selection)
    finally:
        context.close()
    return outcome, [event.line for event in told if isinstance(event, events.StageOutput)]


def test_the_figures_come_from_the_files(tree: Path) -> None:
    """Three of four lines and one of two branches: 4 of 6."""
    outcome, lines = ran(tree)
    assert outcome.figures == {"tests": 1.0, "failed": 0.0, "skipped": 0.0, "coverage": 66.67}
    for name in ("junit", "coverage"):
        assert (tree / outcome.outputs[name]).is_file()
    assert any("1 passed" in line for line in lines)
    assert not list((tree / ".slipway" / "runs" / "R").glob("coverage.data*"))
    assert not (tree / ".coverage").exists()


@pytest.mark.system
def test_workers_share_the_tests(tree: Path) -> None:
    write(tree, {f"test_{number}.py": GOOD for number in range(4)})
    outcome, _ = ran(tree, workers=2)
    assert outcome.figures["tests"] == 5
    assert outcome.figures["coverage"] == 66.67


def test_failing_tests_come_first_with_what_they_said(tree: Path) -> None:
    write(tree, {"test_bad.py": BAD})
    with pytest.raises(StageFailure) as failed:
        ran(tree)
    assert failed.value.what == "1 of 2 tests failed"
    assert failed.value.details[0] == "FAILED test_bad.py::test_bad: AssertionError: one is not two"
    assert any("assert 1 == 2" in line for line in failed.value.details)
    assert failed.value.next_step == "pytest test_bad.py::test_bad"
    assert failed.value.figures["failed"] == 1


@pytest.mark.system
def test_system_tests_are_left_to_all(tree: Path) -> None:
    write(tree, {"test_slow.py": SLOW})
    outcome, _ = ran(tree)
    assert outcome.figures["tests"] == 1
    with pytest.raises(StageFailure, match="1 of 2 tests failed"):
        ran(tree, selection="")


@pytest.mark.system
def test_no_test_at_all_is_a_failure(tree: Path) -> None:
    (tree / "test_good.py").unlink()
    with pytest.raises(StageFailure, match="no test was found"):
        ran(tree)


@pytest.mark.system
def test_a_test_file_that_cannot_be_loaded_is_a_failure(tree: Path) -> None:
    write(tree, {"test_broken.py": "import no_such_module\n"})
    with pytest.raises(StageFailure) as failed:
        ran(tree)
    assert any("no_such_module" in line for line in failed.value.details)


def test_a_pytest_that_does_not_begin_is_said_with_its_last_words(tree: Path) -> None:
    write(tree, {"setup.cfg": SETTINGS.replace("markers", "addopts = --no-such-flag\nmarkers")})
    with pytest.raises(StageFailure) as failed:
        ran(tree)
    assert failed.value.what == "pytest exited with 4 and wrote no report"
    assert any("--no-such-flag" in line for line in failed.value.details)


@pytest.mark.system
def test_a_report_of_an_earlier_try_is_not_believed(tree: Path) -> None:
    ran(tree)
    write(tree, {"conftest.py": "import os\nos._exit(9)\n"})
    with pytest.raises(StageFailure, match="wrote no report"):
        ran(tree)


@pytest.mark.system
def test_a_failure_outside_any_test_is_still_a_failure(tree: Path) -> None:
    end = "import pytest\n\n\ndef pytest_sessionfinish(session):\n    session.exitstatus = 3\n"
    write(tree, {"conftest.py": end})
    with pytest.raises(StageFailure, match="although no test failed"):
        ran(tree)


def test_many_failures_are_counted_and_the_first_shown() -> None:
    failures = tuple(
        stage.Failure(test=f"t.py::t{number}", message="m", lines=("x",) * 100) for number in range(30)
    )
    lines = stage.details(stage.Report(tests=30, skipped=0, failures=failures))
    assert lines[stage.SHOWN_FAILURES] == "... and 10 more"
    assert len(lines) == stage.SHOWN_FAILURES + 1 + stage.SHOWN_FAILURES * (2 + stage.SHOWN_LINES)


@pytest.mark.parametrize("content", ["", "<coverage/>", '<coverage lines-valid="x"/>'])
def test_a_coverage_file_that_says_nothing_gives_no_figure(tmp_path: Path, content: str) -> None:
    (tmp_path / "coverage.xml").write_text(content)
    assert stage.read_coverage(tmp_path / "coverage.xml") is None


def test_the_whole_suite_is_another_parameter() -> None:
    fast, everything = stage.stage(), stage.stage(everything=True)
    assert fast.parameters != everything.parameters
    assert fast.inputs is None
    assert everything.timeout > fast.timeout
