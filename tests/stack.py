"""Take a test's stack out of the engine, with all that belongs to it."""

from typing import Any

from scripts.image.engine import connect
from tests.postgres import wait_until


def remove(stack: str) -> None:
    """Remove a stack's services, containers, configs, secrets, volumes and networks."""
    client = connect()
    mine = {"label": f"com.docker.stack.namespace={stack}"}
    for service in client.services.list(filters=mine):
        service.remove()
    wait_until(
        lambda: not client.containers.list(all=True, filters=mine, ignore_removed=True),
        60,
        "the end of the stack's containers",
    )
    for kind in (client.configs, client.secrets, client.volumes):
        for item in kind.list():
            if item.name.startswith(stack):
                item.remove()
    for network in client.networks.list(filters=mine):
        wait_until(lambda network=network: gone(network), 30, f"the end of network {network.name}")


def gone(network: Any) -> bool:
    """Remove a network; tell whether it is gone, which it is not while a container still leaves it."""
    from docker.errors import APIError

    try:
        network.remove()
    except APIError as error:
        return bool(error.status_code == 404)
    return True
