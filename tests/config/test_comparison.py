"""The comparison holds what this project says today; the other columns are of their pinned versions."""

from pathlib import Path

import pytest

from config.check import check
from config.sources import PROJECT, Sources
from tests.config.comparison import OURS, PINS, STARTS, Verdict, judge, ours, quoted
from tests.config.mistakes import MISTAKES, SENTINEL, Mistake, lay_out

PAGE = (PROJECT / "docs" / "configuration_comparison.md").read_text(encoding="utf-8")


def test_without_a_mistake_it_starts(tmp_path: Path) -> None:
    environ = lay_out(Mistake(title="none", about=""), tmp_path)
    report = check(None, Sources(environ=environ, root=tmp_path, secrets=(tmp_path / "secrets",)))
    assert (report.environment, report.problems) == ("production", ())


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)
def test_every_mistake_is_noticed_named_and_placed_without_the_secret(
    mistake: Mistake, tmp_path: Path
) -> None:
    verdict = ours(mistake, tmp_path)
    assert verdict.outcome != STARTS
    assert (verdict.named, verdict.placed, verdict.leaked) == (True, True, False)
    assert f"| {mistake.title} | {verdict} |" in PAGE
    assert f"- {OURS}: {quoted(verdict)}" in PAGE


def test_the_page_says_which_versions_were_compared() -> None:
    assert len(MISTAKES) == 20
    for name, version in PINS.items():
        assert f"{name} {version}" in PAGE


def test_a_verdict_sees_a_secret_that_is_given_away() -> None:
    mistake = MISTAKES[5]
    verdict = judge(mistake, "refuses", f"db_port: {SENTINEL} in .env:2")
    assert str(verdict) == "refuses: name, place, **the secret**"
    assert quoted(verdict) == "`db_port: «secret» in .env:2`"
    assert judge(mistake, STARTS, "x") == Verdict(STARTS, "", named=False, placed=False, leaked=False)
    assert quoted(judge(mistake, STARTS, "x")) == "nothing; it starts"
