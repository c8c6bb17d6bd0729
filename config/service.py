"""The settings of the app, one class a group. A container gets these and no others."""

from dataclasses import dataclass
from pathlib import Path

from config.kinds import (
    Address,
    Boolean,
    Choice,
    File,
    Hidden,
    Host,
    Identity,
    Integer,
    Name,
    Names,
    NeededFile,
    Number,
    Url,
)
from config.secret import Secret
from config.variables import variable

ADAPTERS = ("sqlite", "local", "direct", "pooler")
TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
PORT = Integer(minimum=1, maximum=65535)
MODE = Choice(choices=TLS_MODES)


@dataclass(frozen=True, kw_only=True)
class Web:
    """How the service listens, works and stops."""

    host: str = variable("WEB_HOST", "Address that the service listens on", Host(), "0.0.0.0")  # noqa: S104 (a container's port is published by the proxy only)
    port: int = variable("WEB_PORT", "Port that the service listens on", PORT, 8000)
    replicas: int = variable("REPLICAS", "Containers of the service", Integer(minimum=1, maximum=50), 2)
    workers: int = variable("WEB_WORKERS", "Worker processes a container", Integer(minimum=1, maximum=64), 1)
    threads: int = variable("WEB_THREADS", "Threads a worker", Integer(minimum=1, maximum=256), 4)
    drain_seconds: float = variable(
        "WEB_DRAIN_SECONDS", "How long readiness says 503 before a stop begins", Number(maximum=300), 1.0
    )
    graceful_seconds: float = variable(
        "WEB_GRACEFUL_SECONDS", "How long requests in flight may take to finish", Number(maximum=3600), 10.0
    )
    debug: bool = variable(
        "DEBUG",
        "Show tracebacks in error answers, and start workers anew when their code changes",
        Boolean(),
        False,
    )


@dataclass(frozen=True, kw_only=True)
class Database:
    """Which routes lead to the database, and the limits on their use."""

    adapter_order: tuple[str, ...] = variable(
        "DB_ADAPTER_ORDER",
        "Routes to the one database, the preferred one first",
        Names(choices=ADAPTERS),
        ("sqlite",),
        example="pooler,direct",
    )
    sqlite_path: Path = variable(
        "DB_SQLITE_PATH", "File of the embedded database", NeededFile(), Path("var/ledger.sqlite3")
    )
    name: str = variable("DB_NAME", "Name of the database", Name(), "slipway")
    user: str = variable("DB_USER", "Role that the service logs in as", Name(), "slipway")
    password: Secret | None = variable(
        "DB_PASSWORD",
        "Password of that role; staging and production want one for a server",
        Hidden(characters=12, bits=25.0),
        None,
        rotates=True,
    )
    host: str = variable(
        "DB_HOST",
        "Server of the `direct` route, by the name in its certificate",
        Host(),
        "",
        example="db.internal",
    )
    hostaddr: str = variable(
        "DB_HOSTADDR",
        "Address of that server when its name is not to be looked up",
        Address(),
        "",
        example="10.0.0.5",
    )
    port: int = variable("DB_PORT", "Port of that server", PORT, 5432)
    sslmode: str = variable("DB_SSLMODE", "TLS of the `direct` route, as libpq names it", MODE, "verify-full")
    sslrootcert: Path | None = variable(
        "DB_SSLROOTCERT",
        "Certificates that sign the server's; empty for those of the system",
        File(),
        None,
        example="/etc/ssl/db-ca.pem",
    )
    local_host: str = variable(
        "DB_LOCAL_HOST",
        "Folder of the Unix socket, or loopback address, of the `local` route",
        Host(folder=True),
        "",
        example="/var/run/postgresql",
    )
    local_port: int = variable("DB_LOCAL_PORT", "Port of the `local` route", PORT, 5432)
    pooler_host: str = variable(
        "DB_POOLER_HOST", "PgBouncer of the `pooler` route", Host(), "", example="pgbouncer.internal"
    )
    pooler_port: int = variable("DB_POOLER_PORT", "Port of that PgBouncer", PORT, 6432)
    pooler_sslmode: str = variable("DB_POOLER_SSLMODE", "TLS of the `pooler` route", MODE, "verify-full")
    replica_host: str = variable(
        "DB_REPLICA_HOST", "Read-only copy for reads that allow it", Host(), "", example="replica.internal"
    )
    replica_port: int = variable("DB_REPLICA_PORT", "Port of that copy", PORT, 5432)
    identity: str = variable(
        "DB_IDENTITY",
        "The one database that is accepted, as `db.status` names it; empty for the first that answers",
        Identity(),
        "",
        example="postgresql:7571234567890123456/16384/slipway",
    )
    pool_size: int = variable(
        "DB_POOL_SIZE", "Most connections a worker", Integer(minimum=1, maximum=1000), 5
    )
    pool_max_waiting: int = variable(
        "DB_POOL_MAX_WAITING", "Most requests that may wait for one", Integer(minimum=0, maximum=10000), 50
    )
    budget_seconds: float = variable(
        "DB_BUDGET_SECONDS", "Time for waiting, connecting and retrying together", Number(minimum=0.05), 10.0
    )
    connect_timeout: float = variable(
        "DB_CONNECT_TIMEOUT", "Time for one attempt to connect", Number(minimum=0.05), 3.0
    )
    statement_timeout: float = variable(
        "DB_STATEMENT_TIMEOUT", "Time for one statement; 0 for no limit", Number(), 30.0
    )
    idle_in_transaction_timeout: float = variable(
        "DB_IDLE_IN_TRANSACTION_TIMEOUT",
        "Time that a transaction may sit idle; 0 for no limit",
        Number(),
        60.0,
    )
    max_lifetime: float = variable(
        "DB_MAX_LIFETIME", "Age at which a connection is replaced", Number(minimum=1), 1800.0
    )
    slow_query_seconds: float = variable(
        "DB_SLOW_QUERY_SECONDS", "A statement that takes longer is logged", Number(), 0.5
    )
    busy_timeout: float = variable(
        "DB_BUSY_TIMEOUT", "How long SQLite waits for another writer", Number(), 5.0
    )
    server_max_connections: int = variable(
        "DB_SERVER_MAX_CONNECTIONS",
        "max_connections of the server, for checking pool sizes",
        Integer(minimum=1, maximum=262143),
        100,
    )
    application_name: str = variable(
        "DB_APPLICATION_NAME",
        "How the service names itself to the server",
        Name(pattern=r"[\x20-\x7e]{1,63}", rule="1 to 63 printable ASCII characters"),
        "slipway",
    )


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Where runs are recorded, and the token that may record them."""

    url: str = variable(
        "LEDGER_URL",
        "Ledger that the pipeline reports to; empty for the embedded one",
        Url(schemes=("https", "http")),
        "",
        example="https://ledger.internal",
    )
    token: Secret | None = variable(
        "LEDGER_TOKEN", "Bearer token with all scopes", Hidden(characters=24, bits=50.0), None, rotates=True
    )


@dataclass(frozen=True, kw_only=True)
class Logging:
    """What is logged, and in which form."""

    level: str = variable(
        "LOG_LEVEL",
        "Least level that is logged",
        Choice(choices=("DEBUG", "INFO", "WARNING", "ERROR"), fold=True),
        "INFO",
    )
    format: str = variable(
        "LOG_FORMAT", "Lines for people or for programs", Choice(choices=("text", "json"), fold=True), "text"
    )


@dataclass(frozen=True, kw_only=True)
class Security:
    """What the service signs with."""

    secret_key: Secret = variable(
        "SECRET_KEY", "Key that Flask signs sessions with", Hidden(characters=32, bits=70.0)
    )
