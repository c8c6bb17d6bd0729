"""What every kind of route answers: connect, describe, begin, facts, alive, dispose."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Engine

    from app.database.guard import Guard

PRIMARY = "primary"
REPLICA = "replica"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a server says of itself on a fresh connection."""

    identity: str
    """The same text on every route to one database, and on no route to another."""
    role: str
    writable: bool
    lag: float | None = None
    """Seconds that a replica is behind, infinity when it cannot tell; None on a primary."""
    timeline: int = 0
    """Rises by one at each promotion, so that a primary left behind is known; 0 where there is none."""
    server_limit: int | None = None
    """Connections that the server gives to ordinary users; None where it has no such limit."""
    started: datetime | None = None
    """When the server was started, which tells it from any other; None where there is none."""
    latency: float = 0.0
    """Seconds that the question took."""


class Adapter(ABC):
    """One route to a database.

    An adapter opens connections and states the rules of its kind; pooling, retries and the choice of route
    are the manager's.
    """

    kind: ClassVar[str]
    dialect: ClassVar[str]
    writers: ClassVar[int | None] = None
    """How many connections may write at once in this process; None for as many as the pool has."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name or self.kind
        self._engine: Engine | None = None
        self._engine_lock = threading.Lock()
        self._opening = threading.local()

    @property
    def engine(self) -> Engine:
        """Return the SQLAlchemy engine that wraps raw connections; it never pools."""
        with self._engine_lock:
            if self._engine is None:
                self._engine = self._make_engine()
            return self._engine

    def connect(self, timeout: float, guard: Guard | None = None) -> tuple[Connection, Any, Facts]:
        """Open a connection, ask the server for its facts, and return both within about `timeout` seconds.

        Raise NotSent in the kind that fits, with the driver's error as its cause.
        """
        self._opening.timeout, self._opening.guard, self._opening.raw = timeout, guard, None
        try:
            try:
                connection = self.engine.connect()
            except Exception as error:
                raise self.explain(error) from error
            raw = connection.connection.dbapi_connection
            try:
                return connection, raw, self.timed_facts(raw)
            except Exception as error:
                discard(connection)
                raise self.explain(error) from error
        finally:
            if guard is not None and self._opening.raw is not None:
                guard.release(self._opening.raw)
            self._opening.raw = None

    def timed_facts(self, raw: Any) -> Facts:
        """Return the facts with the time that asking took."""
        began = time.monotonic()
        facts = self.facts(raw)
        return Facts(**{**facts.__dict__, "latency": time.monotonic() - began})

    def dispose(self) -> None:
        """Forget the engine; connections are closed by whoever holds them."""
        with self._engine_lock:
            self._engine = None

    def after_fork(self) -> None:
        """Forget the engine and replace the lock, which another thread of the parent may have held."""
        self._engine_lock = threading.Lock()
        self._engine = None

    def _create(self) -> Any:
        timeout = getattr(self._opening, "timeout", 5.0)
        raw = self.open(timeout)
        guard = getattr(self._opening, "guard", None)
        self._opening.raw = raw
        if guard is not None:
            guard.watch(raw, timeout)
        return raw

    @abstractmethod
    def _make_engine(self) -> Engine:
        """Return an engine without a pool whose creator is `_create`."""

    @abstractmethod
    def describe(self) -> str:
        """Say where the route leads, without its password."""

    @abstractmethod
    def open(self, timeout: float) -> Any:
        """Return a new driver connection set up by the rules of this kind."""

    @abstractmethod
    def facts(self, raw: Any) -> Facts:
        """Ask the server who it is and what it can do; leave no transaction open."""

    @abstractmethod
    def alive(self, raw: Any) -> None:
        """Make one round trip; raise the driver's error when the connection is dead."""

    @abstractmethod
    def begin(self, connection: Connection, raw: Any, *, read_only: bool, within: float) -> None:
        """Prepare a transaction on an idle connection, waiting `within` seconds for other writers at most."""

    @abstractmethod
    def explain(self, error: BaseException) -> Exception:
        """Return the error of ours that fits a failure to connect."""

    def lost(self, raw: Any) -> bool:
        """Tell whether the connection is of no more use."""
        return bool(getattr(raw, "closed", False))

    def hung_up(self, raw: Any) -> bool:
        """Tell, without asking it, whether the other end has closed the connection."""
        return False

    @abstractmethod
    def failed(self, raw: Any) -> bool:
        """Tell whether an earlier error doomed the open transaction."""

    @abstractmethod
    def after_error(self, raw: Any) -> None:
        """Take in that a statement failed: nothing more may be written when that ended the transaction."""

    def lag(self, raw: Any) -> float | None:
        """Return how many seconds a replica is behind, None on a primary."""
        return self.facts(raw).lag


def discard(connection: Connection) -> None:
    """Close a connection for good, whatever state it is in."""
    try:
        if not connection.closed:
            connection.invalidate()
        connection.close()
    except Exception:  # noqa: BLE001, S110 - a broken connection may fail to close, and nothing is left to do
        pass
