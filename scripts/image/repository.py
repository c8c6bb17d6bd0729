"""Where a project's images live: the registry, the name there, and the credentials for it."""

from __future__ import annotations

import base64
import json
import subprocess
from typing import TYPE_CHECKING

from scripts.image.registry import Registry, RegistryRefused, is_loopback
from scripts.pipeline.errors import UsageError

if TYPE_CHECKING:
    from config.settings import Settings
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


def pull_credentials(host: str) -> str:
    """Return the stored credentials as the engine's X-Registry-Auth header has them, or "" for none."""
    username, password = stored_credentials(host)
    if not username:
        return ""
    content = {"username": username, "password": password, "serveraddress": host}
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def login(settings: Settings) -> str:
    """Hand REGISTRY_USER and REGISTRY_PASSWORD to `docker login`, and say in a line what was done.

    Everything that talks to the registry uses what docker has stored. Raises UsageError when one of the two
    is missing, RegistryRefused when the registry does not take them, DockerCommandMissing.
    """
    from scripts.image.engine import cli

    delivery = settings.delivery
    if delivery is None:
        raise ValueError("a login needs the settings of the delivery")
    host, _ = place(delivery.registry, delivery.image_name)
    if is_loopback(host):
        return f"{host} is on this machine and wants no login"
    if not delivery.registry_user or delivery.registry_password is None:
        raise UsageError(
            f"There are no credentials for {host}",
            "REGISTRY_USER and REGISTRY_PASSWORD",
            "set both (the password also as a file: REGISTRY_PASSWORD_FILE), or run docker login yourself",
        )
    done = subprocess.run(
        [*cli(), "login", "--username", delivery.registry_user, "--password-stdin", host],
        input=delivery.registry_password.reveal(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RegistryRefused(
            f"The registry does not take the credentials: {last}",
            host,
            "check REGISTRY_USER and its password",
        )
    return f"logged in to {host} as {delivery.registry_user}"
