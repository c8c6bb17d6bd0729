"""What runs where: which commit, since when, who put it there, healthy or not, changed by hand or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from scripts.deployment import lock, release
from scripts.deployment.difference import short
from scripts.deployment.release import Release
from scripts.deployment.rollout import follows
from scripts.deployment.swarm import Json, Swarm
from scripts.deployment.target import Target

HISTORY = 5


@dataclass(frozen=True, kw_only=True)
class Service:
    """How many of a service's tasks should run, do run, and what the last failure said."""

    name: str
    running: int
    desired: int
    trouble: str = ""


@dataclass(frozen=True, kw_only=True)
class Status:
    """One environment; its `state` is healthy, degraded, down, empty, unreachable or not configured."""

    environment: str
    state: str
    url: str = ""
    release: Release | None = None
    services: tuple[Service, ...] = ()
    drift: tuple[str, ...] = ()
    lock: str = ""
    history: tuple[Release, ...] = ()
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the status as `invoke status --json` prints it."""
        return {
            "environment": self.environment,
            "state": self.state,
            "url": self.url,
            "release": _brief(self.release) if self.release else None,
            "services": [asdict(each) for each in self.services],
            "drift": list(self.drift),
            "lock": self.lock or None,
            "history": [_brief(each) for each in self.history],
            "reason": self.reason,
        }


def _brief(each: Release) -> dict[str, Any]:
    names = ("number", "digest", "state", "commit", "run", "owner", "created", "schema", "copy_of")
    return {name: getattr(each, name) for name in names}


def of(target: Target, swarm: Swarm) -> Status:
    """Return the state of a target; raise `TargetUnreachable` when its engine does not answer."""
    info = swarm.info()
    if info.get("Swarm", {}).get("LocalNodeState") != "active":
        return Status(environment=target.environment, state="empty", reason="the engine is in no swarm")
    releases = release.all_of(swarm, target.stack)
    current = release.current(releases)
    found = swarm.services(target.stack)
    services = tuple(_service(swarm, target.stack, each) for each in found)
    holder = lock.holder(swarm, target.stack)
    if not found:
        state = "empty" if current is None else "down"
    elif all(each.running >= each.desired for each in services):
        state = "healthy"
    else:
        state = "degraded" if all(each.running for each in services) else "down"
    return Status(
        environment=target.environment,
        state=state,
        url=target.public_url,
        release=current,
        services=services,
        drift=tuple(drifted(current, found)),
        lock=str(holder) if holder else "",
        history=tuple(releases[:HISTORY]),
    )


def _service(swarm: Swarm, stack: str, service: Json) -> Service:
    tasks = swarm.tasks(service["ID"])
    alive = [task for task in tasks if task["DesiredState"] == "running"]
    running = [task for task in alive if task["Status"]["State"] == "running" and follows(task, service)]
    mode = service["Spec"]["Mode"]
    desired = mode["Replicated"].get("Replicas", 1) if "Replicated" in mode else len(alive)
    trouble = next((task["Status"]["Err"] for task in tasks if task["Status"].get("Err")), "")
    return Service(
        name=service["Spec"]["Name"].removeprefix(f"{stack}_"),
        running=len(running),
        desired=desired,
        trouble=trouble if len(running) < desired else "",
    )


def drifted(current: Release | None, services: Iterable[Json]) -> list[str]:
    """Return what somebody changed by hand since the release, as lines; none when nothing differs."""
    found = list(services)
    if current is None:
        return ["services run that no release put there"] if found else []
    if not current.services or release.services_hash(found) == current.services:
        return []
    lines = []
    web = next((each["Spec"] for each in found if each["Spec"]["Name"].endswith("_web")), None)
    if web is None:
        lines.append("the service web is gone")
    else:
        container = web["TaskTemplate"]["ContainerSpec"]
        if container["Image"] != current.values["IMAGE"]:
            lines.append(f"image of web is {container['Image']}, the release has {current.values['IMAGE']}")
        replicas = str(web["Mode"].get("Replicated", {}).get("Replicas", ""))
        if replicas != current.values["REPLICAS"]:
            lines.append(f"web has {replicas} replicas, the release has {current.values['REPLICAS']}")
        lines += _environment(current, container.get("Env") or [])
    return lines or ["a service's specification differs from the release's"]


def _environment(current: Release, found: list[str]) -> list[str]:
    now = dict(entry.partition("=")[::2] for entry in found)
    lines = []
    for name in sorted({*now, *current.environment}):
        # By name only: who sets something by hand may well set a secret.
        if name not in current.environment:
            lines.append(f"environment {name} was added")
        elif name not in now:
            lines.append(f"environment {name} was removed")
        elif now[name] != current.environment[name]:
            lines.append(f"environment {name} was changed")
    return lines


def lines_of(status: Status) -> list[str]:
    """Return the status as lines for a person."""
    head = f"{status.environment}: {status.state}"
    if status.reason:
        return [f"{head} ({status.reason})"]
    lines = [f"{head}  {status.url}"]
    if status.release:
        each = status.release
        back = f", back to release {each.copy_of}" if each.copy_of else ""
        lines.append(
            f"  release {each.number}  {short(each.digest)}  commit {each.commit[:12] or 'unknown'}"
            f"  since {each.created}  by {each.owner}{back}"
        )
    for service in status.services:
        trouble = f"  {service.trouble}" if service.trouble else ""
        lines.append(f"  {service.name:<8} {service.running}/{service.desired}{trouble}")
    lines += [f"  drift: {line}" for line in status.drift]
    if status.lock:
        lines.append(f"  lock: {status.lock}")
    lines += [
        f"  before: release {each.number}  {each.state}  {short(each.digest)}  {each.created}  {each.owner}"
        for each in status.history
        if status.release is None or each.number != status.release.number
    ]
    return lines
