"""From settings to adapters: which routes there are and in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.database.errors import AdapterMisconfigured
from config.capacity import connections, largest_pool

if TYPE_CHECKING:
    from app.database.adapters.contract import Adapter
    from app.database.options import DatabaseSettings, Limits, Password

NAMES = ("sqlite", "local", "direct", "pooler")


def limits_of(settings: DatabaseSettings) -> Limits:
    """Return the manager's limits that `settings` ask for."""
    from app.database.options import Limits

    return Limits(
        pool_size=settings.pool_size,
        max_waiting=settings.pool_max_waiting,
        budget=settings.budget_seconds,
        connect_timeout=settings.connect_timeout,
        silence=min(1.0, settings.connect_timeout),
        max_lifetime=settings.max_lifetime,
        slow_query=settings.slow_query_seconds,
    )


def adapters_of(
    settings: DatabaseSettings, password: Password | None = None
) -> tuple[list[Adapter], list[Adapter]]:
    """Return the routes in order of preference, and the replicas; raise AdapterMisconfigured."""
    order = settings.adapter_order
    if not order:
        raise AdapterMisconfigured(
            "No route to a database is named.",
            where="DB_ADAPTER_ORDER",
            next_step=f"Name one or more of {NAMES}.",
        )
    unknown = [name for name in order if name not in NAMES]
    if unknown or len(set(order)) != len(order):
        raise AdapterMisconfigured(
            f"DB_ADAPTER_ORDER={','.join(order)} names an unknown adapter, or one twice.",
            where="DB_ADAPTER_ORDER",
            next_step=f"Name some of {', '.join(NAMES)}, each once.",
        )
    if "sqlite" in order and len(order) > 1:
        raise AdapterMisconfigured(
            "A database file and a server are two databases: an outage would write into the wrong one.",
            where=f"DB_ADAPTER_ORDER={','.join(order)}",
            next_step="Name sqlite alone, or only routes to one PostgreSQL database.",
        )
    password = password or fixed_password(settings)
    return [_MAKERS[name](settings, password) for name in order], _replicas(settings, password)


def check_capacity(
    pool_size: int, routes: int, processes: int, server_limit: int, *, where: str = "DB_POOL_SIZE"
) -> None:
    """Raise AdapterMisconfigured when all processes together could exceed the server's connections.

    The arithmetic is `config.capacity`'s, so that a check of the configuration says the same beforehand.
    """
    needed = connections(pool_size, routes, processes)
    most = max(1, largest_pool(server_limit, routes, processes))
    if needed > server_limit:
        raise AdapterMisconfigured(
            f"{processes} processes with up to {pool_size + routes} connections need {needed}, "
            f"and the server gives {server_limit}.",
            where=where,
            next_step=f"Lower DB_POOL_SIZE to {most}, run fewer workers or replicas, "
            "raise the server's max_connections, or put a pooler in front.",
        )


def fixed_password(settings: DatabaseSettings) -> Password:
    """Return a function that gives the password as the settings had it."""
    return lambda: settings.password.reveal() if settings.password is not None else None


def _common(settings: DatabaseSettings, password: Password) -> dict[str, Any]:
    return {
        "database": settings.name,
        "user": settings.user,
        "password": password,
        "application_name": settings.application_name,
        "statement_timeout": settings.statement_timeout,
        "idle_in_transaction_timeout": settings.idle_in_transaction_timeout,
    }


def _sqlite(settings: DatabaseSettings, _: Password) -> Adapter:
    from app.database.adapters.sqlite import Sqlite

    return Sqlite(settings.sqlite_path, busy_timeout=settings.busy_timeout)


def _local(settings: DatabaseSettings, password: Password) -> Adapter:
    from app.database.adapters.local import Local

    return Local(host=settings.local_host, port=settings.local_port, **_common(settings, password))


def _direct(settings: DatabaseSettings, password: Password) -> Adapter:
    from app.database.adapters.direct import Direct

    return Direct(
        host=settings.host,
        hostaddr=settings.hostaddr,
        port=settings.port,
        sslmode=settings.sslmode,
        sslrootcert=settings.sslrootcert,
        **_common(settings, password),
    )


def _pooler(settings: DatabaseSettings, password: Password) -> Adapter:
    from app.database.adapters.pooler import Pooler

    return Pooler(
        host=settings.pooler_host,
        port=settings.pooler_port,
        sslmode=settings.pooler_sslmode,
        sslrootcert=settings.sslrootcert,
        **_common(settings, password),
    )


def _replicas(settings: DatabaseSettings, password: Password) -> list[Adapter]:
    if not settings.replica_host:
        return []
    from app.database.adapters.direct import Direct

    return [
        Direct(
            name="replica",
            host=settings.replica_host,
            port=settings.replica_port,
            sslmode=settings.sslmode,
            sslrootcert=settings.sslrootcert,
            **_common(settings, password),
        )
    ]


_MAKERS: dict[str, Callable[[DatabaseSettings, Password], Adapter]] = {
    "sqlite": _sqlite,
    "local": _local,
    "direct": _direct,
    "pooler": _pooler,
}
