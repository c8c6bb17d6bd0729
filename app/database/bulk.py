"""Load many rows at once: the same table and the same result on SQLite and PostgreSQL.

PostgreSQL takes the rows by COPY, into the table itself or, where rows may exist already, into a staging
table from which they are upserted. They go in binary, the faster (docs/performance.md), as long as every
value is of its column's own type, and as CSV, which fits every type, from the first batch where one is not.
SQLite takes the rows by executemany in the transaction's one IMMEDIATE lock. Rows are read once, in batches,
so ten million of them need no more memory than one batch.
"""

from __future__ import annotations

import csv
import io
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Literal, SupportsFloat

from app.database.binary_copy import HEADER, TRAILER, CannotPackError, Packer, json_text, packer_for
from app.database.sqlstates import CARDINALITY, sqlstate_of

if TYPE_CHECKING:
    from sqlalchemy import Table

    from app.database.transactions import Transaction

Row = Mapping[str, Any] | Sequence[Any]
Convert = Callable[[Any], Any]

BATCH: Final = 1000
"""Rows encoded at a time; twice as many encode slower, for they no longer fit the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Upsert:
    """Replace the row that has the same `keys`; of several such rows the last one counts.

    `update` names the columns that are replaced; by default every column that is not a key.
    """

    keys: tuple[str, ...]
    update: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a load did: rows read, rows inserted or replaced, seconds."""

    read: int
    written: int
    seconds: float


_NO_ROW: Final[Any] = object()

OnConflict = Literal["error", "ignore"] | Upsert


def load(
    transaction: Transaction,
    table: str | Table,
    rows: Iterable[Row],
    *,
    columns: Sequence[str] | None = None,
    on_conflict: OnConflict = "error",
) -> Loaded:
    """Load `rows` into `table` within `transaction`, reading them once.

    Rows are mappings, or sequences in the order of `columns`. With "error" a row that exists already rolls
    the transaction back, with "ignore" it is kept as it is, and with `Upsert` it is replaced; the last two
    may be run again with the same rows and leave the same table. A SQLAlchemy `Table` brings its column
    types; under a plain name, dates, numbers, UUIDs, bytes, and lists or mappings (as JSON) are stored by
    their own type. Raise ValueError for a row that does not fit the columns.
    """
    began = time.monotonic()
    if on_conflict not in ("error", "ignore") and not isinstance(on_conflict, Upsert):
        raise ValueError(f"on_conflict is {on_conflict!r}: give 'error', 'ignore' or an Upsert.")
    iterator = iter(rows)
    first = next(iterator, _NO_ROW)
    if first is _NO_ROW:
        return Loaded(read=0, written=0, seconds=time.monotonic() - began)
    if first is None:
        raise ValueError("Row 1 is None.")
    names = _columns(first, columns, table)
    source = _Source(chain((first,), iterator), names, _converters(transaction, table, names))
    target = _Target(transaction, table, names, on_conflict)
    written = target.from_sqlite(source) if transaction.dialect == "sqlite" else target.from_copy(source)
    return Loaded(read=source.read, written=written, seconds=time.monotonic() - began)


class _Source:
    """Rows in batches, each checked against the columns and converted column by column."""

    def __init__(
        self, rows: Iterator[Row], names: Sequence[str], converters: Sequence[Convert | None]
    ) -> None:
        self.read = 0
        self._rows = rows
        self._names = names
        self._converters = converters

    def batches(self) -> Iterator[list[Sequence[Any]]]:
        """Yield the columns of the next rows, each as long as there are rows in the batch."""
        while batch := list(islice(self._rows, BATCH)):
            columns = self._columns(self._tuples(batch))
            for index, convert in enumerate(self._converters):
                if convert is not None:
                    columns[index] = [convert(value) for value in columns[index]]
            self.read += len(batch)
            yield columns

    def _tuples(self, batch: list[Row]) -> list[tuple[Any, ...]]:
        names = self._names
        try:
            if isinstance(batch[0], Mapping):
                if len(names) == 1:
                    return [(row[names[0]],) for row in batch]  # type: ignore[call-overload]
                return list(map(itemgetter(*names), batch))
        except KeyError as missing:
            raise ValueError(
                f"A row among {self.read + 1} to {self.read + len(batch)} has no column {missing}."
            ) from None
        return batch  # type: ignore[return-value]

    def _columns(self, batch: list[tuple[Any, ...]]) -> list[Sequence[Any]]:
        try:
            columns: list[Sequence[Any]] = list(zip(*batch, strict=True))
        except ValueError:
            columns = []
        if len(columns) != len(self._names):
            raise ValueError(
                f"A row among {self.read + 1} to {self.read + len(batch)} does not have "
                f"{len(self._names)} values: {', '.join(self._names)}."
            )
        return columns


def _rows_of(
    columns: Sequence[Sequence[Any]], plain: Set[type], by_type: Mapping[type, Convert]
) -> Iterator[tuple[Any, ...]]:
    """Return the rows of a batch; their values have a type in `plain` or were converted by `by_type`."""
    fitting: list[Sequence[Any]] = []
    for column in columns:
        odd = set(map(type, column)) - plain
        if odd:
            table = {kind: _converter(kind, by_type) for kind in odd}
            fitting.append(
                [table[kind](value) if (kind := type(value)) in table else value for value in column]
            )
        else:
            fitting.append(column)
    return zip(*fitting, strict=True)


class _Target:
    """The table that is written to, and the statements that write to it."""

    def __init__(
        self, transaction: Transaction, table: str | Table, names: Sequence[str], on_conflict: OnConflict
    ) -> None:
        quote = transaction.connection.dialect.identifier_preparer.quote
        self._transaction = transaction
        self._on_conflict = on_conflict
        self.table = ".".join(quote(part) for part in str(table).split("."))
        self.columns = ", ".join(quote(name) for name in names)
        self._names = names
        if isinstance(on_conflict, Upsert):
            unknown = [name for name in (*on_conflict.keys, *(on_conflict.update or ())) if name not in names]
            if unknown or not on_conflict.keys:
                raise ValueError(f"The rows have no column {', '.join(unknown) or 'that is a key'}.")
            others = [name for name in names if name not in on_conflict.keys]
            update = others if on_conflict.update is None else on_conflict.update
            self.keys = ", ".join(quote(name) for name in on_conflict.keys)
            changes = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in update)
            self.clause = f" ON CONFLICT ({self.keys}) DO " + (
                f"UPDATE SET {changes}" if changes else "NOTHING"
            )
        else:
            self.clause = " ON CONFLICT DO NOTHING" if on_conflict == "ignore" else ""

    def from_sqlite(self, source: _Source) -> int:
        """Insert by executemany, which takes the rows one by one from the generator."""
        marks = ", ".join("?" * len(self._names))
        statement = f"INSERT INTO {self.table} ({self.columns}) VALUES ({marks}){self.clause}"  # noqa: S608
        with self._transaction.driver() as raw:
            rows = chain.from_iterable(
                _rows_of(batch, _SQLITE_TYPES, _SQLITE_CONVERTERS) for batch in source.batches()
            )
            raw.execute("SAVEPOINT bulk_load")  # each row is a statement: the first ones would be kept
            try:
                written = int(raw.executemany(statement, rows).rowcount)
            except BaseException:
                if raw.in_transaction:
                    raw.execute("ROLLBACK TO bulk_load")
                    raw.execute("RELEASE bulk_load")
                raise
            raw.execute("RELEASE bulk_load")
            return written

    def from_copy(self, source: _Source) -> int:
        """Copy, straight or by way of a staging table that goes when the transaction ends."""
        limit = self._transaction.scalar("SHOW statement_timeout")
        self._limit_statements("0")  # one COPY takes as long as its rows
        if self._on_conflict == "error":
            written = self._copy(self.table, source)
        else:
            written = self._copy_by_staging(source)
        self._limit_statements(limit)  # an error undoes the change along with the rest
        return written

    def _limit_statements(self, limit: str) -> None:
        self._transaction.execute("SELECT set_config('statement_timeout', :limit, true)", {"limit": limit})

    def _copy_by_staging(self, source: _Source) -> int:
        run = self._transaction.execute
        staging = f"load_{uuid.uuid4().hex}"
        run(
            f"CREATE TEMPORARY TABLE {staging} ON COMMIT DROP AS "  # noqa: S608
            f"SELECT {self.columns} FROM {self.table} WITH NO DATA"
        )
        self._copy(staging, source)
        written = self._merge(staging)
        run(f"DROP TABLE {staging}")
        return written

    def _merge(self, staging: str) -> int:
        """Move the staged rows over; rows that share a key are told apart only when there are any."""
        from sqlalchemy.exc import DBAPIError

        # As COPY does it: what the rows bring for an identity column is kept, ALWAYS generated or not.
        insert = f"INSERT INTO {self.table} ({self.columns}) OVERRIDING SYSTEM VALUE "
        try:
            with self._transaction.savepoint():
                moved = self._transaction.execute(
                    f"{insert}SELECT {self.columns} FROM {staging}{self.clause}"  # noqa: S608
                )
                return int(moved.rowcount)
        except DBAPIError as error:
            if sqlstate_of(error.orig) != CARDINALITY:
                raise
        last = (
            f"SELECT DISTINCT ON ({self.keys}) {self.columns} FROM {staging} ORDER BY {self.keys}, ctid DESC"  # noqa: S608
        )
        return int(self._transaction.execute(f"{insert}{last}{self.clause}").rowcount)

    def _copy(self, into: str, source: _Source) -> int:
        batches = source.batches()
        copied = 0
        packer = packer_for(self._transaction, into, self._names)
        if packer is not None:
            binary = _BinaryStream(batches, packer)
            copied = self._run_copy(into, binary, "FORMAT binary")
            if binary.refused is None:
                return copied
            batches = chain((binary.refused,), batches)
        return copied + self._run_copy(into, _CsvStream(batches), f"FORMAT csv, NULL '{_Null()}'")

    def _run_copy(self, into: str, stream: _Stream, options: str) -> int:
        with self._transaction.driver() as raw, raw.cursor() as cursor:
            try:
                cursor.copy_expert(f"COPY {into} ({self.columns}) FROM STDIN ({options})", stream, 1 << 16)
            except Exception:
                if stream.error is not None:
                    raise stream.error from None  # not the driver's report of it
                raise
            return int(cursor.rowcount)


class _Stream(ABC):
    """A file that encodes the next batch when it is read, and keeps what ended it: bad rows, an interrupt."""

    def __init__(self, batches: Iterator[list[Sequence[Any]]]) -> None:
        self.error: BaseException | None = None
        self._batches = batches
        pieces = self._kept()
        next(pieces)
        # The generator's own method, which is no Python code: an interrupt cannot come before the `try`.
        self.read: Callable[[int], str | bytes] = pieces.send

    def _kept(self) -> Generator[str | bytes, int]:
        try:
            yield b""
            while True:
                yield self._next()
        except BaseException as error:
            self.error = error
            raise

    @abstractmethod
    def _next(self) -> str | bytes: ...


class _BinaryStream(_Stream):
    """Batches in COPY's binary format, up to the first that cannot be packed, which is kept."""

    def __init__(self, batches: Iterator[list[Sequence[Any]]], packer: Packer) -> None:
        super().__init__(batches)
        self.refused: list[Sequence[Any]] | None = None
        self._pieces = self._encoded(packer)

    def _next(self) -> bytes:
        return next(self._pieces, b"")

    def _encoded(self, packer: Packer) -> Iterator[bytes]:
        yield HEADER
        for batch in self._batches:
            try:
                packed = packer.pack(batch)
            except CannotPackError:
                self.refused = batch
                break
            yield packed
        yield TRAILER


class _CsvStream(_Stream):
    """Batches as CSV."""

    def __init__(self, batches: Iterator[list[Sequence[Any]]]) -> None:
        super().__init__(batches)
        self._buffer = io.StringIO(newline="")
        # Every text is quoted: an unquoted one could be the mark for NULL, or `\.`, which ends the data
        # before PostgreSQL 18. Quoting only what must be quoted is faster until it loses rows.
        self._writer = csv.writer(self._buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")

    def _next(self) -> str:
        batch = next(self._batches, None)
        if batch is None:
            return ""
        self._buffer.seek(0)
        self._buffer.truncate()
        self._writer.writerows(_rows_of(batch, _COPY_TYPES, _COPY_CONVERTERS))
        return self._buffer.getvalue()


class _Null(SupportsFloat):
    """NULL for the csv module: it quotes every text but no number, so the mark below is never a text."""

    def __float__(self) -> float:
        return 0.0

    def __str__(self) -> str:
        return "\\N"


_NULL: Final = _Null()
_COPY_TYPES: Final[frozenset[type]] = frozenset(
    {str, int, float, bool, Decimal, date, datetime, time_of_day, uuid.UUID, _Null}
)
_SQLITE_TYPES: Final[frozenset[type]] = frozenset({str, int, float, bool, bytes, type(None)})
_PLAIN: Final[Mapping[type, Convert]] = {str: str.__str__, int: int.__int__, float: float.__float__}
"""What a value is under a subclass that prints itself otherwise, such as a member of an Enum."""
_COPY_CONVERTERS: Final[Mapping[type, Convert]] = {
    type(None): lambda _: _NULL,
    bytes: lambda value: "\\x" + value.hex(),
    bytearray: lambda value: "\\x" + value.hex(),
    memoryview: lambda value: "\\x" + value.hex(),
    dict: json_text,
    list: json_text,
    tuple: json_text,
    **_PLAIN,
}
_SQLITE_CONVERTERS: Final[Mapping[type, Convert]] = {
    datetime: lambda value: value.isoformat(" "),
    date: lambda value: value.isoformat(),
    time_of_day: lambda value: value.isoformat(),
    Decimal: str,
    uuid.UUID: str,
    bytes: bytes,
    bytearray: bytes,
    memoryview: bytes,
    dict: json_text,
    list: json_text,
    tuple: json_text,
    **_PLAIN,
}


def _converter(kind: type, by_type: Mapping[type, Convert]) -> Convert:
    """Return the conversion of the nearest base of `kind`, and its text where there is none."""
    return next((by_type[base] for base in kind.__mro__ if base in by_type), str)


def _columns(first: Row, columns: Sequence[str] | None, table: str | Table) -> list[str]:
    if columns is not None:
        return list(columns)
    if isinstance(first, Mapping):
        return [str(name) for name in first]
    if isinstance(table, str):
        raise ValueError("Rows that are sequences need `columns`.")  # noqa: TRY004 - an argument is missing
    return [column.name for column in table.columns]


def _converters(transaction: Transaction, table: str | Table, names: Sequence[str]) -> list[Convert | None]:
    if isinstance(table, str):
        return [None] * len(names)
    dialect = transaction.connection.dialect
    unknown = [name for name in names if name not in table.columns]
    if unknown:
        raise ValueError(f"The table {table.name} has no column {', '.join(unknown)}.")
    from sqlalchemy import LargeBinary

    types = [table.columns[name].type for name in names]
    # psycopg2's wrapper for bytes is made for statements; COPY takes them as text.
    return [
        None
        if dialect.name == "postgresql" and isinstance(kind, LargeBinary)
        else kind.dialect_impl(dialect).bind_processor(dialect)
        for kind in types
    ]
