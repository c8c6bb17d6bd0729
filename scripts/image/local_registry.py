"""Run a registry on this machine's loopback for the environments that have none of their own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scripts.image import services
from scripts.image.console import Aside, Console
from scripts.image.registry import Registry, RegistryUnreachable

if TYPE_CHECKING:
    from pathlib import Path

    import docker
    from docker.models.containers import Container

CONTAINER = "slipway-registry"
DEFAULT = "127.0.0.1:5000"
PATIENCE = 20.0


def ensure(
    client: docker.DockerClient,
    address: str = DEFAULT,
    *,
    image: str = "",
    base_image: str = "",
    container: str = CONTAINER,
    root: Path = services.ROOT,
    console: Console | None = None,
) -> str:
    """Return the address of a registry on loopback that answers, starting its container when there is none.

    Whatever registry already answers there is used. Its images live in a volume with the container's name.
    Raises RegistryUnreachable (exit 4) when another program has the port.
    """
    console = console or Aside()
    registry = Registry(address, timeout=5.0, check=console.raise_if_cancelled)
    if registry.answers():
        return address
    present = _find(client, container)
    if present is not None and _published(present) != address:
        # It was started for another address; its images are in the volume, so nothing is lost with it.
        present.remove(force=True)
        present = None
    if present is None:
        reference = services.ensure(
            client, "registry", image=image, base_image=base_image, root=root, console=console
        )
        console.progress(f"starting a registry on {address}")
        present = _create(client, reference, address, container)
    _start(present, address)
    until = time.monotonic() + PATIENCE
    while not registry.answers():
        console.raise_if_cancelled()
        if time.monotonic() > until:
            raise _silent(present, address)
        console.cancelled.wait(0.1)
    console.say(f"registry {container} serves on {address}")
    return address


def _find(client: docker.DockerClient, name: str) -> Container | None:
    from docker.errors import NotFound

    try:
        return client.containers.get(name)
    except NotFound:
        return None


def _published(container: Container) -> str:
    bindings = container.attrs["HostConfig"].get("PortBindings") or {}
    first = (bindings.get("5000/tcp") or [{}])[0]
    return f"{first.get('HostIp', '')}:{first.get('HostPort', '')}"


def _create(client: docker.DockerClient, image: str, address: str, name: str) -> Container:
    from docker.errors import APIError

    host, _, port = address.rpartition(":")
    options: dict[str, Any] = {
        "name": name,
        "ports": {"5000/tcp": (host.replace("localhost", "127.0.0.1"), int(port))},
        "volumes": {name: {"bind": "/var/lib/registry", "mode": "rw"}},
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "mem_limit": "256m",
        "nano_cpus": 1_000_000_000,
        "pids_limit": 64,
        "restart_policy": {"Name": "unless-stopped"},
        "log_config": {"type": "json-file", "config": {"max-size": "5m", "max-file": "2"}},
        "labels": {"dev.slipway.role": "registry"},
    }
    try:
        return client.containers.create(image, **options)
    except APIError as error:
        if error.status_code == 409 and (present := _find(client, name)) is not None:
            return present
        raise


def _start(container: Container, address: str) -> None:
    from docker.errors import APIError

    try:
        container.start()
    except APIError as error:
        container.remove(force=True)
        if "port is already allocated" in str(error) or "address already in use" in str(error):
            raise RegistryUnreachable(
                "The registry's port is taken by another program that is no registry",
                address,
                "free it, or set REGISTRY to another port of 127.0.0.1",
            ) from error
        raise


def _silent(container: Container, address: str) -> RegistryUnreachable:
    log = container.logs(tail=5).decode("utf-8", "replace").strip()
    return RegistryUnreachable(
        f"The registry started but does not answer within {PATIENCE:.0f} s: {log or 'its log is empty'}",
        f"container {container.name}, {address}",
        f'look at it: "docker logs {container.name}"',
    )
