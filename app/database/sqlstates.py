"""Which database errors pass by themselves, and what an error says about its transaction.

Sources: PostgreSQL 18 manual, Appendix A (error codes) and section 13.5 (serialization failure handling);
SQLite's result codes, https://www.sqlite.org/rescode.html.
"""

from __future__ import annotations

from typing import Any, Final

TRANSIENT: Final = {
    "08000": "connection exception",
    "08001": "client could not connect",
    "08003": "connection does not exist",
    "08004": "server rejected the connection",
    "08006": "connection failure",
    "25006": "read-only server: the transaction belongs on another route",
    "40001": "serialization failure",
    "40P01": "deadlock detected",
    "53300": "too many connections",
    "55006": "object in use",
    "55P03": "lock not available",
    "57P01": "administrator shut the server down",
    "57P02": "server crashed and restarts",
    "57P03": "server is starting or stopping",
}
"""SQLSTATE -> meaning, for errors after which the same transaction may succeed."""

READ_ONLY: Final = "25006"
UNDECIDED: Final = frozenset({"08007", "40003"})
"""SQLSTATEs by which the server itself says that it does not know how the transaction ended."""
LOGIN: Final = frozenset({"28000", "28P01", "3D000"})
CARDINALITY: Final = "21000"

REMEDIES: Final = {
    "42501": "Give the role this right with GRANT, or connect as a role that has it.",
    "53100": "Free space on the database server's disk; nothing was kept, and it fails until then.",
    "53200": "Give the database server more memory, or the statement less work.",
    "57014": "Make the statement quicker, or raise DB_STATEMENT_TIMEOUT.",
}
"""SQLSTATE -> what a person has to do, for errors that do not pass by themselves."""

SQLITE_TRANSIENT: Final = {
    5: "database is busy",
    6: "table is locked",
    15: "locking protocol",
    17: "schema changed",
}
"""SQLite primary result code -> meaning, for errors after which the same transaction may succeed."""
_SQLITE_CONSTRAINT: Final = 19
_SQLITE_FULL: Final = 13


def sqlstate_of(error: BaseException | None) -> str | None:
    """Return the five characters that PostgreSQL sent with `error`, or None."""
    code = getattr(error, "pgcode", None)
    return code if isinstance(code, str) else None


def sqlite_code_of(error: BaseException | None) -> int | None:
    """Return SQLite's primary result code of `error`, or None."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def is_transient(error: BaseException | None) -> bool:
    """Tell whether the driver's `error` may pass when the whole transaction runs again."""
    return sqlstate_of(error) in TRANSIENT or sqlite_code_of(error) in SQLITE_TRANSIENT


def remedy_of(error: BaseException | None) -> str:
    """Return what a person has to do about the driver's `error`, or nothing when that is not known."""
    if sqlite_code_of(error) == _SQLITE_FULL:
        return "Free space on the disk of the database file; nothing was kept, and it fails until then."
    return REMEDIES.get(sqlstate_of(error) or "", "")


def is_constraint(error: BaseException | None) -> bool:
    """Tell whether the driver's `error` is a broken constraint."""
    state = sqlstate_of(error)
    return (state is not None and state.startswith("23")) or sqlite_code_of(error) == _SQLITE_CONSTRAINT


def constraint_of(error: BaseException | None) -> str | None:
    """Return the name of the broken constraint where the server gives it."""
    diagnostics: Any = getattr(error, "diag", None)
    name = getattr(diagnostics, "constraint_name", None)
    return name if isinstance(name, str) else None
