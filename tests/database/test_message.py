"""What we print of a driver's error holds no value of anybody's, on both back ends and in every place."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from app.database import ConnectionManager, DatabaseError, RolledBack, health
from app.database.migrations import runner
from app.database.migrations.errors import MigrationFailedError
from app.database.statistics import samples
from tests.database.migration_files import write
from tests.postgres import Database

SENTINEL = 'hunter2 "quoted"\nsecond line of hunter2'

SCHEMA = """
CREATE TABLE person (id integer PRIMARY KEY, email text UNIQUE, age integer CHECK (age < 200), born date,
    short varchar(3), boss integer REFERENCES person)
"""
BOTH = [
    "INSERT INTO person (id, email) VALUES (1, :value), (2, :value)",
    "INSERT INTO person (id, email, age) VALUES (1, :value, 999)",
    "INSERT INTO person (id, email, boss) VALUES (1, :value, 77)",
    "INSERT INTO person (id, email) VALUES (NULL, :value), (NULL, :value)",
    "INSERT INTO missing VALUES (:value)",
    "INSERT INTO person (id, colour) VALUES (1, :value)",
    "SELECT :value FROM",
]
POSTGRESQL = [
    *(
        f"SELECT CAST(:value AS {kind})"
        for kind in ("integer", "date", "uuid", "inet", "integer[]", "interval", "json", "regclass", "point")
    ),
    "INSERT INTO person (id, born) VALUES (1, :value)",
    "INSERT INTO person (id, short) VALUES (1, :value)",
    "SELECT :value + 1",
    "SELECT extract(:value from now())",
    "SELECT to_date(:value, 'YYYY')",
    "SELECT to_tsquery(:value)",
    "SELECT 'a' ~ ('[' || :value)",
    "SELECT has_table_privilege(:value, 'person', 'select')",
    "SELECT pg_read_file(:value)",
]
SQLITE = ["SELECT json(:value)", "SELECT json_extract('{}', :value)"]


def everything(manager: ConnectionManager, error: DatabaseError) -> str:
    """Return all that we would print after `error`."""
    statistics = manager.statistics()
    return "\n".join(
        [
            str(error),
            repr(error),
            repr(vars(error)),
            repr(manager.status()),
            json.dumps(health.check(manager).as_dict()),
            repr([*samples(statistics)]),
        ]
    )


def assert_silent(manager: ConnectionManager, statement: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RolledBack) as caught:
        manager.run(lambda tx: tx.execute(statement, {"value": SENTINEL}), label="sign up", budget=2)
    assert "hunter2" not in everything(manager, caught.value), statement
    assert "hunter2" not in caplog.text, statement
    assert caught.value.__cause__ is not None
    assert "sign up" in str(caught.value)


@pytest.fixture
def people(manager: ConnectionManager, caplog: pytest.LogCaptureFixture) -> ConnectionManager:
    """A manager that logs every statement as slow."""
    caplog.set_level(logging.DEBUG)
    object.__setattr__(manager.limits, "slow_query", 0.0)
    manager.run(lambda tx: tx.execute(SCHEMA))
    return manager


def test_no_value_reaches_an_error_a_log_or_a_metric(
    people: ConnectionManager, caplog: pytest.LogCaptureFixture
) -> None:
    for statement in BOTH + (POSTGRESQL if people.dialect == "postgresql" else SQLITE):
        assert_silent(people, statement, caplog)
    assert "slow statement" in caplog.text


def test_a_load_that_is_refused_shows_no_row(
    people: ConnectionManager, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"id": number, "email": SENTINEL, "age": 30} for number in range(2)]
    with pytest.raises(RolledBack) as caught:
        people.load("person", rows)
    assert "hunter2" not in everything(people, caught.value)
    with pytest.raises(RolledBack) as caught:
        people.load("person", [{"id": 1, "age": SENTINEL, "nothing": 1}])
    assert "hunter2" not in everything(people, caught.value) + caplog.text


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ('SELECT * FROM "missing"', 'relation "missing" does not exist'),
        ("SELECT colour FROM person", 'column "colour" does not exist'),
        ("INSERT INTO person (id) VALUES (1), (1)", 'unique constraint "person_pkey"'),
        ("INSERT INTO person (id, age) VALUES (1, 999)", 'check constraint "person_age_check"'),
        ("INSERT INTO person (id) VALUES (NULL)", 'null value in column "id" of relation "person"'),
        ("SELECT 1 FROM person WHERE :", 'syntax error at or near ":"'),
        ("SELECT CAST('x' AS integer)", 'invalid input syntax for type integer: "…"'),
        ("SELECT now() AT TIME ZONE 'Atlantis'", 'time zone "…" not recognized'),
    ],
)
def test_names_that_help_to_find_the_fault_are_shown(database: Database, statement: str, shown: str) -> None:
    with database.manager() as manager:
        manager.run(lambda tx: tx.execute(SCHEMA))
        with pytest.raises(RolledBack) as caught, manager.transaction() as tx:
            tx.execute(statement)
    assert shown in str(caught.value)


def test_a_copy_into_a_table_that_is_missing_names_it(database: Database) -> None:
    with database.manager() as manager, pytest.raises(RolledBack, match='relation "missing"'):
        manager.load("missing", [{"id": 1}])


def test_a_failing_migration_shows_no_row(manager: ConnectionManager, tmp_path: Path) -> None:
    versions = tmp_path / "versions"
    versions.mkdir()
    write(versions, "0001", None, 'op.execute("CREATE TABLE person (email varchar(80))")')
    runner.upgrade(manager, versions=versions)
    manager.run(lambda tx: tx.execute("INSERT INTO person VALUES (:a), (:a)", {"a": "hunter2"}))
    unique = "op.create_index('one', 'person', ['email'], unique=True)"
    write(versions, "0002", "0001", unique, extra="contract = True\ncontract_reason = 'nobody writes here'")
    with pytest.raises(MigrationFailedError) as caught:
        runner.upgrade(manager, versions=versions)
    assert "hunter2" not in str(caught.value)
    assert "rolled back: " in str(caught.value)
