"""A release is judged by what is known, by what is accepted for now, and by what could not be looked at."""

import datetime as dt
from pathlib import Path

import pytest

from scripts.image import vulnerabilities
from scripts.image.advisories import Finding
from scripts.image.sbom import Package
from scripts.pipeline.errors import UsageError

TODAY = dt.date(2026, 11, 23)


def finding(severity: str = "high", *, number: str = "CVE-1", aliases: tuple[str, ...] = ()) -> Finding:
    return Finding(
        id=number, package="made-up", version="1", kind="python", severity=severity, aliases=aliases
    )


@pytest.mark.parametrize(
    ("installed", "offered", "outdated"),
    [
        ("1.0-1", "1.0-1+deb13u1", True),
        ("1.0-1+deb13u1", "1.0-1+deb13u1", False),
        ("1.0-1+deb13u2", "1.0-1+deb13u1", False),
        ("1:0.9-1", "1.0-1", False),
        ("2.0~rc1-1", "2.0-1", True),
        ("1.10-1", "1.9-1", False),
    ],
)
def test_a_debian_package_is_outdated_by_debians_order_of_versions(
    installed: str, offered: str, outdated: bool
) -> None:
    packages = [Package(kind="deb", name="libmade1", version=installed)]
    assert bool(vulnerabilities.outdated(packages, {"libmade1": offered})) is outdated


def test_a_python_package_of_a_debian_packages_name_is_not_compared() -> None:
    packages = [Package(kind="python", name="libmade1", version="0")]
    assert vulnerabilities.outdated(packages, {"libmade1": "1"}) == []


@pytest.mark.parametrize(
    ("severity", "level", "result"),
    [
        ("critical", "high", "failed"),
        ("high", "high", "failed"),
        ("medium", "high", "passed"),
        ("low", "low", "failed"),
        ("", "high", "failed"),
        ("", "critical", "passed"),
        ("critical", "none", "passed"),
    ],
)
def test_a_finding_stops_a_release_from_its_level_on(severity: str, level: str, result: str) -> None:
    verdict = vulnerabilities.judge([finding(severity)], fail_level=level, environment="development")
    assert verdict.result == result


@pytest.mark.parametrize(
    ("environment", "result"),
    [("development", "warning"), ("testing", "warning"), ("staging", "failed"), ("production", "failed")],
)
def test_what_could_not_be_checked_is_a_warning_on_a_laptop_and_stops_elsewhere(
    environment: str, result: str
) -> None:
    verdict = vulnerabilities.judge([], fail_level="high", environment=environment, unchecked=["no data"])
    assert (verdict.result, verdict.reasons) == (result, ("no data",))


def test_an_accepted_finding_does_not_stop_a_release_until_its_last_day_is_over(tmp_path: Path) -> None:
    path = tmp_path / "vulnerabilities.ini"
    path.write_text("[CVE-1]\npackage = made-up\nreason = not reachable\nuntil = 2026-11-23\n")
    allowed = vulnerabilities.exceptions(path)
    for day, result in ((TODAY, "passed"), (TODAY + dt.timedelta(days=1), "failed")):
        marked = vulnerabilities.accept([finding(number="PYSEC-9", aliases=("CVE-1",))], allowed, day)
        verdict = vulnerabilities.judge(marked, fail_level="high", environment="production")
        assert verdict.result == result


def test_an_exception_is_for_one_package_alone(tmp_path: Path) -> None:
    path = tmp_path / "vulnerabilities.ini"
    path.write_text("[CVE-1]\npackage = another\nreason = no\nuntil = 2099-01-01\n")
    assert vulnerabilities.accept([finding()], vulnerabilities.exceptions(path), TODAY)[0].accepted == ""


@pytest.mark.parametrize(
    "text",
    [
        "[CVE-1]\npackage = made-up\nuntil = 2026-12-31\n",
        "[CVE-1]\npackage = made-up\nreason = yes\n",
        "[CVE-1]\nreason = yes\nuntil = 2026-12-31\n",
        "[CVE-1]\npackage = made-up\nreason = yes\nuntil = some day\n",
        "no section\n",
    ],
)
def test_an_incomplete_exception_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vulnerabilities.ini"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"vulnerabilities\.ini"):
        vulnerabilities.exceptions(path)


def test_nothing_is_accepted_without_a_file_and_in_the_projects_own(tmp_path: Path) -> None:
    assert vulnerabilities.exceptions(tmp_path / "none.ini") == []
    assert vulnerabilities.exceptions(Path(__file__).parents[2] / vulnerabilities.EXCEPTIONS) == []


def test_a_line_about_a_finding_says_rating_and_fix() -> None:
    line = vulnerabilities.describe(
        Finding(
            id="CVE-1", package="a", version="1", kind="python", score=9.8, severity="critical", fixed="2"
        )
    )
    assert line == "a 1: CVE-1 (critical 9.8); fixed in 2"
    assert "unrated, counts as high" in vulnerabilities.describe(finding(""))
