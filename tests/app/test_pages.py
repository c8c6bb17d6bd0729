"""The dashboard as it is rendered; a browser looks at it in tests/system."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from app.database import ConnectionManager
from app.ledger import queries
from app.ledger.recorder import record
from app.web import pages, timeline

from .events import DIGEST, event, record_of, stage, whole_run

if TYPE_CHECKING:
    from flask.testing import FlaskClient

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def text_of(client: FlaskClient, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    return " ".join(answer.get_data(as_text=True).split())


def run_of(ledger: ConnectionManager, name: str) -> queries.Run:
    with ledger.transaction(read_only=True) as tx:
        found = queries.run(tx, name)
    assert found is not None
    return found


def test_an_empty_ledger_says_what_to_do(visitor: FlaskClient) -> None:
    page = text_of(visitor, "/")
    assert "Nothing was deployed yet" in page
    assert "No run yet" in page


def test_the_dashboard_shows_what_runs_where_and_the_last_runs(
    client: FlaskClient, ledger: ConnectionManager
) -> None:
    with ledger.transaction() as tx:
        record(tx, whole_run("01A", environment="staging"))
        record(tx, whole_run("01B", environment="production", begin=60))
        record(
            tx, whole_run("01C", begin=120, environment="staging", result="failure", deployed="rolled_back")
        )
    page = text_of(client, "/")
    assert page.index("<h2>production</h2>") < page.index("<h2>staging</h2>")
    assert "rolled back" in page
    assert DIGEST.removeprefix("sha256:")[:12] in page
    assert page.count('<svg class="timeline"') == 3
    assert 'aria-label="lint success in 1.0 s, test success in 20.0 s"' in page


def test_an_environment_without_success_says_so(visitor: FlaskClient, embedded: ConnectionManager) -> None:
    with embedded.transaction() as tx:
        record(tx, whole_run("01A", result="failure", deployed="failed"))
    assert "Nothing was deployed here yet" in text_of(visitor, "/")


def test_older_runs_have_their_own_page(visitor: FlaskClient, embedded: ConnectionManager) -> None:
    import re

    with embedded.transaction() as tx:
        numbers = range(pages.RUNS_SHOWN + 3)
        record(tx, [each for number in numbers for each in whole_run(f"run-{number:02}", begin=number * 60)])
    first = text_of(visitor, "/")
    assert first.count("/runs/run-") == pages.RUNS_SHOWN + 1
    link = re.search(r'href="(/\?cursor=[^"]+)"', first)
    assert link is not None
    second = text_of(visitor, link[1])
    assert [name in second for name in ("run-00", "run-02", "run-03")] == [True, True, False]
    assert "What runs where</h1>" not in second
    assert visitor.get("/?cursor=x").status_code == 400


def test_a_run_page_shows_stages_reasons_figures_and_deployment(
    visitor: FlaskClient, embedded: ConnectionManager
) -> None:
    stages = [
        stage("test", seconds=20, figures={"coverage": 94.1}),
        stage("scan", result="skipped", seconds=0),
    ]
    with embedded.transaction() as tx:
        record(tx, whole_run("01A", stages=stages, actor="grace"))
    page = text_of(visitor, "/runs/01A")
    for part in ("test has no proof for this tree", "94.1 % coverage", "skipped", DIGEST, "grace"):
        assert part in page
    assert '<a href="http://127.0.0.1:8080" rel="noreferrer">' in page


@pytest.mark.parametrize("path", ["/runs/unknown", "/runs/%00", "/runs/a/b", "/nowhere"])
def test_an_unknown_address_is_a_page_for_people_and_a_problem_for_programs(
    visitor: FlaskClient, path: str
) -> None:
    page = visitor.get(path, headers={"Accept": "text/html,*/*;q=0.8"})
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "What runs where" in page.get_data(as_text=True)
    assert visitor.get(path).content_type == "application/problem+json"


def test_what_events_say_is_never_markup_or_script(visitor: FlaskClient, embedded: ConnectionManager) -> None:
    evil = '"><script>alert(1)</script>'
    stages = [stage(evil, reason=evil, figures={evil: 1.0})]
    data = record_of("evil/run", command=evil, environment=evil, stages=stages, commit=evil, deployed=evil)
    data["deployment"]["url"] = "javascript:alert(1)"
    with embedded.transaction() as tx:
        record(tx, [event("run.finished", data, key="1")])
    for path in ("/", "/runs/evil/run"):
        page = text_of(visitor, path)
        assert "<script>alert" not in page
        assert 'href="javascript' not in page


def test_the_page_changes_its_etag_with_its_content(
    visitor: FlaskClient, embedded: ConnectionManager
) -> None:
    first = visitor.get("/")
    assert visitor.get("/", headers={"If-None-Match": first.headers["ETag"]}).status_code == 304
    with embedded.transaction() as tx:
        record(tx, whole_run("01A"))
    assert visitor.get("/", headers={"If-None-Match": first.headers["ETag"]}).status_code == 200


def test_stages_at_the_same_time_are_drawn_in_lanes(embedded: ConnectionManager) -> None:
    stages = [
        stage("lint", begin=0, seconds=5),
        stage("test", begin=0, seconds=20),
        stage("build", begin=1, seconds=9),
        stage("scan", begin=10, seconds=5),
        stage("push", result="skipped"),
    ]
    with embedded.transaction() as tx:
        record(tx, whole_run("01A", stages=stages))
    drawn = timeline.draw(run_of(embedded, "01A"))
    assert {bar.task.name: bar.y // timeline.LANE for bar in drawn.bars} == {
        "lint": 0,
        "test": 1,
        "build": 2,
        "scan": 0,
    }
    assert drawn.seconds == 30.0
    lint = next(bar for bar in drawn.bars if bar.task.name == "lint")
    assert (lint.x, lint.width) == (0.0, 16.67)
    assert drawn.height == 3 * timeline.LANE - 3


def test_a_timeline_never_leaves_its_frame(embedded: ConnectionManager) -> None:
    """Clocks of several machines disagree, and an instant still has a width."""
    stages = [stage("early", begin=-50, seconds=0), stage("late", begin=400, seconds=0)]
    with embedded.transaction() as tx:
        record(tx, whole_run("01A", stages=stages))
    drawn = timeline.draw(run_of(embedded, "01A"))
    for bar in drawn.bars:
        assert bar.x >= 0
        assert bar.width >= timeline.NARROWEST
        assert bar.x + bar.width <= 100.01


def test_a_run_without_stages_has_an_empty_picture(embedded: ConnectionManager) -> None:
    with embedded.transaction() as tx:
        record(tx, whole_run("01A")[:1])
    drawn = timeline.draw(run_of(embedded, "01A"))
    assert (drawn.bars, drawn.summary) == ((), "no stage ran")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "just now"), (59, "just now"), (60, "1 min ago"), (7199, "1 h ago"), (86400 * 40, "40 d ago")],
)
def test_ages_use_the_largest_unit(seconds: int, expected: str) -> None:
    assert pages.age(NOW - timedelta(seconds=seconds), NOW) == expected


def test_a_time_ahead_of_our_clock_is_shown_as_it_is() -> None:
    assert pages.age(NOW + timedelta(hours=1), NOW) == "2026-11-23 13:00:00 UTC"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "-"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (59.7, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3599.7, "1 h 00 min"),
        (7260, "2 h 01 min"),
    ],
)
def test_durations_keep_the_digits_that_matter(seconds: float | None, expected: str) -> None:
    assert pages.duration(seconds) == expected


def test_names_and_results_are_short_words() -> None:
    assert pages.short(DIGEST) == "a1" * 6
    assert pages.short(None) == "-"
    assert pages.words("rolled_back") == "rolled back"
    assert pages.words(None) == "running"
    assert pages.mark("never heard of") == "quiet"
