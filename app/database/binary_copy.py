"""Pack rows in PostgreSQL's binary COPY format, which its server need not parse.

A row is its number of fields, then the length and the bytes of each (PostgreSQL manual, COPY, "Binary
Format"); -1 is the length of NULL. The bytes of a type are what its `*_recv` function reads. Packing goes
column by column, so that the loops over rows run in C: neighbouring columns of fixed width are packed by one
`struct`, and only what has a length of its own is joined in between.

A batch with a value that is not of its column's own type is refused: the server converts texts better than
any copy of its rules here would, so such rows go as CSV.
"""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from itertools import chain, repeat
from operator import attrgetter
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from app.database.transactions import Transaction

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"

Encode = Callable[[Any], Any]

_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - PostgreSQL counts from here, without a zone
_EPOCH_UTC: Final = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(2000, 1, 1).toordinal()


class CannotPackError(ValueError):
    """A value is not of its column's own type, or does not fit it."""


@dataclass(frozen=True)
class Field:
    """How the values of a column are packed: by `struct`, or with lengths of their own when `width` is 0."""

    kinds: frozenset[type]
    encode: Encode | None = None
    form: str = ""
    width: int = 0


class Packer:
    """Packs batches of one table's columns."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields = fields

    def pack(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """Return the rows of a batch, given as `columns`; raise CannotPackError and pack none of them."""
        try:
            return b"".join(chain.from_iterable(zip(*self._parts(columns), strict=True)))
        except (struct.error, TypeError, OverflowError, UnicodeEncodeError):
            raise CannotPackError from None

    def _parts(self, columns: Sequence[Sequence[Any]]) -> Iterator[Iterator[bytes] | list[bytes]]:
        """Yield the pieces of every row side by side: what one `struct` packs, what has its own length."""
        form = ">h"
        feeds: list[Iterator[Any]] = [repeat(len(columns))]
        for field, values in zip(self._fields, columns, strict=True):
            kinds = set(map(type, values))
            if not kinds <= field.kinds:
                raise CannotPackError
            if field.width and NoneType not in kinds:
                form += f"i{field.form}"
                feeds += [repeat(field.width), map(field.encode, values) if field.encode else iter(values)]
                continue
            lengths, data = _sized(field, values)
            yield map(struct.Struct(f"{form}i").pack, *feeds, lengths)
            yield data
            form, feeds = ">", []
        if feeds:
            yield map(struct.Struct(form).pack, *feeds)


def _sized(field: Field, values: Sequence[Any]) -> tuple[list[int], list[bytes]]:
    """Return the lengths of `values` and their bytes, which are empty for NULL."""
    encode = field.encode or _itself
    if field.width:
        pack = struct.Struct(f">{field.form}").pack
        data = [b"" if value is None else pack(encode(value)) for value in values]
    elif None in values:
        data = [b"" if value is None else encode(value) for value in values]
    else:
        data = list(map(encode, values))
        return list(map(len, data)), data
    return [-1 if value is None else len(part) for value, part in zip(values, data, strict=True)], data


def packer_for(transaction: Transaction, table: str, names: Sequence[str]) -> Packer | None:
    """Return what packs the columns `names` of `table`, or None when one has a type that is not packed."""
    if transaction.connection.connection.dbapi_connection.encoding != "UTF8":  # type: ignore[union-attr]
        return None
    found = {row["attname"]: row["type"] for row in transaction.all(_TYPES, table=table, names=list(names))}
    fields = [_FIELDS.get(found.get(name, 0)) for name in names]
    return None if None in fields else Packer(fields)  # type: ignore[arg-type]


# An enumeration is read as its label, a domain as the type below it.
_TYPES: Final = """
SELECT attname, (CASE typtype WHEN 'e' THEN 25 WHEN 'd' THEN typbasetype ELSE pg_type.oid END)::bigint AS type
FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
WHERE attrelid = to_regclass(:table) AND NOT attisdropped AND attname = ANY(:names)
"""


def json_text(value: Any) -> str:
    """Return lists and mappings as JSON; a text is JSON already."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _itself(value: Any) -> Any:
    return value


def _fixed(form: str, *kinds: type, encode: Encode | None = None) -> Field:
    return Field(frozenset({*kinds, NoneType}), encode, form, struct.calcsize(f">{form}"))


def _sized_by(encode: Encode, *kinds: type) -> Field:
    return Field(frozenset({*kinds, NoneType}), encode)


def _since_midnight(moment: time_of_day) -> int:
    if moment.tzinfo is not None:
        raise TypeError("a time with a zone")
    return ((moment.hour * 60 + moment.minute) * 60 + moment.second) * 1_000_000 + moment.microsecond


_TEXT: Final = _sized_by(str.encode, str)

# The numbers are those of PostgreSQL's pg_type.dat, which never change. Missing on purpose: numeric, whose
# packing costs more here than the server's parsing; real, which a detour by double would round twice.
_FIELDS: Final[Mapping[int, Field]] = {
    16: _fixed("?", bool),
    17: _sized_by(bytes, bytes, bytearray),
    20: _fixed("q", int),
    21: _fixed("h", int),
    23: _fixed("i", int),
    25: _TEXT,
    701: _fixed("d", float, int),
    1042: _TEXT,
    1043: _TEXT,
    114: _sized_by(lambda value: json_text(value).encode(), str, dict, list),
    3802: _sized_by(lambda value: b"\x01" + json_text(value).encode(), str, dict, list),
    1082: _fixed("i", date, encode=lambda day: day.toordinal() - _EPOCH_DAY),
    1083: _fixed("q", time_of_day, encode=_since_midnight),
    1114: _fixed("q", datetime, encode=lambda moment: (moment - _EPOCH) // _MICROSECOND),
    1184: _fixed("q", datetime, encode=lambda moment: (moment - _EPOCH_UTC) // _MICROSECOND),
    2950: _fixed("16s", uuid.UUID, encode=attrgetter("bytes")),
}
