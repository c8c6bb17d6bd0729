"""A driver call that must answer by a deadline, and does not."""

from __future__ import annotations

import sqlite3
import threading
import time

import pytest

from app.database.guard import Guard
from tests.postgres import Database, wait_until

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def test_a_statement_of_the_embedded_database_is_interrupted() -> None:
    raw = sqlite3.connect(":memory:", check_same_thread=False)
    guard, errors = Guard(), []

    def run() -> None:
        try:
            raw.execute(ENDLESS)
        except sqlite3.OperationalError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():  # an interrupt that comes before the statement is forgotten
        guard.watch(raw, 0.0)
        assert guard.sweep(time.monotonic()) == 1
        thread.join(0.05)
    assert errors == ["interrupted"]
    raw.close()


def test_a_statement_of_a_server_is_cut_off_at_the_socket(database: Database) -> None:
    import psycopg2

    raw = database.connect()
    guard = Guard()
    before = time.monotonic()
    guard.watch(raw, 0.2)
    assert guard.sweep(before + 0.1) == 0
    sweeper = threading.Thread(target=lambda: wait_until(lambda: guard.sweep(time.monotonic())))
    sweeper.start()
    with pytest.raises(psycopg2.OperationalError), raw.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(30)")
    sweeper.join()
    assert raw.closed


def test_what_was_released_or_belongs_to_the_parent_is_left_alone(database: Database) -> None:
    raw, guard = database.connect(), Guard()
    guard.watch(raw, 0.0)
    guard.release(raw)
    assert guard.sweep(time.monotonic() + 1) == 0
    guard.watch(raw, 0.0)
    guard.after_fork()
    assert guard.sweep(time.monotonic() + 1) == 0
    with raw.cursor() as cursor:
        cursor.execute("SELECT 1")
    raw.close()
