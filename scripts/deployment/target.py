"""Where an environment runs, and whether a deployment could succeed there at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.deployment.errors import DeploymentError, TargetUnreachable
from scripts.image.console import Aside, one_at_a_time

if TYPE_CHECKING:
    from config.secret import Secret
    from config.settings import Settings
    from scripts.deployment.swarm import Json, Swarm

LOOPBACK = "127.0.0.1"
UNITS = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


@dataclass(frozen=True, kw_only=True)
class Target:
    """An environment's Docker endpoint, limits and addresses. Durations in seconds."""

    environment: str
    stack: str
    docker_host: str = ""
    registry: str = "127.0.0.1:5000"
    image_name: str = "slipway"
    repository: str = ""
    """Where the release was pushed, when that is not `registry/image_name`."""
    replicas: int = 2
    limit_memory: str = "256M"
    limit_cpus: float = 1.0
    limit_pids: int = 128
    public_url: str = "http://127.0.0.1:8080"
    public_port: int = 8080
    health_start_period: float = 10.0
    health_interval: float = 1.0
    health_retries: int = 3
    monitor: float = 5.0
    watch: float = 3.0
    error_rate_limit: float = 0.01
    timeout: float = 120.0
    drain: float = 12.0
    keep_releases: int = 5
    variables: Mapping[str, str] = field(default_factory=dict)
    """The app's settings that are no secret, as its container gets them."""
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    """The app's secrets, which its container gets as files."""
    ca_file: Path | None = None
    """The certificate authority of the database, which the container gets as a file."""
    proxy_image: str = ""
    """An image to use in place of the one that Slipway makes."""
    embedded: bool = True
    """The app keeps its data in a volume of its own (SQLite)."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Target:
        """Return the target that the settings describe."""
        from scripts.deployment.environment import container_secrets, container_variables

        delivery = settings.delivery
        if delivery is None:
            raise DeploymentError(
                "The settings were loaded without the delivery part.",
                "config.settings.load",
                "Load them whole.",
            )
        return cls(
            environment=settings.environment,
            stack=delivery.stack_name,
            docker_host=delivery.docker_host,
            registry=delivery.registry,
            image_name=delivery.image_name,
            replicas=settings.web.replicas,
            limit_memory=delivery.limit_memory,
            limit_cpus=delivery.limit_cpus,
            limit_pids=delivery.limit_pids,
            public_url=delivery.public_url,
            public_port=delivery.public_port,
            health_start_period=delivery.health_start_period,
            health_interval=delivery.health_interval,
            health_retries=delivery.health_retries,
            monitor=delivery.monitor_seconds,
            watch=delivery.watch_seconds,
            error_rate_limit=delivery.error_rate_limit,
            timeout=delivery.deploy_timeout,
            drain=settings.web.drain_seconds + settings.web.graceful_seconds,
            keep_releases=delivery.keep_releases,
            variables=container_variables(settings),
            secrets=container_secrets(settings),
            ca_file=settings.database.sslrootcert,
            embedded="sqlite" in settings.database.adapter_order,
        )

    @property
    def image(self) -> str:
        """Return the repository of the app's image on the target's registry."""
        return self.repository or f"{self.registry}/{self.image_name}"

    @property
    def network(self) -> str:
        """Return the name of the stack's overlay network."""
        return f"{self.stack}_app"

    @property
    def proves_ready_within(self) -> float:
        """Return the seconds after which a task is healthy or has been called unhealthy."""
        probe = 5.0
        return self.health_start_period + (self.health_interval + probe) * self.health_retries + 2.0


def size(text: str) -> int:
    """Return a size like `256M` in bytes; raise ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([bkmg]?)b?", text.strip().lower())
    if match is None:
        raise ValueError(text)
    return int(float(match[1]) * UNITS[match[2]])


def check(swarm: Swarm, target: Target, say: Callable[[str], None] = lambda _line: None) -> None:
    """Prove that the target's engine is a swarm manager whose nodes could run the release.

    An engine of `development` that is in no swarm is made a swarm of one node, and that is said. Raises
    `TargetUnreachable` or `DeploymentError`.
    """
    info = swarm.info()
    state = info.get("Swarm", {}).get("LocalNodeState", "inactive")
    where = target.docker_host or "this machine's Docker engine"
    if state in ("inactive", "pending") and target.environment == "development":
        with one_at_a_time("swarm", Aside()):
            if swarm.info().get("Swarm", {}).get("LocalNodeState") != "active":
                say(f"this engine is in no swarm: docker swarm init --advertise-addr {LOOPBACK}")
                swarm.initialise(LOOPBACK)
    elif state != "active":
        raise TargetUnreachable(
            f"The target's engine is in no swarm (its state is {state!r}).",
            where,
            "Run `docker swarm init` there once, or join it to your swarm as a manager.",
        )
    elif not info["Swarm"].get("ControlAvailable"):
        raise TargetUnreachable(
            "The target's engine is a swarm worker, and only a manager can deploy.",
            where,
            "Point TARGET_DOCKER_HOST at a manager.",
        )
    _check_capacity(swarm.nodes(), target)


def _check_capacity(nodes: list[Json], target: Target) -> None:
    ready = [
        node
        for node in nodes
        if node.get("Status", {}).get("State") == "ready" and node["Spec"].get("Availability") == "active"
    ]
    if not ready:
        raise TargetUnreachable(
            f"None of the swarm's {len(nodes)} nodes is ready and active.",
            target.stack,
            "See `docker node ls` there.",
        )
    memory = max(node["Description"]["Resources"].get("MemoryBytes", 0) for node in ready)
    cpus = max(node["Description"]["Resources"].get("NanoCPUs", 0) for node in ready) / 1e9
    if size(target.limit_memory) > memory:
        raise DeploymentError(
            f"No node could hold a replica: LIMIT_MEMORY is {target.limit_memory}, the largest node has "
            f"{memory // 1024**2}M.",
            target.stack,
            "Lower LIMIT_MEMORY or add a larger node.",
        )
    if target.limit_cpus > cpus:
        raise DeploymentError(
            f"No node could hold a replica: LIMIT_CPUS is {target.limit_cpus:g}, the largest has {cpus:g}.",
            target.stack,
            "Lower LIMIT_CPUS or add a larger node.",
        )
