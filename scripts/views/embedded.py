"""The embedded ledger: the app's own recorder on an SQLite file below `.slipway/`.

Importing this takes over a second, for it loads the database layer: only a run that lasts does.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from app.database import ConnectionManager, DatabaseError, Limits
from app.database.adapters.sqlite import Sqlite
from app.database.migrations import runner
from app.database.migrations.errors import MigrationError
from app.ledger.cloudevents import InvalidEventError
from app.ledger.recorder import record
from scripts.views.ledger import Refused, Undelivered

FILE = "ledger.sqlite3"
WAIT = 2.0
"""Seconds for another run that is writing or making the tables."""


class EmbeddedLedger:
    """Record events in the file below `folder`, which the first delivery makes or brings up to date."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._manager: ConnectionManager | None = None

    def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Record `events`, each once; raises Undelivered or Refused."""
        try:
            if self._manager is None:
                route = Sqlite(self._file, busy_timeout=WAIT)
                self._manager = ConnectionManager([route], limits=Limits(budget=WAIT))
                runner.upgrade(self._manager, wait=WAIT)
            with self._manager.transaction(label="ledger") as tx:
                record(tx, events)
        except InvalidEventError as error:
            raise Refused(str(error)) from error
        except (DatabaseError, MigrationError, SQLAlchemyError) as error:
            raise Undelivered(f"{self._file.name}: {str(error).partition(chr(10))[0]}") from error

    def close(self) -> None:
        """Close the file."""
        if self._manager is not None:
            self._manager.close()
