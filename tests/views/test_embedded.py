"""The embedded ledger: the app's own tables in a file of the pipeline's."""

import sqlite3
from pathlib import Path

import pytest

from scripts.views.embedded import EmbeddedLedger
from scripts.views.ledger import Refused, Undelivered, events_of

from .story import DIGEST, RUN, broken, shipped


def rows(folder: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(folder / "ledger.sqlite3")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_a_run_is_in_the_apps_own_tables_once(tmp_path: Path) -> None:
    events = events_of(shipped().record, "me@here")
    for _ in range(2):
        ledger = EmbeddedLedger(tmp_path)
        ledger.deliver(events)
        ledger.deliver(events)
        ledger.close()
    assert rows(tmp_path, "select run, result, digest from pipeline_run") == [(RUN, "success", DIGEST)]
    assert rows(tmp_path, "select count(*) from task_run") == [(6,)]
    assert rows(tmp_path, "select environment, result, actor from deployment") == [
        ("development", "succeeded", "me@here")
    ]
    assert rows(tmp_path, "select count(*) from event") == [(len(events),)]


def test_an_event_that_is_none_is_refused_and_nothing_of_its_run_is_kept(tmp_path: Path) -> None:
    ledger = EmbeddedLedger(tmp_path)
    events = events_of(broken().record, "me")
    with pytest.raises(Refused, match="must be a string"):
        ledger.deliver([*events, {**events[0], "id": ""}])
    ledger.close()
    assert rows(tmp_path, "select count(*) from event") == [(0,)]


def test_a_file_that_is_no_database_leaves_the_events_waiting(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").write_bytes(b"this is no database at all" * 100)
    ledger = EmbeddedLedger(tmp_path)
    with pytest.raises(Undelivered, match=r"ledger\.sqlite3"):
        ledger.deliver(events_of(broken().record, "me"))
    ledger.close()
