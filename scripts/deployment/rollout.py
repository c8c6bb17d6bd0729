"""Watch the swarm bring a stack up, with a deadline of our own and the cause when it does not.

`docker stack deploy` can end well after an automatic rollback and wait for ever for a task that fits
nowhere, so what counts here is what the tasks themselves report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scripts.deployment.console import Console
from scripts.deployment.errors import EngineRefused, RolloutFailed
from scripts.deployment.swarm import Json, Swarm

POLL_SECONDS = 0.2
PUT_BACK_TRIES = 5
UNPLACEABLE_SECONDS = 3.0
PORT_SECONDS = 30.0
FIRST_LINES = 15
DEAD = frozenset({"failed", "rejected", "complete", "orphaned"})
OVER = DEAD | {"shutdown", "remove"}
TURNED_BACK = ("paused", "rollback_started", "rollback_paused", "rollback_completed")


@dataclass(frozen=True, kw_only=True)
class Before:
    """What ran before a change: the services' specifications and the ids of their tasks."""

    services: tuple[Json, ...]
    tasks: frozenset[str]

    @property
    def specs(self) -> dict[str, Json]:
        """Return each service's specification by the service's name."""
        return {service["Spec"]["Name"]: service["Spec"] for service in self.services}


def snapshot(swarm: Swarm, stack: str) -> Before:
    """Return what runs now."""
    services = tuple(swarm.services(stack))
    tasks = frozenset(task["ID"] for service in services for task in swarm.tasks(service["ID"]))
    return Before(services=services, tasks=tasks)


def put_back(swarm: Swarm, stack: str, before: Before) -> None:
    """Tell the swarm to run what ran before: image, configuration and secrets are all in the specifications.

    A service that was not there goes; one that is as it was is not touched, so its tasks live on. The swarm's
    own rollback may write a service between our look and our word; then it is looked at again.
    """
    for _ in range(PUT_BACK_TRIES - 1):
        try:
            return _put_back(swarm, stack, before)
        except EngineRefused as error:
            if "out of sequence" not in error.what:
                raise
        time.sleep(POLL_SECONDS)
    return _put_back(swarm, stack, before)


def _put_back(swarm: Swarm, stack: str, before: Before) -> None:
    for service in swarm.services(stack):
        spec = before.specs.get(service["Spec"]["Name"])
        if spec is None:
            swarm.remove_service(service["ID"])
        elif spec != service["Spec"] or _updating(service):
            swarm.update_service(service, spec)
    present = {service["Spec"]["Name"] for service in swarm.services(stack)}
    for name, spec in before.specs.items():
        if name not in present:
            swarm.create_service(spec)


def _updating(service: Json) -> bool:
    return str((service.get("UpdateStatus") or {}).get("State", "")) in (
        "updating",
        "paused",
        "rollback_paused",
    )


def wait_gone(swarm: Swarm, stack: str, seconds: float) -> None:
    """Return when no container of the stack runs any more; raise `RolloutFailed` after `seconds`."""
    deadline = time.monotonic() + seconds
    while swarm.containers(stack):
        if time.monotonic() > deadline:
            raise RolloutFailed(
                "Its containers do not end.", f"stack {stack}", "See `docker ps` on the target."
            )
        time.sleep(POLL_SECONDS)


@dataclass(kw_only=True)
class Seen:
    """What one roll-out has shown so far: when a state of a task was first seen, by time.monotonic()."""

    first: dict[tuple[str, str], float] = field(default_factory=dict)

    def seconds(self, task: Json) -> float:
        """Return for how long the task has been in its state."""
        key = (task["ID"], task["Status"]["State"])
        return time.monotonic() - self.first.setdefault(key, time.monotonic())


def converge(
    swarm: Swarm,
    stack: str,
    before: Before,
    *,
    console: Console,
    deadline: float,
    ready_within: float,
    interruptible: bool = True,
    meanwhile: Callable[[], object] = lambda: None,
    first_proven: Callable[[], object] = lambda: None,
) -> None:
    """Return when every service runs as it is specified now, each task ready.

    `ready_within` is the longest time in seconds that a task may take to turn ready, `deadline` a moment of
    time.monotonic(). `meanwhile` is called at every look, `first_proven` once when the first replica of
    several is replaced; the swarm goes on when it returns. Raises `RolloutFailed` that names the cause,
    with the first lines of the container that failed.
    """
    wanted = {service["ID"]: service for service in swarm.services(stack)}
    changed = {
        identity
        for identity, service in wanted.items()
        if before.specs.get(service["Spec"]["Name"]) != service["Spec"]
    }
    seen = Seen()
    told: list[str] = []
    while True:
        if interruptible:
            console.raise_if_cancelled()
        waiting = []
        for service in swarm.services(stack):
            tasks = swarm.tasks(service["ID"])
            asked = wanted.get(service["ID"], service)
            if service["ID"] in changed:
                fresh = [task for task in tasks if task["ID"] not in before.tasks]
                _raise_if_failed(
                    swarm, asked, service, fresh, tasks, seen, ready_within, known=bool(before.services)
                )
            running, desired = _progress(asked, tasks)
            turning = before.services and (service["ID"] in changed or not interruptible)
            if turning and 0 < running < desired and _pauses(service):
                first_proven()
                go_on(swarm, service)
            name = asked["Spec"]["Name"].removeprefix(f"{stack}_")
            if running < desired:
                waiting.append(f"{name} {running}/{desired}")
            # What is put back serves again only when nothing else answers any more.
            waiting += [
                f"the end of a {name}" for task in tasks if not interruptible and _leaves(task, asked)
            ]
        if not waiting:
            for service in swarm.services(stack) if interruptible else ():
                if _pauses(service):
                    go_on(swarm, service)  # what a later deployment puts back must not hold the pause
            return
        if waiting != told:
            console.progress(f"waiting for {', '.join(waiting)}")
            told = waiting
        if time.monotonic() > deadline:
            raise RolloutFailed(
                f"The roll-out was not over in time ({', '.join(waiting)}).",
                "DEPLOY_TIMEOUT",
                "See `docker stack ps` on the target, or raise DEPLOY_TIMEOUT.",
            )
        meanwhile()
        time.sleep(POLL_SECONDS) if not interruptible else console.cancelled.wait(POLL_SECONDS)


def _pauses(service: Json) -> bool:
    return bool(service["Spec"].get("UpdateConfig", {}).get("Delay", 0))


def go_on(swarm: Swarm, service: Json) -> None:
    """Take the pause out of a service's update: the replicas that are left follow at once.

    The tasks' own specification stays the same, so those that run already are not touched.
    """
    spec = service["Spec"]
    swarm.update_service(service, {**spec, "UpdateConfig": {**spec["UpdateConfig"], "Delay": 0}})


def _progress(service: Json, tasks: list[Json]) -> tuple[int, int]:
    """Return how many tasks run as specified and are ready, and how many there should be."""
    mode = service["Spec"]["Mode"]
    alive = [task for task in tasks if task["DesiredState"] in ("running", "ready")]
    desired = mode["Replicated"].get("Replicas", 1) if "Replicated" in mode else max(len(alive), 1)
    running = [task for task in alive if task["Status"]["State"] == "running" and follows(task, service)]
    return min(len(running), desired), desired


def _leaves(task: Json, service: Json) -> bool:
    """Tell whether a task of another specification still runs, though it is told to stop."""
    return bool(task["Status"]["State"] == "running") and not follows(task, service)


def follows(task: Json, service: Json) -> bool:
    """Tell whether the task was made from the service's present specification."""
    spec = service["Spec"]["TaskTemplate"]
    return bool(task["Spec"].get("ContainerSpec") == spec.get("ContainerSpec")) and bool(
        task["Spec"].get("Resources") == spec.get("Resources")
    )


def _raise_if_failed(
    swarm: Swarm,
    asked: Json,
    service: Json,
    fresh: list[Json],
    tasks: list[Json],
    seen: Seen,
    ready_within: float,
    *,
    known: bool,
) -> None:
    name = asked["Spec"]["Name"]
    dead = [task for task in fresh if task["Status"]["State"] in DEAD and follows(task, asked)]
    update = str((service.get("UpdateStatus") or {}).get("State", ""))
    # On a first deployment there is no previous release to save: one restart is allowed.
    if len(dead) > (0 if known else 1) or (dead and update in TURNED_BACK):
        raise _died(swarm, name, dead[0])
    for task in fresh:
        state, trouble = task["Status"]["State"], task["Status"].get("Err", "")
        if state == "pending" and trouble:
            leaving = any(
                other["Status"]["State"] not in OVER for other in tasks if other["ID"] != task["ID"]
            )
            patience = PORT_SECONDS if "port" in trouble and leaving else UNPLACEABLE_SECONDS
            if seen.seconds(task) > patience:
                raise RolloutFailed(f"No node can run {name}: {trouble}.", "the swarm", advice(trouble))
        elif state in ("starting", "preparing") and seen.seconds(task) > (
            ready_within if state == "starting" else 6 * ready_within
        ):
            raise RolloutFailed(
                f"{name} did not turn ready within {ready_within:.0f} s of its start.",
                f"task {task['ID'][:12]}",
                "See its lines; if it only needs longer, raise HEALTH_START_PERIOD.",
                swarm.task_logs(task["ID"])[:FIRST_LINES],
            )
    if update in TURNED_BACK:
        message = service["UpdateStatus"].get("Message", update)
        raise RolloutFailed(
            f"The swarm stopped the update of {name}: {message}.", "the swarm", "See `invoke logs`."
        )


def _died(swarm: Swarm, name: str, task: Json) -> RolloutFailed:
    status = task["Status"]
    trouble = status.get("Err") or status.get("Message", status["State"])
    code = (status.get("ContainerStatus") or {}).get("ExitCode", 0)
    lines = swarm.task_logs(task["ID"])[:FIRST_LINES]
    if "unhealthy" in trouble or status["State"] == "complete":
        what, next_step = f"{name} never turned ready", "See its lines, and what /readyz says."
        trouble = "its health check failed until the engine ended it"
    elif status["State"] == "rejected":
        what, next_step = f"{name} could not be started", advice(trouble)
    elif code == 2:
        what, next_step = (
            f"{name} refused its configuration",
            "Mend the settings that it names, then deploy again.",
        )
    else:
        what, next_step = f"{name} ended at its start", "See its first lines."
    return RolloutFailed(f"{what}: {trouble}.", f"task {task['ID'][:12]}", next_step, lines)


ADVICE: Mapping[str, str] = {
    "insufficient resources": "Lower LIMIT_MEMORY, LIMIT_CPUS or REPLICAS, or add a node.",
    "port": "Free PUBLIC_PORT on the target, or choose another.",
    "constraints": "See the placement constraints in docker/stack.yml and the labels of the nodes.",
    "No such image": "See that the registry answers and holds the release: `invoke push`.",
    "image": "See that the registry answers and that the target may read from it.",
}


def advice(trouble: str) -> str:
    """Return what to do about a reason that the swarm gives."""
    return next(
        (advice for sign, advice in ADVICE.items() if sign in trouble),
        "See `docker service ps` on the target.",
    )
