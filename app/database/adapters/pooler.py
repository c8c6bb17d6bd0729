"""PostgreSQL through PgBouncer in transaction mode: the next transaction may get another server session.

So nothing may outlive a transaction, and start-up options are not sent: the time-outs travel as SET LOCAL at
the start of each transaction. The session may even be another server's, which no client is told, so the
question who answers travels with them: PgBouncer keeps a session until its transaction ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from app.database.adapters.contract import PRIMARY
from app.database.adapters.direct import Direct
from app.database.adapters.session_rules import refuse_session_features
from app.database.errors import LoginRefused, RouteDown

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from app.database.adapters.contract import Facts
    from app.database.guard import Guard

_SERVER: Final = "SELECT pg_postmaster_start_time(), NOT pg_is_in_recovery(), current_database()"
"""As long as a server runs and is not promoted, its identity and its timeline stay what they are."""


class Pooler(Direct):
    """A route through a transaction pooler."""

    kind = "pooler"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        timeouts = self.session_timeouts().items()
        self._begin = "".join(f"SET LOCAL {name} = {value}; " for name, value in timeouts) + _SERVER

    def connect(self, timeout: float, guard: Guard | None = None) -> tuple[Connection, Any, Facts]:
        """Open a connection, and keep with it which server told its facts."""
        connection, raw, facts = super().connect(timeout, guard)
        database = facts.identity.split("/", 2)[2]
        connection.info["server"] = (facts.started, facts.role == PRIMARY, database)
        return connection, raw, facts

    def parameters(self) -> dict[str, Any]:
        """Set TLS only: a pooler refuses start-up options that it does not track."""
        return self.tls()

    def _make_engine(self) -> Engine:
        from sqlalchemy import event

        engine = super()._make_engine()

        def check(*arguments: Any) -> None:
            refuse_session_features(arguments[2])

        event.listen(engine, "before_cursor_execute", check)
        return engine

    def begin(self, connection: Connection, raw: Any, *, read_only: bool, within: float) -> None:
        """Begin, set the time-outs for this transaction only, and see that the same server answers.

        When another one does, close the connection and raise RouteDown: a fresh one tells what it is.
        """
        super().begin(connection, raw, read_only=read_only, within=within)
        connection.begin()  # or SQLAlchemy would not end a transaction in which nothing else was run
        with raw.cursor() as cursor:
            cursor.execute(self._begin)
            server = cursor.fetchone()
        if server != connection.info["server"]:
            raw.close()
            raise RouteDown("The pooler leads to another server than before.", where=self.describe())

    def explain(self, error: BaseException) -> Exception:
        """Tell a database that the pooler has no rule for from a server that is down."""
        if "no such database" in str(error):
            return LoginRefused(
                f"The pooler knows no database {self.database!r}.",
                where=self.describe(),
                next_step="Add it, or a rule `*` for every one, to PgBouncer's [databases], or use the "
                "direct adapter.",
            )
        return super().explain(error)
