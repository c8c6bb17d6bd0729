"""Put an earlier release back as it was: image, configuration and secrets together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from scripts.deployment import deployment, release
from scripts.deployment.console import Console
from scripts.deployment.deployment import Deployment, Order
from scripts.deployment.errors import DeploymentError
from scripts.deployment.release import Release
from scripts.deployment.swarm import Swarm


def choose(releases: Iterable[Release], to: str = "") -> Release:
    """Return the release to go back to: the one named, else the last good one that differs from what serves.

    `to` is a number or the start of a digest. Raises `DeploymentError` when there is none.
    """
    known = list(releases)
    current = release.current(known)
    good = [each for each in known if each.good]
    if to:
        found = [each for each in good if _named(each, to)]
        if not found:
            raise DeploymentError(
                f"There is no good release {to!r}.",
                "the target",
                f"Choose one of: {', '.join(str(each.number) for each in good) or 'none yet'}.",
            )
        return found[0]
    differing = [each for each in good if current and each.fingerprint != current.fingerprint]
    if not differing:
        raise DeploymentError(
            "There is no earlier good release to go back to.", "the target", "Deploy one: `invoke deploy`."
        )
    return differing[0]


def _named(each: Release, to: str) -> bool:
    if to.isdecimal() and len(to) < 12:
        return each.number == int(to)
    wanted = to.removeprefix("sha256:")
    return len(wanted) >= 6 and each.digest.removeprefix("sha256:").startswith(wanted)


def rollback(
    order: Order, to: str, swarm: Swarm, console: Console, warn: Callable[[str], None]
) -> Deployment:
    """Deploy the chosen release again and mark the one that it replaces as rolled back.

    A migration that lies between is not undone, and `warn` is told. Raises what `deployment.deploy` raises.
    """
    known = release.all_of(swarm, order.target.stack)
    current = release.current(known)
    chosen = choose(known, to)
    missing = absent(swarm, order.target.stack, chosen)
    if missing:
        raise DeploymentError(
            f"{chosen} cannot come back: {', '.join(missing)} is gone from the target.",
            f"stack {order.target.stack}",
            "Choose another with --to, or deploy it anew.",
        )
    if current and current.schema != chosen.schema and current.schema and chosen.schema:
        warn(
            f"a migration lies between: the schema stays at {current.schema}, and "
            f"{chosen} was made for {chosen.schema}; `invoke db.downgrade` takes the schema back"
        )
    console.say(f"from {current} to {chosen}" if current else f"to {chosen}")
    meant = replace(order, digest=chosen.digest, copy=chosen, expects=current.number if current else None)
    done = deployment.deploy(meant, swarm, console)
    if current is not None and current.number != chosen.number:
        release.mark(swarm, order.target.stack, current, state=release.ROLLED_BACK)
    return replace(done, result=release.ROLLED_BACK, commit=chosen.commit)


def absent(swarm: Swarm, stack: str, chosen: Release) -> list[str]:
    """Return the secrets and configs of a release that the target no longer has."""
    present = {each["Spec"]["Name"] for each in (*swarm.secrets(stack), *swarm.configs(stack))}
    return sorted({*chosen.secrets.values(), *chosen.configs.values()} - present)
