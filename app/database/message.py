"""What a driver's error says, without the values that it quotes.

PostgreSQL quotes names and what somebody typed in the same way: `relation "x"`, `invalid input syntax for
type integer: "x"` (PostgreSQL 18 manual, section 55.3, error message style guide). A quoted text is repeated
when it is a name: when the statement contains it, which holds no values, or the server says that it is one.
"""

from __future__ import annotations

import re
from typing import Any, Final

from app.database.sqlstates import sqlstate_of

_NAMES: Final = ("schema_name", "table_name", "column_name", "datatype_name", "constraint_name")
_QUOTED: Final = re.compile(r"""["']([^"']*)["']?""")
"""SQLite quotes with either mark; PostgreSQL's words hold no apostrophe."""


def said(error: BaseException) -> str:
    """Return on one line what the server or the driver said first.

    DETAIL, HINT, CONTEXT and the statement's LINE are left out, for they may hold values of rows. An error of
    SQLAlchemy's brings the statement. Without one, only the names that the server vouches for are shown, and
    an error in the statement itself, SQLSTATE class 42, is shown whole.
    """
    original: Any = getattr(error, "orig", None) or error
    diagnostics = getattr(original, "diag", None)
    primary = getattr(diagnostics, "message_primary", None)
    text = primary if isinstance(primary, str) else str(original)
    if diagnostics is not None and primary is None:
        text = text.partition("\n")[0]  # the driver's own words, of a connection that was lost
    statement = getattr(error, "statement", None)
    kind = (sqlstate_of(original) or "")[:2]
    if kind == "22":
        text = _masked(text, next((found.start() for found in _QUOTED.finditer(text)), -1))
    elif not (kind == "42" and statement is None):
        names = {getattr(diagnostics, name, None) for name in _NAMES}
        unknown = (
            found.start()
            for found in _QUOTED.finditer(text)
            if found[1] not in names and not _contains(statement or "", found[1])
        )
        text = _masked(text, next(unknown, -1))
    return " ".join(text.split()) or type(original).__name__


def _contains(statement: str, name: str) -> bool:
    before = r"(?<!\w)" if name[:1].isalnum() else ""
    after = r"(?!\w)" if name[-1:].isalnum() else ""
    return re.search(f"{before}{re.escape(name)}{after}", statement) is not None


def _masked(text: str, start: int) -> str:
    """Take out all from the quote at `start` to the last one: what is quoted may hold quotes itself."""
    if start < 0:
        return text
    last = max(text.rfind('"'), text.rfind("'"))
    return f'{text[:start]}"…"{text[last + 1 :] if last > start else ""}'
