"""Bulk loads go to PostgreSQL in binary and leave what the server's own parser would have left."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg2.extras
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.database import RolledBack, bulk
from tests.postgres import Database

TYPES = {
    "flag": "boolean",
    "small": "smallint",
    "number": "integer",
    "large": "bigint",
    "amount": "double precision",
    "text": "text",
    "short": "varchar(20)",
    "fixed": "char(4)",
    "day": "date",
    "hour": "time",
    "moment": "timestamp",
    "instant": "timestamptz",
    "key": "uuid",
    "blob": "bytea",
    "document": "json",
    "indexed": "jsonb",
    "mood": "mood",
    "percentage": "percentage",
}
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | TEXT, st.lists, max_leaves=4)
VALUES = {
    "flag": st.booleans(),
    "small": st.integers(-(2**15), 2**15 - 1),
    "number": st.integers(-(2**31), 2**31 - 1),
    "large": st.integers(-(2**63), 2**63 - 1),
    "amount": st.floats(allow_nan=False).map(lambda value: value + 0.0),  # psycopg2 sends -0.0 as 0
    "text": TEXT,
    "short": TEXT,
    "fixed": st.text("abc ", max_size=4),
    "day": st.dates(),
    "hour": st.times(),
    "moment": st.datetimes(),
    "instant": st.datetimes(
        datetime.datetime(2, 1, 1),  # noqa: DTZ001 - the strategy adds the zone
        datetime.datetime(9998, 1, 1),  # noqa: DTZ001
        timezones=st.just(datetime.UTC) | st.just(datetime.timezone(datetime.timedelta(hours=-9.5))),
    ),
    "key": st.uuids(),
    "blob": st.binary(max_size=20),
    "document": st.lists(JSON, max_size=3),
    "indexed": st.dictionaries(TEXT, JSON, max_size=3),
    "mood": st.sampled_from(["sad", "happy"]),
    "percentage": st.integers(0, 100),
}
ROWS = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), max_size=8
)


@pytest.fixture
def database_with_types(database: Database) -> Database:
    database.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
    database.execute("CREATE DOMAIN percentage AS integer CHECK (VALUE <= 100)")
    columns = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
    for table in ("loaded", "inserted"):
        database.execute(f"CREATE TABLE {table} (line serial, {columns})")
    return database


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_every_packed_type_is_stored_as_an_insert_stores_it(
    database_with_types: Database, rows: list[dict[str, Any]]
) -> None:
    marks = ", ".join(f"%({name})s" for name in TYPES)
    with database_with_types.manager() as manager:
        with manager.transaction() as tx:
            tx.execute("TRUNCATE loaded, inserted RESTART IDENTITY")
            bulk.load(tx, "loaded", rows, columns=list(TYPES))
            with tx.driver() as raw, raw.cursor() as cursor:
                for row in rows:
                    adapted = {
                        name: psycopg2.extras.Json(value) if isinstance(value, list | dict) else value
                        for name, value in row.items()
                    }
                    cursor.execute(f"INSERT INTO inserted ({', '.join(TYPES)}) VALUES ({marks})", adapted)
        with manager.transaction() as tx:
            # As texts, so that no reader's rounding hides a difference.
            loaded, inserted = (
                tx.all(f"SELECT {AS_TEXT} FROM {name} ORDER BY line") for name in ("loaded", "inserted")
            )
    assert loaded == inserted
    assert len(loaded) == len(rows)


AS_TEXT = ", ".join(f"{'jsonb(document)' if name == 'document' else name}::text" for name in TYPES)


def watched(
    database: Database, rows: Iterator[tuple[Any, ...]], seen: list[str]
) -> Iterator[tuple[Any, ...]]:
    """Yield `rows`, and note after every batch what statement the server is running."""
    for number, row in enumerate(rows):
        if number % bulk.BATCH == bulk.BATCH - 1:
            found = database.execute(
                "SELECT query FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'"
            )
            seen.extend("binary" if "binary" in query else "csv" for (query,) in found)
        yield row


@pytest.fixture
def lines(database: Database) -> Database:
    database.execute("CREATE TABLE line (number integer, text text)")
    return database


def test_rows_of_their_columns_types_go_in_binary_to_the_end(lines: Database) -> None:
    seen: list[str] = []
    rows = ((number, "x") for number in range(4 * bulk.BATCH))
    with lines.manager() as manager:
        done = manager.load("line", watched(lines, rows, seen), columns=("number", "text"))
    assert (done.read, done.written) == (4 * bulk.BATCH, 4 * bulk.BATCH)
    assert seen
    assert set(seen) == {"binary"}


def test_from_a_value_of_another_type_on_the_rows_go_as_csv(lines: Database) -> None:
    seen: list[str] = []
    odd = 2 * bulk.BATCH + 5
    rows = ((str(number) if number == odd else number, "x") for number in range(5 * bulk.BATCH))
    with lines.manager() as manager:
        done = manager.load("line", watched(lines, rows, seen), columns=("number", "text"))
        assert done.written == done.read == 5 * bulk.BATCH
        with manager.transaction() as tx:
            assert tx.one("SELECT count(DISTINCT number) AS n, max(number) AS m FROM line") == {
                "n": 5 * bulk.BATCH,
                "m": 5 * bulk.BATCH - 1,
            }
    assert seen == sorted(seen)  # "binary" first, then "csv"
    assert set(seen) == {"binary", "csv"}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("numeric", decimal.Decimal("1.10"), decimal.Decimal("1.10")),
        ("real", 0.1, 0.1),
        ("interval", "1 day", datetime.timedelta(days=1)),
        ("integer[]", "{1,2}", [1, 2]),
        ("integer", " 12 ", 12),
        ("double precision", decimal.Decimal("0.5"), 0.5),
        ("date", datetime.datetime(2026, 1, 2, 3, 4), datetime.date(2026, 1, 2)),  # noqa: DTZ001
        ("boolean", "yes", True),
        ("bytea", memoryview(b"ab"), b"ab"),
        ("text", 7, "7"),
        ("time", datetime.time(1, 2, tzinfo=datetime.UTC), datetime.time(1, 2)),
        ("timestamp", datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), datetime.datetime(2026, 1, 2)),  # noqa: DTZ001
    ],
)
def test_what_is_not_packed_is_converted_by_the_server(
    database: Database, kind: str, value: Any, expected: Any
) -> None:
    database.execute(f"CREATE TABLE one (value {kind})")
    with database.manager() as manager:
        manager.load("one", [(None,), (value,)], columns=("value",))
        with manager.transaction() as tx:
            found = [row["value"] for row in tx.all("SELECT value FROM one ORDER BY value NULLS FIRST")]
    assert found[0] is None
    assert (bytes(found[1]) if kind == "bytea" else found[1]) == expected


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        ("smallint", 2**15, "22003"),
        ("bigint", 2**63, "22003"),
        ("varchar(2)", "abc", "22001"),
        ("integer", "twelve", "22P02"),
        ("text", "a\0b", "22021"),
        ("uuid", "no", "22P02"),
    ],
)
def test_what_the_column_cannot_hold_is_refused_by_the_server_and_nothing_stays(
    database: Database, kind: str, value: Any, code: str
) -> None:
    database.execute(f"CREATE TABLE one (value {kind})")
    with database.manager() as manager:
        with pytest.raises(RolledBack) as caught:
            manager.load("one", [(None,), (value,)], columns=("value",))
        assert caught.value.sqlstate == code
        with manager.transaction() as tx:
            assert tx.scalar("SELECT count(*) FROM one") == 0


def test_a_role_that_may_only_insert_can_load(lines: Database) -> None:
    role = f"writer_{uuid.uuid4().hex[:8]}"
    lines.execute(f"CREATE ROLE {role} LOGIN")
    lines.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
    lines.execute(f"GRANT INSERT ON line TO {role}")
    try:
        with lines.manager(user=role) as manager:
            assert manager.load("line", [(1, "a")], columns=("number", "text")).written == 1
    finally:
        lines.execute(f"DROP OWNED BY {role}")
        lines.execute(f"DROP ROLE {role}")


def test_a_table_that_does_not_exist_is_named_by_the_server(database: Database) -> None:
    with database.manager() as manager, pytest.raises(RolledBack, match='"missing" does not exist'):
        manager.load("missing", [(1,)], columns=("number",))


def test_a_table_of_another_schema_and_odd_names_are_packed(database: Database) -> None:
    database.execute('CREATE SCHEMA "Other"')
    database.execute('CREATE TABLE "Other"."Odd table" ("Two words" integer)')
    with database.manager() as manager:
        assert manager.load("Other.Odd table", [(1,)], columns=("Two words",)).written == 1
        with manager.transaction() as tx:
            assert tx.scalar('SELECT "Two words" FROM "Other"."Odd table"') == 1
