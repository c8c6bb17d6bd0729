"""The proxy's image: from this tree's recipe on the target's engine, or by the name that is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.deployment.swarm import Swarm
from scripts.deployment.target import Target


def proxy_image(target: Target, root: Path) -> str:
    """Return the reference of the proxy's image, asking no engine."""
    from scripts.image import services

    return target.proxy_image or services.name_of("proxy", root)


def provide(target: Target, swarm: Swarm, reference: str, root: Path, console: Any) -> None:
    """See that the target's engine holds the proxy's image; make it there when it does not."""
    if target.proxy_image or swarm.has_image(reference):
        return
    from scripts.image import services
    from scripts.image.engine import connect

    client = connect(target.docker_host)
    try:
        services.ensure(client, "proxy", docker_host=target.docker_host, root=root, console=console)
    finally:
        client.close()
