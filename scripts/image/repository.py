"""Where a project's images live: the registry, the name there, and the credentials for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.image.registry import Registry, is_loopback

if TYPE_CHECKING:
    from scripts.image.console import Console

LOOK_TIMEOUT = 5.0
"""Seconds that a look at the registry may take; a push or a pull waits longer."""


def place(registry: str, image_name: str) -> tuple[str, str]:
    """Return the registry's host and the image's name there; REGISTRY may hold a path behind the host."""
    host, _, path = registry.partition("/")
    return host, f"{path}/{image_name}" if path else image_name


def client(host: str, console: Console | None = None) -> Registry:
    """Return a client with the credentials that `docker login` has stored for the registry.

    With a console, transfers end when its work is cancelled; without one, only looks are meant.
    """
    username, password = stored_credentials(host)
    if console is None:
        return Registry(host, username=username, password=password, timeout=LOOK_TIMEOUT)
    return Registry(host, username=username, password=password, check=console.raise_if_cancelled)


def stored_credentials(host: str) -> tuple[str, str]:
    """Return user and password that `docker login` has stored for a registry, or two empty strings."""
    if is_loopback(host):
        return "", ""
    from docker import auth, errors

    try:
        found = auth.load_config().resolve_authconfig(host) or {}
    except errors.DockerException:
        found = {}
    username, password = (found.get(key) or found.get(key.title()) or "" for key in ("username", "password"))
    return username, password
