"""Put a release on a target, or leave the target as it was.

The steps are in the order of `deploy`, from top to bottom. Everything before the first change may simply
raise; everything after it goes through `_put_back`, whatever ends it: a failure, a time-out or an order to
stop.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scripts.deployment import embedded_backup, job, prune, release, rollout, secrets, stack, target, watch
from scripts.deployment.console import Console
from scripts.deployment.difference import difference, drift, short
from scripts.deployment.errors import (
    DeploymentError,
    DeploymentFailed,
    EngineRefused,
    NothingServes,
)
from scripts.deployment.lock import Lock, held, owner
from scripts.deployment.release import Release
from scripts.deployment.stack import Rendering
from scripts.deployment.swarm import Swarm
from scripts.deployment.target import Target
from scripts.pipeline.errors import Cancelled

LOCK_WAIT_SECONDS = 60.0
PUT_BACK_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What became of a deployment. `seconds` from taking the lock to the end."""

    environment: str
    result: str
    digest: str
    previous: str
    url: str
    number: int
    seconds: float
    requests: int = 0
    errors: int = 0
    commit: str = ""
    """The commit that the release came from, where it is known."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to deploy where, and for whom."""

    target: Target
    digest: str
    root: Path
    docker: tuple[str, ...]
    """The start of a docker command line that is pointed at the target."""
    run: str = ""
    commit: str = ""
    lock_wait: float = LOCK_WAIT_SECONDS
    supply: Callable[[], None] = lambda: None
    """Bring what the target needs and no registry has: the proxy's image on a single node."""
    proxy_image: str = ""
    copy: Release | None = None
    """A recorded release to put back as it was, instead of rendering this tree's stack."""
    expects: int | None = None
    """The number of the release that must still be the current one once the lock is held."""


def deploy(order: Order, swarm: Swarm, console: Console) -> Deployment:
    """Put a release on its target and return what became of it.

    Raises `DeploymentFailed` (exit 3) when the release did not serve and what served before serves again,
    `NothingServes` when it could not be put back, `DeploymentError` when nothing was changed, and Cancelled
    after putting back when told to stop.
    """
    aim = order.target
    target.check(swarm, aim, console.say)
    with held(
        swarm,
        aim.stack,
        run=order.run,
        purpose=f"deploying {short(order.digest)}",
        wait=order.lock_wait,
        waiting=console.say,
        check=console.raise_if_cancelled,
    ) as lock:
        started = time.monotonic()
        known = _settle(swarm, aim.stack)
        current = release.current(known)
        if order.expects is not None and (current is None or current.number != order.expects):
            raise DeploymentError(
                f"Another deployment changed what serves meanwhile: now it is {current}.",
                f"stack {aim.stack}",
                "See `invoke status`, then roll back again if it is still wanted.",
            )
        rendering = (
            recorded(order.copy)
            if order.copy
            else stack.render(aim, order.digest, order.root, proxy_image=order.proxy_image)
        )
        for line in difference(current, rendering) or ["nothing differs from the current release"]:
            console.say(line)
        services = swarm.services(aim.stack)
        if current and services and drift(current, release.services_hash(services)):
            console.say("the running services were changed by hand since then; that is undone")
        console.raise_if_cancelled()
        order.supply()
        with tempfile.TemporaryDirectory(prefix="slipway-") as scratch:
            text = (
                order.copy.text
                if order.copy
                else stack.composed(list(order.docker), rendering, order.root, Path(scratch))
            )
        return _change(order, swarm, console, lock, known, current, rendering, text, started)


def recorded(source: Release) -> Rendering:
    """Return the rendering of a recorded release, to deploy it again as it was."""
    return Rendering(
        stack=source.values["STACK_NAME"],
        digest=source.digest,
        values=source.values,
        environment=source.environment,
        secrets=source.secrets,
        configs=source.configs,
        pids=0,
        volume=f"{source.values['STACK_NAME']}_data" if "DB_SQLITE_PATH" in source.environment else "",
        file_hash="",
    )


def _settle(swarm: Swarm, name: str) -> list[Release]:
    """Return the known releases; a deployment that never ended and holds no lock any more was lost."""
    return [
        release.mark(swarm, name, each, state=release.LOST) if each.state == release.DEPLOYING else each
        for each in release.all_of(swarm, name)
    ]


def _change(
    order: Order,
    swarm: Swarm,
    console: Console,
    lock: Lock,
    known: list[Release],
    current: Release | None,
    rendering: Rendering,
    text: str,
    started: float,
) -> Deployment:
    aim = order.target
    before = rollout.snapshot(swarm, aim.stack)
    deadline = time.monotonic() + aim.timeout  # for the target, not for the image that was made before
    new = release.record(swarm, aim.stack, _release(order, rendering, text), known)
    previous = current.digest if current else ""
    try:
        if order.copy is None:
            swarm.ensure_network(aim.network, aim.stack)
            secrets.create(swarm, aim.stack, aim.secrets)
            stack.create_configs(swarm, aim, rendering, order.root)
            new = release.mark(
                swarm, aim.stack, new, schema=_migrate(order, swarm, console, rendering, deadline)
            )
        lock.check()
        console.raise_if_cancelled()
        counts = _roll_out(order, swarm, console, before, text, deadline)
        lock.check()
    except BaseException as error:
        if lock.lost.is_set():
            raise  # somebody else may be deploying now: touch nothing more
        state = (
            release.CANCELLED
            if isinstance(error, Cancelled)
            else release.ROLLED_BACK
            if before.services
            else release.FAILED
        )
        _put_back(order, swarm, console, before, current, error, new, state)
        raise AssertionError("unreachable: _put_back raises") from error  # pragma: no cover
    new = release.mark(
        swarm,
        aim.stack,
        new,
        state=release.SUCCEEDED,
        services=release.services_hash(swarm.services(aim.stack)),
    )
    prune.old_releases(swarm, aim.stack, aim.keep_releases)
    console.say(f"{short(order.digest)} serves at {aim.public_url} as release {new.number}")
    return Deployment(
        environment=aim.environment,
        result="succeeded",
        digest=order.digest,
        previous=previous,
        url=aim.public_url,
        number=new.number,
        seconds=time.monotonic() - started,
        requests=counts.requests if counts else 0,
        errors=counts.errors if counts else 0,
    )


def _release(order: Order, rendering: Rendering, text: str) -> Release:
    return Release(
        number=0,
        digest=order.digest,
        fingerprint=order.copy.fingerprint if order.copy else rendering.fingerprint,
        state=release.DEPLOYING,
        commit=order.commit,
        run=order.run,
        owner=owner(),
        created=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        schema=order.copy.schema if order.copy else "",
        copy_of=order.copy.number if order.copy else 0,
        values=rendering.values,
        environment=rendering.environment,
        secrets=rendering.secrets,
        configs=rendering.configs,
        text=text,
    )


def _migrate(order: Order, swarm: Swarm, console: Console, rendering: Rendering, deadline: float) -> str:
    """Back up and migrate with the release's image; return the schema's revision."""
    if order.target.embedded:
        console.progress("backing up, then migrating")
        source = Path(embedded_backup.__file__).read_text(encoding="utf-8")
        lines = job.run(
            swarm,
            order.target,
            rendering,
            name="migrate",
            console=console,
            deadline=deadline,
            entrypoint=("python3", "-c", source),
        )
    else:
        console.progress("migrating")
        lines = job.run(
            swarm,
            order.target,
            rendering,
            name="migrate",
            console=console,
            deadline=deadline,
            arguments=("migrate",),
        )
    mask = secrets.masker(order.target.secrets.values())
    for line in lines:
        console.say(f"migrate: {mask.text(line)}")
    found = re.search(r"schema is at (\S+?)\.?$", "\n".join(lines), re.MULTILINE)
    return found[1] if found else ""


def _roll_out(
    order: Order, swarm: Swarm, console: Console, before: rollout.Before, text: str, deadline: float
) -> watch.Figures | None:
    aim = order.target
    watched = watch.Watch(swarm, aim)
    console.progress("telling the swarm")
    stack.apply(list(order.docker), aim.stack, text)
    rollout.converge(
        swarm,
        aim.stack,
        before,
        console=console,
        deadline=deadline,
        ready_within=aim.proves_ready_within,
        meanwhile=watched.look,
        first_proven=lambda: watch.prove(watched, aim, console),
    )
    watch.smoke(aim, order.digest, console)
    if not before.services:
        watched.restart()  # before the first replica was up there was nobody to answer
    counts = watch.watch(watched, aim, console)
    if watched.sees and counts:
        console.say(f"{counts.requests} requests at the proxy meanwhile, {counts.errors} failed")
    else:
        console.say("the proxy runs on another node: only our own requests were watched")
    return counts


def _put_back(
    order: Order,
    swarm: Swarm,
    console: Console,
    before: rollout.Before,
    current: Release | None,
    error: BaseException,
    new: Release,
    state: str,
) -> None:
    """Make what served before serve again, say so, and raise what ended the deployment."""
    aim = order.target
    mask = secrets.masker(aim.secrets.values())
    details = [mask.text(line) for line in getattr(error, "details", ())]
    what = "cancelled" if isinstance(error, Cancelled) else mask.text(getattr(error, "what", repr(error)))
    console.say(
        f"{what} - putting back what served before" if before.services else f"{what} - taking the stack away"
    )
    try:
        rollout.put_back(swarm, aim.stack, before)
        if before.services:
            rollout.converge(
                swarm,
                aim.stack,
                before,
                console=console,
                deadline=time.monotonic() + PUT_BACK_SECONDS,
                ready_within=aim.proves_ready_within,
                interruptible=False,
            )
            if current is not None:
                watch.smoke(aim, current.digest, console, interruptible=False)
        else:
            rollout.wait_gone(swarm, aim.stack, PUT_BACK_SECONDS)
        release.mark(swarm, aim.stack, new, state=state)
    except (DeploymentError, OSError) as trouble:
        raise NothingServes(
            f"{what} And what served before could not be put back: {getattr(trouble, 'what', trouble)}",
            f"stack {aim.stack}",
            "See `invoke status` and `docker stack ps` on the target; `invoke rollback` tries again.",
            details,
        ) from error
    if isinstance(error, Cancelled):
        console.say(f"{short(current.digest)} serves again" if current else "nothing serves, as before")
        raise error
    if not isinstance(error, DeploymentError):
        raise error
    failure = DeploymentFailed(
        f"{what} "
        + (
            f"Release {current.number} ({short(current.digest)}) serves again." if current else _first(before)
        ),
        error.where,
        error.next_step,
        details,
    )
    failure.outputs = {
        "result": state,
        "previous": current.digest if current else "",
        "url": aim.public_url,
        "digest": order.digest,
        "number": str(new.number),
    }
    raise failure from error


def _first(before: rollout.Before) -> str:
    if before.services:
        return "What served before serves again."
    return "Nothing served before: the stack was taken away, its data volume is kept."


def observed(
    aim: Target, digest: str, root: Path, swarm: Swarm, proxy_image: str = ""
) -> tuple[bool, str, Release | None]:
    """Return whether a deployment would change anything, why, and the current release; two quick requests.

    Raises `TargetUnreachable` when the engine does not answer.
    """
    try:
        current = release.current(release.parse(swarm.configs(aim.stack)))
        services = swarm.services(aim.stack, status=True)
    except EngineRefused:
        return True, "the target is in no swarm yet", None
    if current is None:
        return True, f"nothing is deployed to {aim.environment} yet", None
    rendering = stack.render(aim, digest, root, proxy_image=proxy_image)
    lines = difference(current, rendering)
    if lines:
        return True, "; ".join(lines[:3]) + (f" and {len(lines) - 3} more" if len(lines) > 3 else ""), current
    if drift(current, release.services_hash(services)):
        return True, "the running services were changed by hand", current
    short_of = [
        f"{service['Spec']['Name']} {status['RunningTasks']}/{status['DesiredTasks']}"
        for service in services
        if (status := service.get("ServiceStatus") or {"RunningTasks": 0, "DesiredTasks": 0})
        and status["RunningTasks"] < status["DesiredTasks"]
    ]
    if short_of:
        return True, f"not all of it runs: {', '.join(short_of)}", current
    return False, f"{short(digest)} serves since {current.created} as release {current.number}", current
