"""test: pytest with xdist and branch coverage; the figures come from the files that it writes, not its
words.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from scripts.pipeline.errors import StageFailure
from scripts.pipeline.stage import Kind, Outcome, Stage, StageContext
from scripts.stages import installed

FAST = "not system"
SHOWN_FAILURES = 20
SHOWN_LINES = 25
"""Lines of one failing test that the failure shows, from its end, where the assertion is."""
NO_TESTS = 5


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failing test: its id, what it said in one line, and its traceback."""

    test: str
    message: str
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a JUnit file says."""

    tests: int
    skipped: int
    failures: tuple[Failure, ...]


def read_junit(path: Path) -> Report:
    """Read a JUnit file that our own pytest wrote; raises ParseError or OSError."""
    root = ET.parse(path).getroot()  # noqa: S314 written a moment ago by our own child
    cases = list(root.iter("testcase"))
    failures = []
    for case in cases:
        for found in (*case.iter("failure"), *case.iter("error")):
            message = (found.get("message") or "").partition("\n")[0]
            test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '')}"
            failures.append(Failure(test=test, message=message, lines=tuple((found.text or "").splitlines())))
    return Report(tests=len(cases), skipped=len(list(root.iter("skipped"))), failures=tuple(failures))


def read_coverage(path: Path) -> float | None:
    """Return the share of lines and branches that ran, in percent, from a coverage XML file, or None."""
    try:
        root = ET.parse(path).getroot()  # noqa: S314 written a moment ago by our own child
        covered = sum(int(root.get(name, "0")) for name in ("lines-covered", "branches-covered"))
        valid = sum(int(root.get(name, "0")) for name in ("lines-valid", "branches-valid"))
    except (OSError, ET.ParseError, ValueError):
        return None
    return round(100 * covered / valid, 2) if valid else None


def details(report: Report) -> list[str]:
    """Return the failing tests, all their names first, then what each said."""
    shown = report.failures[:SHOWN_FAILURES]
    lines = [f"FAILED {failure.test}: {failure.message}" for failure in shown]
    if len(report.failures) > len(shown):
        lines.append(f"... and {len(report.failures) - len(shown)} more")
    for failure in shown:
        lines += ["", f"{failure.test}:", *failure.lines[-SHOWN_LINES:]]
    return lines


def words(directory: Path, selection: str, workers: int) -> list[str]:
    """Return pytest's command line."""
    line = [sys.executable, "-m", "pytest", "-q", "--color=no", f"--junitxml={directory / 'junit.xml'}"]
    if selection:
        line += ["-m", selection]
    if workers > 1:
        # The tests of a file share its slow fixtures, so they stay on one worker.
        line += ["-n", str(workers), "--dist=loadfile"]
    return [*line, "--cov", "--cov-branch", f"--cov-report=xml:{directory / 'coverage.xml'}"]


def suite(context: StageContext, selection: str) -> Outcome:
    """Run the tests; raises StageFailure with the failing ones first."""
    junit = context.directory / "junit.xml"
    coverage_xml = context.directory / "coverage.xml"
    for earlier in (junit, coverage_xml):
        earlier.unlink(missing_ok=True)
    done = context.run(
        words(context.directory, selection, context.workers),
        env={"COVERAGE_FILE": str(context.directory / "coverage.data")},
        check=False,
    )
    for data in context.directory.glob("coverage.data*"):
        data.unlink()
    try:
        report = read_junit(junit)
    except (OSError, ET.ParseError) as error:
        raise StageFailure(
            f"pytest {done.ended} and wrote no report",
            where=str(junit),
            next_step=f"read {context.directory / 'test.log'}",
            details=done.output.splitlines()[-40:],
        ) from error
    figures = {
        "tests": float(report.tests),
        "failed": float(len(report.failures)),
        "skipped": float(report.skipped),
    }
    percent = read_coverage(coverage_xml)
    if percent is not None:
        figures["coverage"] = percent
    if done.exit_code != 0:
        what = f"{len(report.failures)} of {report.tests} tests failed"
        if done.exit_code == NO_TESTS:
            what = "no test was found"
        elif not report.failures:
            what = f"pytest {done.ended} although no test failed"
        raise StageFailure(
            what,
            where=", ".join(failure.test for failure in report.failures[:3]) or "pytest",
            next_step=f"pytest {report.failures[0].test}" if report.failures else "read test.log",
            details=details(report) or done.output.splitlines()[-40:],
            figures=figures,
        )
    base = context.root
    outputs = {"junit": str(junit.relative_to(base))}
    if percent is not None:
        outputs["coverage"] = str(coverage_xml.relative_to(base))
    return Outcome(outputs=outputs, figures=figures)


def stage(*, everything: bool = False) -> Stage:
    """Return the test stage; `everything` includes the tests that need an engine, a browser or more time."""
    selection = "" if everything else FAST
    return Stage(
        name="test",
        kind=Kind.CHECK,
        summary="pytest, the whole suite" if everything else "pytest, all but the system tests",
        action=lambda context: suite(context, selection),
        parameters={"selection": selection or "all"},
        tools=installed.packages,
        workers=os.cpu_count() or 1,
        timeout=4800.0 if everything else 900.0,
    )
