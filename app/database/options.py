"""The settings that this layer reads, by name; `config.settings` has a class that fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Password = Callable[[], str | None]
"""Asked at every connect, so that a changed secret is used without a restart."""


class Revealable(Protocol):
    """A secret that shows its text only when asked."""

    def reveal(self) -> str:
        """Return the text."""
        ...


class DatabaseSettings(Protocol):
    """What `ConnectionManager.from_settings` reads; times are seconds."""

    @property
    def adapter_order(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def sqlite_path(self) -> Path: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def user(self) -> str: ...  # noqa: D102
    @property
    def password(self) -> Revealable | None: ...  # noqa: D102
    @property
    def host(self) -> str: ...  # noqa: D102
    @property
    def hostaddr(self) -> str: ...  # noqa: D102
    @property
    def port(self) -> int: ...  # noqa: D102
    @property
    def sslmode(self) -> str: ...  # noqa: D102
    @property
    def sslrootcert(self) -> Path | None: ...  # noqa: D102
    @property
    def local_host(self) -> str: ...  # noqa: D102
    @property
    def local_port(self) -> int: ...  # noqa: D102
    @property
    def pooler_host(self) -> str: ...  # noqa: D102
    @property
    def pooler_port(self) -> int: ...  # noqa: D102
    @property
    def pooler_sslmode(self) -> str: ...  # noqa: D102
    @property
    def replica_host(self) -> str: ...  # noqa: D102
    @property
    def replica_port(self) -> int: ...  # noqa: D102
    @property
    def identity(self) -> str: ...  # noqa: D102
    @property
    def pool_size(self) -> int: ...  # noqa: D102
    @property
    def pool_max_waiting(self) -> int: ...  # noqa: D102
    @property
    def budget_seconds(self) -> float: ...  # noqa: D102
    @property
    def connect_timeout(self) -> float: ...  # noqa: D102
    @property
    def statement_timeout(self) -> float: ...  # noqa: D102
    @property
    def idle_in_transaction_timeout(self) -> float: ...  # noqa: D102
    @property
    def max_lifetime(self) -> float: ...  # noqa: D102
    @property
    def slow_query_seconds(self) -> float: ...  # noqa: D102
    @property
    def busy_timeout(self) -> float: ...  # noqa: D102
    @property
    def server_max_connections(self) -> int: ...  # noqa: D102
    @property
    def application_name(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How patient the manager is; times are seconds. Each default says what it protects."""

    pool_size: int = 5
    max_waiting: int = 50
    budget: float = 10.0
    connect_timeout: float = 3.0
    silence: float = 1.0
    """A connection that does not answer `SELECT 1`, or a statement that makes us suspect its route."""
    fresh: float = 0.5
    """A connection used within this time is lent again without a check."""
    max_lifetime: float = 1800.0
    leak: float = 60.0
    """A transaction held longer is reported with its owner."""
    slow_query: float = 0.5
    failback: float = 5.0
    """A preferred route must stay well for this long, and for `failback_probes` probes, to be used again."""
    failback_probes: int = 3
    breaker_threshold: int = 3
    breaker_cooldown: float = 0.25
    breaker_cooldown_limit: float = 5.0

    def __post_init__(self) -> None:
        if self.pool_size < 1:
            raise ValueError("pool_size must be at least 1 connection")
        if self.max_waiting < 0:
            raise ValueError("max_waiting must not be negative")
        for name in ("budget", "connect_timeout", "silence", "max_lifetime", "leak"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0 seconds")
