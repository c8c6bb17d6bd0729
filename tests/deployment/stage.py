"""A target of one test's own on the real engine, with a stack name and a port that nobody else has."""

import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from config.secret import Secret
from scripts.deployment import deployment, release, supply
from scripts.deployment.console import Foreground
from scripts.deployment.deployment import Deployment, Order
from scripts.deployment.errors import DeploymentError
from scripts.deployment.release import Release
from scripts.deployment.rollout import wait_gone
from scripts.deployment.swarm import Swarm
from scripts.deployment.target import Target
from scripts.deployment.watch import served_digest
from scripts.image import engine
from tests.deployment.images import ROOT, Image

SENTINEL = "sentinel-6f0c1d52-never-to-be-seen-anywhere"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass(kw_only=True)
class Stage:
    """Deploys to its own stack and remembers what was said."""

    target: Target
    swarm: Swarm = field(default_factory=Swarm)
    lines: list[str] = field(default_factory=list)

    def console(self) -> Foreground:
        """Return a console that remembers its lines."""
        return Foreground(self.lines.append)

    def order(self, image: Image, **changes: Any) -> Order:
        """Return the order to deploy an image, with changes to the target."""
        target = replace(self.target, repository=image.repository, **changes)
        return Order(
            target=target,
            digest=image.digest,
            root=ROOT,
            docker=tuple(engine.cli()),
            run="run-of-the-test",
            commit="c0ffee",
            lock_wait=0.0,
            proxy_image=supply.proxy_image(target, ROOT),
            supply=lambda: supply.provide(
                target, self.swarm, supply.proxy_image(target, ROOT), ROOT, self.quiet()
            ),
        )

    def quiet(self) -> Any:
        """Return a console for making images."""
        from scripts.image.console import Aside

        return Aside()

    def deploy(self, image: Image, console: Foreground | None = None, **changes: Any) -> Deployment:
        """Deploy an image and return what became of it."""
        return deployment.deploy(self.order(image, **changes), self.swarm, console or self.console())

    def observed(self, image: Image, **changes: Any) -> tuple[bool, str]:
        """Return whether a deployment would do anything, and why."""
        order = self.order(image, **changes)
        return deployment.observed(order.target, order.digest, ROOT, self.swarm, order.proxy_image)[:2]

    @property
    def serves(self) -> str:
        """Return the digest that the public address serves; empty when it serves none."""
        return served_digest(self.target.public_url)

    @property
    def releases(self) -> list[Release]:
        """Return the recorded releases, the newest first."""
        return release.all_of(self.swarm, self.target.stack)

    def remove(self) -> None:
        """Take everything of this stack off the engine."""
        stack = self.target.stack
        for service in (*self.swarm.services(stack), *self.swarm.jobs(stack)):
            self.swarm.remove_service(service["ID"])
        with suppress(DeploymentError):
            wait_gone(self.swarm, stack, 30.0)
        for config in self.swarm.configs(stack):
            self.swarm.remove_config(config["ID"])
        for secret in self.swarm.secrets(stack):
            self.swarm.remove_secret(secret["ID"])
        pause = threading.Event()
        client = engine.connect()
        try:
            for _ in range(100):
                volumes = client.volumes.list(filters={"label": f"dev.slipway.stack={stack}"})
                networks = client.networks.list(filters={"label": f"dev.slipway.stack={stack}"})
                if not volumes and not networks:
                    return
                for each in (*networks, *volumes):
                    with suppress(Exception):
                        each.remove()
                pause.wait(0.2)
            raise AssertionError(f"{stack} leaves {volumes} and {networks} behind")
        finally:
            client.close()


@contextmanager
def staged(**changes: Any) -> Iterator[Stage]:
    """Provide a stage for the block and take it down afterwards, whatever happens."""
    port = free_port()
    facts: dict[str, Any] = {
        "environment": "development",
        "stack": f"t{uuid.uuid4().hex[:10]}",
        "public_port": port,
        "public_url": f"http://127.0.0.1:{port}",
        "limit_cpus": 1.0,
        "health_start_period": 30.0,
        "health_interval": 1.0,
        "health_retries": 2,
        "monitor": 1.0,
        "watch": 1.0,
        "drain": 11.0,
        "variables": {"WEB_HOST": "0.0.0.0", "WEB_PORT": "8000"},
        "secrets": {"SECRET_KEY": Secret(SENTINEL), "LEDGER_TOKEN": Secret(f"token-{SENTINEL}")},
    }
    stage = Stage(target=Target(**{**facts, **changes}))
    try:
        yield stage
    finally:
        stage.remove()
