"""Debian's PgBouncer in transaction mode, in front of a server of a test's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from app.database.adapters.pooler import Pooler
from scripts.pipeline.guardian import MARK
from tests.postgres import UNPRIVILEGED, Server, Settings, free_port, wait_until

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")


class Bouncer:
    """PgBouncer with at most `size` sessions a database; `databases` are its rules of which ones it knows."""

    def __init__(self, server: Server, *, size: int = 2, databases: str = "*") -> None:
        self.server = server
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="slipway-bouncer-"))
        self.folder.chmod(0o755)
        (self.folder / "users").write_text('"slipway" ""\n')
        self._rules = f"[databases]\n{databases} = host=127.0.0.1 port={{port}}\n"
        self._options = (
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {self.folder}/users\npool_mode = transaction\n"
            f"admin_users = slipway\ndefault_pool_size = {size}\nmax_client_conn = 200\n"
            "server_login_retry = 0.1\n"
        )
        self._configure()
        for file in self.folder.iterdir():
            file.chmod(0o644)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        self.process = subprocess.Popen(
            [PROGRAM or "pgbouncer", str(self.folder / "pgbouncer.ini")],
            # The mark lets whoever runs the suite find one that a killed test run left behind.
            env={"PATH": "/usr/bin:/bin", MARK: os.environ.get(MARK, "")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **({"user": UNPRIVILEGED} if os.geteuid() == 0 else {}),
        )
        wait_until(self._answers, what="PgBouncer's answer")

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it, by default with kill -9; either way every connection through it breaks."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(how)
            process.wait(10)

    def lead_to(self, server: Server) -> None:
        """Lead to another server from the next transaction on; its clients stay connected."""
        self.server = server
        self._configure()
        self.admin("RELOAD")

    def admin(self, command: str) -> list[tuple[Any, ...]]:
        """Run a command of the admin console, such as PAUSE or RESUME, and return its rows."""
        with closing(self.connect("pgbouncer")) as raw, raw.cursor() as cursor:
            cursor.execute(command)
            return cursor.fetchall() if cursor.description else []

    def connect(self, database: str = "postgres") -> Any:
        """Return a plain psycopg2 connection of a client that knows nothing of ours."""
        import psycopg2

        raw = psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            user="slipway",
            dbname=database,
            connect_timeout=5,
            application_name="stranger",  # PgBouncer itself carries a client's name from session to session
        )
        raw.autocommit = True
        return raw

    def pooler(self, **options: Any) -> Pooler:
        """Return our route through it."""
        found = {"database": "postgres", "user": "slipway", "sslmode": "disable", **options}
        return Pooler(host="127.0.0.1", port=self.port, **found)

    def settings(self, database: str = "postgres", **changes: Any) -> Settings:
        """Return settings with the pooler as their only route."""
        options = {"adapter_order": ("pooler",), "pooler_host": "127.0.0.1", "pooler_port": self.port}
        return self.server.settings(database, **{**options, **changes})

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _configure(self) -> None:
        (self.folder / "pgbouncer.ini").write_text(self._rules.format(port=self.server.port) + self._options)

    def _answers(self) -> bool:
        with suppress(Exception):
            return bool(self.admin("SHOW VERSION"))
        return False


@pytest.fixture
def bouncer() -> Iterator[Callable[..., Bouncer]]:
    """Return a maker of PgBouncers in front of a server; they end with the test."""
    if PROGRAM is None:
        pytest.skip("needs Debian's package pgbouncer")
    with ExitStack() as stack:

        def make(server: Server, **options: Any) -> Bouncer:
            made = Bouncer(server, **options)
            stack.callback(made.remove)
            return made

        yield make
