"""PostgreSQL on this machine: a Unix socket or a loopback address, never the network."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from app.database.adapters.postgresql import PostgreSQL
from app.database.errors import AdapterMisconfigured


class Local(PostgreSQL):
    """A route that never leaves this machine, so it needs no TLS."""

    kind = "local"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not _stays_here(self.host):
            raise AdapterMisconfigured(
                f"The local adapter does not connect to {self.host!r}: it would cross the network in clear.",
                where="DB_LOCAL_HOST",
                next_step="Give the folder of the socket or a loopback address, or use the direct adapter.",
            )

    def parameters(self) -> dict[str, Any]:
        """Skip TLS, and set the server-side time-outs when the session starts."""
        return {
            "sslmode": "disable",
            "options": " ".join(f"-c {name}={value}" for name, value in self.session_timeouts().items()),
        }


def _stays_here(host: str) -> bool:
    if host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
