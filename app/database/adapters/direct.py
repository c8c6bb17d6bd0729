"""A managed PostgreSQL server over the network, by TLS that proves who the server is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from app.database.adapters.postgresql import PostgreSQL
from app.database.errors import AdapterMisconfigured

SYSTEM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_VERIFYING: Final = ("verify-ca", "verify-full")


class Direct(PostgreSQL):
    """A route to a server by name, whose certificate must carry that name."""

    kind = "direct"

    def __init__(
        self,
        *,
        hostaddr: str = "",
        sslmode: str = "verify-full",
        sslrootcert: Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not self.host:
            raise AdapterMisconfigured(
                f"The {self.kind} adapter has no host.",
                where="DB_HOST",
                next_step="Name the database server.",
            )
        if sslmode not in MODES:
            raise AdapterMisconfigured(
                f"{sslmode!r} is not an sslmode of libpq.",
                where="DB_SSLMODE",
                next_step=f"Use one of {MODES}.",
            )
        if sslrootcert is not None and not sslrootcert.is_file():
            raise AdapterMisconfigured(
                f"The CA file {sslrootcert} does not exist.",
                where="DB_SSLROOTCERT",
                next_step="Give the PEM file of the authority that signed the server's certificate.",
            )
        self.hostaddr = hostaddr
        self.sslmode = sslmode
        self.sslrootcert = sslrootcert

    def open(self, timeout: float) -> Any:
        """Connect by name; when the name does not resolve, by `hostaddr`, still checking the name."""
        import psycopg2

        arguments = {**self.arguments(timeout), **self.parameters()}
        try:
            return psycopg2.connect(**arguments)
        except psycopg2.OperationalError as error:
            if not self.hostaddr or "could not translate host name" not in str(error):
                raise
        return psycopg2.connect(**arguments, hostaddr=self.hostaddr)

    def parameters(self) -> dict[str, Any]:
        """Set TLS, and the server-side time-outs when the session starts."""
        return {
            **self.tls(),
            "options": " ".join(f"-c {name}={value}" for name, value in self.session_timeouts().items()),
        }

    def tls(self) -> dict[str, Any]:
        """Return the TLS parameters; a verifying mode always has a file of authorities."""
        if self.sslmode not in _VERIFYING:
            return {"sslmode": self.sslmode}
        bundle = str(self.sslrootcert) if self.sslrootcert else system_bundle()
        if bundle is None:
            raise AdapterMisconfigured(
                f"sslmode {self.sslmode} needs a file of certificate authorities, and this system has none.",
                where="DB_SSLROOTCERT",
                next_step="Give the PEM file of the authority that signed the server's certificate.",
            )
        return {"sslmode": self.sslmode, "sslrootcert": bundle, "ssl_min_protocol_version": "TLSv1.2"}


def system_bundle() -> str | None:
    """Return this system's file of certificate authorities."""
    candidates = (os.environ.get("SSL_CERT_FILE", ""), *SYSTEM_BUNDLES)
    return next((path for path in candidates if path and Path(path).is_file()), None)
