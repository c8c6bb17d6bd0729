"""What the app's container is told: the settings that differ from their defaults, and its secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.secret import Secret
    from config.settings import Settings

FIXED = {"WEB_HOST": "0.0.0.0", "WEB_PORT": "8000"}  # noqa: S104 - only the stack's network is there
"""The proxy and the health check count on these, whatever a developer's own `.env` says."""
NOT_FOR_THE_APP = frozenset({"LEDGER_URL", "DB_SQLITE_PATH", "DB_SSLROOTCERT"})
"""The pipeline's own, or a path on the deploying machine: the stack gives the container's."""


def container_variables(settings: Settings) -> dict[str, str]:
    """Return the environment of the app's container: every setting that is no secret and that somebody set.

    Defaults are left to the image, so that an older release is not told of settings that it does not know.
    """
    from config.sources import Place

    return {
        name: value
        for name, value in settings.public_values("app").items()
        if name not in NOT_FOR_THE_APP
        and name in settings.origins
        and settings.origins[name].place is not Place.DEFAULT
    } | FIXED


def container_secrets(settings: Settings) -> dict[str, Secret]:
    """Return the secrets of the app's container, by the name of their variable."""
    return settings.secret_values("app")
