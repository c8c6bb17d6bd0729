"""What the three kinds of route to PostgreSQL share."""

from __future__ import annotations

import math
import select
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final

from app.database.adapters.contract import PRIMARY, REPLICA, Adapter, Facts
from app.database.errors import DatabaseError, LoginRefused, RouteDown, ServerFull
from app.database.sqlstates import LOGIN, sqlstate_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from app.database.options import Password

FACTS: Final = """
SELECT s.system_identifier::text || '/' || d.oid::text || '/' || d.datname,
       r.recovering,
       current_setting('transaction_read_only') = 'on',
       CASE WHEN NOT r.recovering THEN NULL
            WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()
                 AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0
            WHEN pg_last_xact_replay_timestamp() <= clock_timestamp()
            THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8
            ELSE 'Infinity' END,
       CASE WHEN r.recovering THEN 0
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
       pg_postmaster_start_time()
  FROM pg_control_system() s, pg_database d, (SELECT pg_is_in_recovery() AS recovering) r
 WHERE d.datname = current_database()
"""
"""Who this server is. A replica is up to date when it has replayed all that it receives, and still receives.
Else its lag is the age of the last commit that it replayed, by two clocks: the primary's and its own. One
that has replayed nothing yet, or whose clock is behind that commit, is behind by who knows how much.

The timeline is the one a primary writes to now; the control file's lags behind."""

_IN_ERROR: Final = 3  # psycopg2's TRANSACTION_STATUS_INERROR; the driver stays unimported until it connects
_CLOSED: Final = getattr(select, "POLLRDHUP", 0)  # Linux's; elsewhere poll tells only what it always tells


class PostgreSQL(Adapter):
    """A route to a PostgreSQL database by psycopg2."""

    dialect = "postgresql"

    def __init__(
        self,
        *,
        host: str,
        port: int,
        database: str,
        user: str,
        password: Password = lambda: None,
        application_name: str = "slipway",
        statement_timeout: float = 30.0,
        idle_in_transaction_timeout: float = 60.0,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.host = host
        self.port = port
        self.database = database
        self.user = user
        self.application_name = application_name
        self.statement_timeout = statement_timeout
        self.idle_in_transaction_timeout = idle_in_transaction_timeout
        self._password = password

    def describe(self) -> str:
        """Say where the route leads, without its password."""
        return f"{self.kind} {self.user}@{self.host}:{self.port}/{self.database}"

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Return the libpq parameters that are special to this kind."""

    def session_timeouts(self) -> dict[str, int]:
        """Return the server-side time-outs in milliseconds."""
        return {
            "statement_timeout": round(self.statement_timeout * 1000),
            "idle_in_transaction_session_timeout": round(self.idle_in_transaction_timeout * 1000),
        }

    def open(self, timeout: float) -> Any:
        """Connect with time-outs, keepalives and our name; the password is asked for anew."""
        import psycopg2

        return psycopg2.connect(**self.arguments(timeout), **self.parameters())

    def arguments(self, timeout: float) -> dict[str, Any]:
        """Return the libpq parameters that all kinds share; libpq counts whole seconds."""
        return {
            "host": self.host,
            "port": self.port,
            "dbname": self.database,
            "user": self.user,
            "password": self._password(),
            "connect_timeout": max(1, math.ceil(timeout)),
            "application_name": self.application_name,
            "keepalives": 1,
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            "gssencmode": "disable",
            "client_encoding": "utf8",
        }

    def _make_engine(self) -> Engine:
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        return create_engine(
            "postgresql+psycopg2://",
            creator=self._create,
            poolclass=NullPool,
            hide_parameters=True,
            use_native_hstore=False,  # would cost a query on every new connection
        )

    def facts(self, raw: Any) -> Facts:
        """Ask for identity, role, writability, lag, timeline and the server's limit in one round trip."""
        with raw.cursor() as cursor:
            cursor.execute(FACTS)
            identity, recovering, read_only, lag, timeline, limit, started = cursor.fetchone()
        raw.rollback()
        return Facts(
            identity=f"postgresql:{identity}",
            role=REPLICA if recovering else PRIMARY,
            writable=not (recovering or read_only),
            lag=lag,
            timeline=timeline,
            server_limit=limit,
            started=started,
        )

    def alive(self, raw: Any) -> None:
        """Make one round trip."""
        with raw.cursor() as cursor:
            cursor.execute("SELECT 1")
        raw.rollback()

    def begin(self, connection: Connection, raw: Any, *, read_only: bool, within: float) -> None:
        """Choose BEGIN or BEGIN READ ONLY; psycopg2 sends it before the first statement.

        Never BEGIN READ WRITE, which would override a server that was made read-only.
        """
        mode = True if read_only else None
        if raw.readonly is not mode:
            raw.readonly = mode

    def hung_up(self, raw: Any) -> bool:
        """Tell whether the server, or a pooler, has closed its side; its last words may still be unread."""
        poller = select.poll()
        poller.register(raw.fileno(), _CLOSED)
        return bool(poller.poll(0))

    def failed(self, raw: Any) -> bool:
        """Tell whether an earlier error doomed the transaction, so that COMMIT would only roll back."""
        return bool(raw.get_transaction_status() == _IN_ERROR)

    def after_error(self, raw: Any) -> None:
        """Do nothing: the server itself refuses whatever follows an error in a transaction."""

    def explain(self, error: BaseException) -> Exception:
        """Tell a refused login from a server that cannot be reached."""
        original = getattr(error, "orig", None) or error
        if isinstance(original, DatabaseError):
            return original
        state = sqlstate_of(original)
        text = " ".join(str(original).split())
        if state in LOGIN or _login_failed(text):
            return LoginRefused(
                f"The server refused the login: {text}",
                where=self.describe(),
                next_step="Check DB_USER, DB_PASSWORD and DB_NAME.",
                sqlstate=state,
            )
        if any(mark in text for mark in _FULL):
            return ServerFull(
                f"The server of route {self.name} gives no more connections: {text}",
                where=self.describe(),
                next_step="Lower DB_POOL_SIZE, end what holds them, or put a pooler in front.",
                sqlstate=state,
            )
        return RouteDown(
            f"The route {self.name} is down: {text}",
            where=self.describe(),
            next_step="Check the server, the network between, and the host and port of this route.",
            sqlstate=state,
        )


# As with logins, psycopg2 gives no SQLSTATE: PostgreSQL's 53300 in its four wordings, and PgBouncer's own.
_FULL: Final = (
    "too many clients already",
    "remaining connection slots are reserved",
    "too many connections for",
    "no more connections allowed",
)


def _login_failed(text: str) -> bool:
    # psycopg2 gives no SQLSTATE for an error during connect; these texts come from the server, in English
    # unless lc_messages says otherwise, and then the error is RouteDown, which is safe but less exact.
    return (
        any(
            mark in text
            for mark in ("password authentication failed", "no pg_hba.conf entry", "no password supplied")
        )
        or ('database "' in text and "does not exist" in text)
        or ('role "' in text and "does not exist" in text)
    )
