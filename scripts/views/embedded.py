"""The embedded ledger: the app's own recorder on an SQLite file below `.slipway/`.

Importing the database layer takes over a second, so that happens when the ledger is opened, not before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from scripts.views.ledger import Refused, Undelivered

FILE = "ledger.sqlite3"


class EmbeddedLedger:
    """Record events in the file below `folder`, which the first delivery makes or brings up to date."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._database = import_module("app.database")
        self._migrations = import_module("app.database.migrations.runner")
        self._recorder = import_module("app.ledger.recorder")
        self._cloudevents = import_module("app.ledger.cloudevents")
        self._settings = import_module("config.settings")
        self._manager: Any = None

    def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Record `events`, each once; raises Undelivered or Refused."""
        try:
            self._record(events)
        except self._cloudevents.InvalidEventError as error:
            raise Refused(str(error)) from error
        except Exception as error:  # whatever the database says, the result of the run stands
            raise Undelivered(str(error).partition("\n")[0]) from error

    def close(self) -> None:
        """Close the file."""
        if self._manager is not None:
            self._manager.close()

    def _record(self, events: Sequence[Mapping[str, Any]]) -> None:
        if self._manager is None:
            database = self._settings.load("development", part="app").database
            embedded = replace(database, adapter_order=("sqlite",), sqlite_path=self._file)
            self._manager = self._database.ConnectionManager.from_settings(embedded)
            self._migrations.upgrade(self._manager)
        with self._manager.transaction(label="ledger") as tx:
            self._recorder.record(tx, events)
