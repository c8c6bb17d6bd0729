"""What the tasks `rollback`, `status`, `logs`, `prune` and `unlock` do; each returns the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.deployment.swarm import Swarm
from scripts.deployment.target import Target

if TYPE_CHECKING:
    from scripts.deployment.deployment import Deployment

Write = Callable[[str], None]
ROOT = Path(__file__).parents[2]
CANCELLED = {1: 129, 2: 130, 15: 143}


def target_of(environment: str, root: Path = ROOT) -> Target:
    """Return an environment's target; an empty name means the one that is chosen on this machine.

    The secrets of `development` are made up when they are missing.
    """
    from config.settings import Sources, load
    from scripts.deployment.secrets import prepare

    sources = Sources(root=root)
    prepare(environment or None, sources)
    return Target.from_settings(load(environment or None, sources))


def rollback(
    environment: str,
    to: str,
    write: Write,
    warn: Write,
    root: Path = ROOT,
    *,
    remember: Callable[[Deployment], None] = lambda _: None,
) -> int:
    """Put an earlier release back and `remember` it; raises what `deployment.deploy` raises."""
    from scripts.deployment import rollback as back
    from scripts.deployment import supply
    from scripts.deployment.console import Foreground
    from scripts.deployment.deployment import Order
    from scripts.deployment.errors import DeploymentError
    from scripts.image.engine import cli
    from scripts.pipeline.errors import Cancelled

    target = target_of(environment, root)
    swarm = Swarm(target.docker_host)
    order = Order(
        target=target,
        digest="",
        root=root,
        docker=tuple(cli(target.docker_host)),
        run=f"rollback-{datetime.now(UTC):%Y%m%dT%H%M%SZ}",
        proxy_image=supply.proxy_image(target, root),
    )
    console = Foreground(write)
    with console.listening():
        try:
            done = back.rollback(order, to, swarm, console, warn)
        except Cancelled:
            return CANCELLED[console.signal]
        except DeploymentError as error:
            for line in error.details:
                warn(line)
            raise
    remember(done)
    return 0


def status(environment: str, write: Write, *, as_json: bool = False, root: Path = ROOT) -> int:
    """Show what runs in an environment, or in all; an unreachable one is an error only when it is named."""
    from config.environments import ENVIRONMENTS
    from config.errors import ConfigurationError
    from scripts.deployment import status as state
    from scripts.deployment.errors import TargetUnreachable

    names = [environment] if environment else [each.name for each in ENVIRONMENTS if each.name != "testing"]
    found = []
    for name in names:
        try:
            target = target_of(name, root)
            found.append(state.of(target, Swarm(target.docker_host)))
        except ConfigurationError:
            if environment:
                raise
            reason = f"`invoke config.check --env={name}` says what is missing"
            found.append(state.Status(environment=name, state="not configured", reason=reason))
        except TargetUnreachable as error:
            if environment:
                raise
            found.append(state.Status(environment=name, state="unreachable", reason=error.what))
    if as_json:
        write(json.dumps({"environments": [each.as_dict() for each in found]}, indent=2))
    else:
        for each in found:
            for line in state.lines_of(each):
                write(line)
    return 0


def logs(
    environment: str, write: Write, *, service: str, follow: bool, since: str, tail: int, root: Path = ROOT
) -> int:
    """Show what a service wrote; Ctrl-C ends following."""
    from scripts.deployment import logs as reader
    from scripts.image.engine import cli

    target = target_of(environment, root)
    try:
        reader.logs(
            target,
            Swarm(target.docker_host),
            cli(target.docker_host),
            write,
            service=service,
            follow=follow,
            since=since,
            tail=tail,
        )
    except KeyboardInterrupt:
        return 130
    return 0


def prune(environment: str, write: Write, root: Path = ROOT) -> int:
    """Drop old releases, their secrets and configs, and this engine's images of them."""
    from scripts.deployment import prune as old
    from scripts.deployment.lock import held

    target = target_of(environment, root)
    swarm = Swarm(target.docker_host)
    with held(swarm, target.stack, run="prune", purpose="pruning", wait=10.0):
        pruned = old.old_releases(swarm, target.stack, target.keep_releases)
        images = old.old_images(swarm, target.stack, target.image, target.keep_releases)
    for name in (*pruned.releases, *pruned.secrets, *pruned.configs, *pruned.jobs, *images):
        write(f"dropped {name}")
    write(f"{pruned.count + len(images)} things dropped, the last {target.keep_releases} releases kept")
    return 0


def unlock(environment: str, write: Write, root: Path = ROOT) -> int:
    """Break an environment's lock, whoever holds it."""
    from scripts.deployment import lock

    target = target_of(environment, root)
    holder = lock.unlock(Swarm(target.docker_host), target.stack)
    write(f"broke the lock of {holder}" if holder else f"nobody holds the lock of {target.stack}")
    return 0
