"""A transaction: a context manager that commits at its end, and says what happened when it cannot."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.database.errors import ConstraintBroken, DatabaseError, OutcomeUnknown, RolledBack
from app.database.message import said
from app.database.outcome import NUMBER, Number
from app.database.sqlstates import (
    READ_ONLY,
    UNDECIDED,
    constraint_of,
    is_constraint,
    is_transient,
    remedy_of,
    sqlstate_of,
)

if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType

    from sqlalchemy import Connection, CursorResult, Executable
    from sqlalchemy.engine import RowMapping

    from app.database.adapters.contract import Facts
    from app.database.lease import Lease
    from app.database.manager import ConnectionManager

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None

slow_log = logging.getLogger("app.database.slow")
_monotonic = time.monotonic
_text = lru_cache(maxsize=1024)(text)
_LONGEST_SHOWN = 1000
_BY_HAND = (
    "this transaction was ended inside its block, by `connection.commit()` or `rollback()`: what was "
    "committed stays, and what came after it stands alone; leave the end to the block"
)
_FOREIGN = "this transaction belongs to the process that this one was forked from; begin another one"


class Transaction:
    """One transaction on one connection; it commits when its block ends and rolls back when the block raises.

    Rows come as mappings. Statements are SQL text with `:name` parameters or SQLAlchemy Core constructs.
    """

    __slots__ = ("_manager", "_track", "budget", "label", "lease", "max_lag", "read_only")

    def __init__(
        self,
        manager: ConnectionManager,
        read_only: bool,
        budget: float,
        label: str,
        max_lag: float | None,
        track: bool,
    ) -> None:
        self._manager = manager
        self._track = track
        self.lease: Lease | None = None
        """The connection on loan; the router sets it, and whoever gives it back empties it."""
        self.read_only = read_only
        self.budget = budget
        self.label = label
        self.max_lag = max_lag

    def __enter__(self) -> Transaction:
        if self.lease is not None:
            raise RuntimeError("this transaction has begun already; ask the manager for another one")
        try:
            self._manager.router.borrow(self, _caller(sys._getframe(1)))
        except BaseException:
            self._drop_what_is_left()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease = self.lease
        if lease is None:
            return
        if lease.foreign:
            self.lease = None
            if error is None:
                raise RuntimeError(_FOREIGN)
            return
        try:
            if error is None:
                self._commit(lease)
            else:
                self._roll_back(lease, error)
        except BaseException as failed:
            self._drop_what_is_left()
            if isinstance(failed, AssertionError) and failed.__context__ is not None:
                raise failed.__context__ from None  # SQLAlchemy, interrupted, asserts that it did its work
            raise

    def __del__(self) -> None:
        lease = getattr(self, "lease", None)
        if lease is not None and not lease.foreign:
            slow_log.warning("a transaction was dropped without its end by %s", lease.holder())
            lease.pool.drop(self, lease)

    @property
    def connection(self) -> Connection:
        """Return the SQLAlchemy connection, for what this class does not offer; do not commit on it."""
        return self._held().connection

    @property
    def dialect(self) -> str:
        """Return `sqlite` or `postgresql`."""
        return self._held().adapter.dialect

    @property
    def route(self) -> str:
        """Return the name of the route in use."""
        return self._held().adapter.name

    @property
    def facts(self) -> Facts:
        """Return what the server said of itself when this connection was opened."""
        return self._held().facts

    def execute(self, statement: str | Executable, parameters: Parameters = None) -> CursorResult[Any]:
        """Run one statement, once for each mapping when `parameters` is a list."""
        lease = self.lease
        if lease is None or lease.foreign:
            lease = self._held()
        began = lease.busy = _monotonic()
        try:
            result: CursorResult[Any] = lease.connection.execute(
                _text(statement) if statement.__class__ is str else statement,  # type: ignore[arg-type]
                parameters,
            )
        except Exception:
            lease.adapter.after_error(lease.raw)
            raise
        finally:
            lease.busy = 0.0
            elapsed = _monotonic() - began
            if elapsed >= self._manager.limits.slow_query:
                self._log_slow(statement, elapsed)
        return result

    def all(self, statement: str | Executable, /, **parameters: Any) -> Sequence[RowMapping]:
        """Return every row as a mapping."""
        return self.execute(statement, parameters or None).mappings().all()

    def first(self, statement: str | Executable, /, **parameters: Any) -> RowMapping | None:
        """Return the first row as a mapping, or None."""
        return self.execute(statement, parameters or None).mappings().first()

    def one(self, statement: str | Executable, /, **parameters: Any) -> RowMapping:
        """Return the only row; raise sqlalchemy.exc.NoResultFound or MultipleResultsFound."""
        return self.execute(statement, parameters or None).mappings().one()

    def scalar(self, statement: str | Executable, /, **parameters: Any) -> Any:
        """Return the first column of the first row, or None when there is no row."""
        return self.execute(statement, parameters or None).scalar()

    def savepoint(self) -> AbstractContextManager[Any]:
        """Return a block whose statements are undone alone when it raises."""
        return self._held().connection.begin_nested()

    @contextmanager
    def driver(self) -> Iterator[Any]:
        """Give the driver's own connection, for COPY and the like, as a part of this transaction."""
        lease = self._held()
        if not lease.connection.in_transaction():
            lease.connection.begin()
        lease.busy = _monotonic()
        try:
            yield lease.raw
        except Exception:
            lease.adapter.after_error(lease.raw)
            raise
        finally:
            lease.busy = 0.0

    def _drop_what_is_left(self) -> None:
        """Drop a connection that an interrupt kept from being given back: nobody knows its state."""
        lease = self.lease
        if lease is not None:
            lease.pool.drop(self, lease)

    def _held(self) -> Lease:
        if self.lease is None:
            raise RuntimeError("this transaction is not open: use it inside its `with` block")
        if self.lease.foreign:
            raise RuntimeError(_FOREIGN)
        return self.lease

    def _log_slow(self, statement: str | Executable, seconds: float) -> None:
        lease = self._held()
        place = f"{lease.owner[0].co_filename}:{lease.owner[1]}" if lease.owner else ""
        slow_log.warning(
            "slow statement: %.3f s on route %s in %s: %s",
            seconds,
            lease.adapter.name,
            self.label or place,
            _shown(statement),
        )

    def _commit(self, lease: Lease) -> None:
        adapter, connection = lease.adapter, lease.connection
        if connection.invalidated or adapter.failed(lease.raw):
            lost = connection.invalidated or adapter.lost(lease.raw)
            where = self._where(lease)
            by_hand = not lost and lease.begun not in (None, connection.get_transaction())
            self._give_back(lease)
            if by_hand:
                raise RuntimeError(f"{_BY_HAND} ({where})")
            raise RolledBack(
                "The transaction was rolled back: a statement in it failed, and its error was caught.",
                where=where,
                next_step="Put a statement that may fail inside `with transaction.savepoint():`.",
                transient=lost,
            )
        number: Number | None = None
        tracked = self._track and not self.read_only and adapter.dialect == "postgresql"
        lease.busy = _monotonic()
        try:
            # Where the session has ended before COMMIT is sent, the question fails and so nothing was kept.
            if connection.in_transaction() and (tracked or adapter.hung_up(lease.raw)):
                with lease.raw.cursor() as cursor:
                    cursor.execute(NUMBER)
                    found = cursor.fetchone()
                number = Number(*found) if found[0] is not None else None
        except Exception as error:
            raise self._give_back_after(lease, error) from error
        try:
            connection.commit()
        except SQLAlchemyError as error:
            raise self._after_commit(lease, error, tracked, number) from error
        lease.pool.committed += 1
        lease.pool.release(self, lease)

    def _after_commit(
        self, lease: Lease, error: SQLAlchemyError, tracked: bool, number: Number | None
    ) -> DatabaseError:
        """Return what a failed COMMIT means.

        An answer on a connection that lives is a refusal: nothing was kept. When the connection is gone, even
        an answer such as 57P01 may come after the commit: PostgreSQL sends it to a session that waits for its
        synchronous replica (syncrep.c), whose transaction is committed locally.
        """
        original = getattr(error, "orig", None)
        lost = lease.connection.invalidated or lease.adapter.lost(lease.raw)
        state = sqlstate_of(original)
        wrote_nothing = self.read_only or (tracked and number is None)
        if (not lost and state not in UNDECIDED) or wrote_nothing:
            return self._give_back_after(lease, error)
        where = self._where(lease)
        self._give_back(lease, lost=True)
        return OutcomeUnknown(
            "The answer to COMMIT was lost: the transaction is either wholly there or not at all.",
            where=f"{where}: {said(error)}",
            next_step="Ask `manager.outcome(error)`, or look for what the transaction would have written.",
            sqlstate=state,
            **(number._asdict() if number is not None else {}),
        )

    def _roll_back(self, lease: Lease, error: BaseException) -> None:
        if not (
            isinstance(error, DBAPIError) or hasattr(error, "pgcode") or hasattr(error, "sqlite_errorcode")
        ):
            self._give_back(lease)
            return
        raise self._give_back_after(lease, error) from error

    def _give_back_after(self, lease: Lease, error: BaseException) -> DatabaseError:
        """Roll back, give the connection back, and return the RolledBack that tells of `error`."""
        original = getattr(error, "orig", None) or error
        state = sqlstate_of(original)
        where = self._where(lease)
        lost = self._give_back(lease)
        if is_constraint(original):
            return ConstraintBroken(
                f"The transaction was rolled back: {said(error)}",
                where=where,
                sqlstate=state,
                constraint=constraint_of(original),
            )
        transient = lost or is_transient(original)
        if state == READ_ONLY:
            transient = not self.read_only
            if transient:
                self._manager.router.named(lease.adapter.name).refused_write()
        return RolledBack(
            f"The transaction was rolled back: {said(error)}",
            where=where,
            next_step="Running the whole transaction again is safe." if transient else remedy_of(original),
            sqlstate=state,
            transient=transient,
        )

    def _give_back(self, lease: Lease, *, lost: bool = False) -> bool:
        """Roll back and return the connection, or drop it when it is lost; tell whether it was lost."""
        lease.busy = _monotonic()
        lost = lost or lease.connection.invalidated
        if not lost:
            try:
                lease.connection.rollback()
            except AssertionError:  # see `__exit__`
                raise
            except Exception:  # noqa: BLE001 - whatever the reason, this connection cannot be used again
                lost = True
        lost = lost or lease.adapter.lost(lease.raw)
        lease.pool.rolled_back += 1
        if lost:
            lease.pool.distrust()
            lease.pool.drop(self, lease)
            self._manager.router.named(lease.adapter.name).suspect()
        else:
            lease.pool.release(self, lease)
        return lost

    def _where(self, lease: Lease) -> str:
        place = f" at {lease.owner[0].co_filename}:{lease.owner[1]}" if lease.owner else ""
        return f"route {lease.adapter.name}, {self.label or 'transaction'}{place}"


def _caller(frame: FrameType) -> tuple[CodeType, int]:
    """Return the place from which this package was called, such as that of `manager.run(...)`."""
    while frame.f_globals.get("__package__") == __package__ and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lineno


def _shown(statement: str | Executable) -> str:
    """Return a statement on one line, cut where it stops telling anything."""
    line = " ".join(str(statement).split())
    return line if len(line) <= _LONGEST_SHOWN else f"{line[:_LONGEST_SHOWN]} ..."
