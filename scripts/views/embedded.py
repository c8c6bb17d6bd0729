"""The embedded ledger: the app's own recorder on an SQLite file below `.slipway/`."""

from pathlib import Path

FILE = "ledger.sqlite3"


class EmbeddedLedger:
    """Record events in the file below `folder`; its tables are made when they are missing."""

    def __init__(self, folder: Path) -> None:
        """Load the database layer and open the file."""
        from dataclasses import replace

        from app.database import ConnectionManager
        from app.database.migrations import runner
        from config.settings import load

        database = replace(
            load("development", part="app").database, adapter_order=("sqlite",), sqlite_path=folder / FILE
        )
        self._manager = ConnectionManager.from_settings(database)
        runner.upgrade(self._manager)
