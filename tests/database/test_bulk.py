"""Bulk loads: one result on both back ends, whatever the values, and twice is as good as once."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import tracemalloc
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.database import ConnectionManager, ConstraintBroken, RolledBack, Transaction, Upsert, bulk
from tests.database.notes import ids
from tests.postgres import Database

EVERY_TYPE = sa.MetaData()
things = sa.Table(
    "thing",
    EVERY_TYPE,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("text", sa.String),
    sa.Column("amount", sa.Float),
    sa.Column("exact", sa.Numeric(30, 6)),
    sa.Column("flag", sa.Boolean),
    sa.Column("moment", sa.DateTime),
    sa.Column("day", sa.Date),
    sa.Column("key", sa.Uuid),
    sa.Column("blob", sa.LargeBinary),
    sa.Column("data", sa.JSON),
)


@pytest.fixture
def things_manager(manager: ConnectionManager) -> ConnectionManager:
    with manager.transaction() as tx:
        EVERY_TYPE.create_all(tx.connection)
    return manager


def stored(manager: ConnectionManager) -> list[dict[str, Any]]:
    with manager.transaction(read_only=True) as tx:
        return [dict(row) for row in tx.all(sa.select(things).order_by(things.c.id))]


ROW = {
    "id": 1,
    "text": 'a "quoted", \\N\nline',
    "amount": 0.1,
    "exact": decimal.Decimal("12345678901234567890.123456"),
    "flag": True,
    "moment": datetime.datetime(2026, 11, 23, 12, 0, 0, 123456),  # noqa: DTZ001
    "day": datetime.date(2026, 11, 23),
    "key": uuid.UUID(int=7),
    "blob": b"\x00\xff\\",
    "data": {"list": [1, "two", None]},
}
EMPTY = {**dict.fromkeys(ROW), "id": 2}
BLANK = {**EMPTY, "id": 3, "text": ""}


def test_a_loaded_row_reads_back_as_it_was_written_one_by_one(things_manager: ConnectionManager) -> None:
    one_by_one = [{**row, "id": row["id"] + 100} for row in (ROW, EMPTY, BLANK)]
    with things_manager.transaction() as tx:
        tx.execute(sa.insert(things), one_by_one)
    loaded = things_manager.load(things, [ROW, EMPTY, BLANK])
    assert (loaded.read, loaded.written) == (3, 3)
    rows = stored(things_manager)
    assert rows[:3] == [{**row, "id": row["id"] - 100} for row in rows[3:]]
    assert rows[0]["text"] == ROW["text"]
    assert rows[1]["text"] is None
    assert rows[2]["text"] == ""


@pytest.mark.parametrize("conflict", ["ignore", Upsert(keys=("id",))])
def test_loading_twice_gives_the_same_table(things_manager: ConnectionManager, conflict: Any) -> None:
    rows = [{**ROW, "id": number, "text": f"row {number}"} for number in range(bulk.BATCH + 1)]
    things_manager.load(things, rows, on_conflict=conflict)
    before = stored(things_manager)
    things_manager.load(things, rows, on_conflict=conflict)
    assert stored(things_manager) == before
    assert len(before) == bulk.BATCH + 1


class Colour(str, enum.Enum):  # noqa: UP042 - StrEnum's str() is its value, which would hide the difference
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Share(float, enum.Enum):
    HALF = 0.5


class Packet(bytes):
    """Stands for any subclass of bytes."""


def test_a_value_of_a_subclass_is_loaded_as_a_statement_stores_it(manager: ConnectionManager) -> None:
    row = {"text": Colour.RED, "number": Level.HIGH, "blob": Packet(b"ab")}
    with manager.transaction() as tx:
        blob = "bytea" if tx.dialect == "postgresql" else "blob"
        tx.execute(f"CREATE TABLE kept (text text, number integer, blob {blob})")
        tx.execute("INSERT INTO kept VALUES (:text, :number, :blob)", row)
        bulk.load(tx, "kept", [row])
        bulk.load(tx, "kept", [{"text": Level.HIGH}, {"text": Share.HALF}])
    with manager.transaction(read_only=True) as tx:
        rows = [tuple(row.values()) for row in tx.all("SELECT text, number, blob FROM kept")]
    assert [(text, number, blob and bytes(blob)) for text, number, blob in rows] == [
        ("red", 3, b"ab"),
        ("red", 3, b"ab"),
        ("3", None, None),
        ("0.5", None, None),
    ]


@pytest.mark.parametrize("conflict", ["error", "ignore", Upsert(keys=("id",))])
def test_an_identity_that_the_server_always_generates_is_loaded_as_given(
    database: Database, conflict: Any
) -> None:
    database.execute("CREATE TABLE made (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text)")
    with database.manager() as manager:
        assert manager.load("made", [{"id": 70, "text": "x"}], on_conflict=conflict).written == 1
    assert database.execute("SELECT * FROM made") == [(70, "x")]


@pytest.mark.parametrize("conflict", ["error", "ignore", Upsert(keys=("id",))])
def test_after_a_load_the_transaction_has_its_own_time_limit_again(database: Database, conflict: Any) -> None:
    database.execute("CREATE TABLE note (id integer PRIMARY KEY)")
    with database.manager(statement_timeout=29.0) as manager, manager.transaction() as tx:
        bulk.load(tx, "note", [(1,)], columns=("id",), on_conflict=conflict)
        assert tx.scalar("SHOW statement_timeout") == "29s"
        tx.execute("SET LOCAL statement_timeout = '7s'")
        with pytest.raises(psycopg2.Error), tx.savepoint():
            bulk.load(tx, "missing", [(1,)], columns=("id",))
        assert tx.scalar("SHOW statement_timeout") == "7s"
        bulk.load(tx, "note", [(2,)], columns=("id",), on_conflict=conflict)
        assert tx.scalar("SHOW statement_timeout") == "7s"


def test_an_upsert_replaces_and_the_last_of_two_counts(notes: ConnectionManager) -> None:
    notes.load("note", [(1, "old", 1), (2, "kept", 2)], columns=("id", "text", "number"))
    notes.load(
        "note",
        [(1, "newer", 5), (3, "x", 3), (1, "newest", 6)],
        columns=("id", "text", "number"),
        on_conflict=Upsert(keys=("id",), update=("text",)),
    )
    with notes.transaction() as tx:
        rows = [tuple(row.values()) for row in tx.all("SELECT * FROM note ORDER BY id")]
    assert rows == [(1, "newest", 1), (2, "kept", 2), (3, "x", 3)]


def test_ignore_keeps_the_first(notes: ConnectionManager) -> None:
    notes.load("note", [{"id": 1, "text": "first"}, {"id": 1, "text": "second"}], on_conflict="ignore")
    notes.load("note", [{"id": 1, "text": "third"}], on_conflict="ignore")
    with notes.transaction() as tx:
        assert tx.scalar("SELECT text FROM note") == "first"


def test_a_conflict_under_error_leaves_nothing(notes: ConnectionManager) -> None:
    with pytest.raises(ConstraintBroken):
        notes.load("note", ({"id": number % 10, "text": "x"} for number in range(20)))
    assert ids(notes) == []


def test_a_line_that_would_end_the_data_is_a_line_like_others(manager: ConnectionManager) -> None:
    texts = ["before", "\\.", "\\N", "", "after"]
    with manager.transaction() as tx:
        tx.execute("CREATE TABLE line (text varchar)")
    manager.load("line", ((text,) for text in texts), columns=("text",))
    with manager.transaction() as tx:
        assert [row["text"] for row in tx.all("SELECT text FROM line")] == texts


def test_keys_alone_can_be_upserted(manager: ConnectionManager) -> None:
    with manager.transaction() as tx:
        tx.execute("CREATE TABLE tag (name varchar PRIMARY KEY)")
    for _ in range(2):
        manager.load("tag", [{"name": "a"}, {"name": "b"}], on_conflict=Upsert(keys=("name",)))
    with manager.transaction() as tx:
        assert tx.scalar("SELECT count(*) FROM tag") == 2


def test_an_error_in_the_rows_themselves_comes_through(notes: ConnectionManager) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"id": 1, "text": "x"}
        raise LookupError("the source ended early")

    for conflict in ("error", "ignore"):
        with pytest.raises(LookupError, match="ended early"):
            notes.load("note", rows(), on_conflict=conflict)  # type: ignore[arg-type]
    assert ids(notes) == []


@pytest.mark.parametrize("conflict", ["error", "ignore"])
def test_nothing_is_kept_of_a_load_whose_error_is_caught(notes: ConnectionManager, conflict: Any) -> None:
    """SQLite goes on after an error, as after any statement; PostgreSQL keeps nothing of the transaction."""

    def rows() -> Iterator[tuple[int, str]]:
        yield from ((number, "x") for number in range(2 * bulk.BATCH))
        raise LookupError("the source ended early")

    def load_and_go_on(tx: Transaction) -> None:
        tx.execute("INSERT INTO note (id, text) VALUES (-1, 'before')")
        with pytest.raises(LookupError):
            bulk.load(tx, "note", rows(), columns=("id", "text"), on_conflict=conflict)
        if tx.dialect == "sqlite":
            tx.execute("INSERT INTO note (id, text) VALUES (-2, 'after')")

    if notes.dialect == "sqlite":
        notes.run(load_and_go_on)
        assert ids(notes) == [-2, -1]
    else:
        with pytest.raises(RolledBack, match="its error was caught"):
            notes.run(load_and_go_on)
        assert ids(notes) == []


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([None, (1, "x")], {"columns": ("id", "text")}, "Row 1 is None"),
        ([(1, "x")], {"columns": ("id", "text"), "on_conflict": "replace"}, "an Upsert"),
        ([(1, "x"), (2,)], {"columns": ("id", "text")}, "does not have 2 values"),
        ([(1, "x", 3)], {"columns": ("id", "text")}, "does not have 2 values"),
        ([{"id": 1, "text": "x"}, {"id": 2}], {}, "no column 'text'"),
        ([{"id": 1}, {"text": 2}], {}, "no column 'id'"),
        ([(1, "x")], {}, "need `columns`"),
        ([{"id": 1, "text": "x"}], {"on_conflict": Upsert(keys=("other",))}, "no column other"),
        ([{"id": 1, "text": "x"}], {"on_conflict": Upsert(keys=())}, "that is a key"),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    notes: ConnectionManager, rows: Any, options: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        notes.load("note", rows, **options)
    assert ids(notes) == []


def test_a_table_says_which_columns_it_has(things_manager: ConnectionManager) -> None:
    with pytest.raises(ValueError, match="no column colour"):
        things_manager.load(things, [{"id": 1, "colour": "red"}])
    assert things_manager.load(things, [tuple(ROW.values())]).written == 1


def test_no_rows_are_no_work(notes: ConnectionManager) -> None:
    assert notes.load("note", []).read == 0


def test_two_loads_may_share_a_transaction(notes: ConnectionManager) -> None:
    with notes.transaction() as tx:
        for start in (0, 10):
            bulk.load(tx, "note", [{"id": start, "text": "x"}], on_conflict="ignore")
    assert ids(notes) == [0, 10]


def test_values_without_a_table_are_stored_by_their_own_type(manager: ConnectionManager) -> None:
    values = {
        "moment": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "day": datetime.date(2026, 1, 2),
        "hour": datetime.time(3, 4),
        "exact": decimal.Decimal("1.50"),
        "key": uuid.UUID(int=1),
        "blob": bytearray(b"ab"),
        "view": memoryview(b"cd"),
        "json": {"a": [1]},
        "list": [1, 2],
        "kind": Kind.GOOD,
        "number": Number(3),
        "other": pytest,
    }
    with manager.transaction() as tx:
        tx.execute("CREATE TABLE loose (" + ", ".join(f'"{name}" text' for name in values) + ")")
    manager.load("loose", [values])
    with manager.transaction() as tx:
        row = dict(tx.one("SELECT * FROM loose"))
    assert row["json"] == '{"a":[1]}'
    assert row["list"] == "[1,2]"
    assert row["exact"] == "1.50"
    assert row["day"] == "2026-01-02"
    assert row["moment"] == "2026-01-02 03:04:05+00:00"
    assert row["kind"] == "good"
    assert row["number"] == "3"


class Kind(str):
    GOOD: str


Kind.GOOD = Kind("good")


class Number(int):
    """Stands for any subclass of int."""


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.integers(min_value=0, max_value=30),
            st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
            st.none() | st.floats(allow_nan=False, allow_infinity=False).filter(math.isfinite),
        ),
        max_size=30,
    )
)
def test_any_text_and_number_survive_a_load(manager: ConnectionManager, rows: list[Any]) -> None:
    with manager.transaction() as tx:
        tx.execute("DROP TABLE IF EXISTS any_value")
        tx.execute("CREATE TABLE any_value (id integer PRIMARY KEY, text text, number double precision)")
    manager.load("any_value", rows, columns=("id", "text", "number"), on_conflict=Upsert(keys=("id",)))
    with manager.transaction() as tx:
        found = {row["id"]: (row["text"], row["number"]) for row in tx.all("SELECT * FROM any_value")}
    assert found == {number: (text, value) for number, text, value in rows}


def test_memory_stays_flat_however_many_rows(notes: ConnectionManager) -> None:
    def peak(count: int, start: int) -> int:
        rows = ((start + number, "x" * 40, number) for number in range(count))
        tracemalloc.start()
        try:
            notes.load("note", rows, columns=("id", "text", "number"), on_conflict="ignore")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2 * bulk.BATCH, 0)  # what is made once, such as SQLAlchemy's caches
    small, large = peak(2 * bulk.BATCH, 10**6), peak(40 * bulk.BATCH, 2 * 10**6)
    assert (large - small) / (38 * bulk.BATCH) < 8, "bytes a row"
