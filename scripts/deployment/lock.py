"""One deployment at a time on a target: a lock that lives there and frees itself when its owner dies.

The lock is a swarm config named `<stack>.lock`: the managers let only one creation of a name succeed. Its
holder keeps it alive by rewriting its labels; its age is the manager's clock minus the manager's own time
stamp, so no two machines' clocks are compared.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from scripts.deployment.errors import EngineRefused, LockHeld, LockLost, TargetUnreachable
from scripts.deployment.swarm import STACK_LABEL, Json, Swarm, decoded

EXPIRY_SECONDS = 30.0
HEARTBEAT_SECONDS = 5.0
POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lock: a person on a machine, for which run, for what."""

    owner: str
    run: str
    purpose: str
    since: str
    expiry: float

    def __str__(self) -> str:
        return f"{self.owner} ({self.purpose}, run {self.run}, since {self.since})"


def owner() -> str:
    """Return who is deploying: the actor in a workflow, else user@machine."""
    actor = os.environ.get("GITHUB_ACTOR")
    try:
        user = actor or getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def lock_name(stack: str) -> str:
    """Return the name of the config that is the stack's lock."""
    return f"{stack}.lock"


def moment(text: str) -> float:
    """Return an engine's RFC 3339 time stamp (up to nanoseconds) as seconds since 1970."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text.replace("Z", "+00:00"))).timestamp()


def holder(swarm: Swarm, stack: str) -> Holder | None:
    """Return who holds the stack's lock; None when nobody does or its owner is dead."""
    found = swarm.config(lock_name(stack))
    if found is None or _expired(swarm, found):
        return None
    return _holder(found)


def _holder(config: Json) -> Holder:
    return Holder(**json.loads(decoded(config)))


def _expired(swarm: Swarm, config: Json) -> bool:
    age = moment(swarm.info()["SystemTime"]) - moment(config["UpdatedAt"])
    return age > _holder(config).expiry


class Lock:
    """A lock that this process holds; `lost` is set when it could not be kept."""

    def __init__(self, swarm: Swarm, config_id: str, holder_: Holder, heartbeat: float) -> None:
        self.lost = threading.Event()
        self.holder = holder_
        self._swarm = swarm
        self._id = config_id
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._beat, args=(heartbeat,), name="lock heartbeat", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Raise `LockLost` when somebody broke the lock."""
        if self.lost.is_set():
            raise LockLost(
                "This run lost the target's lock.",
                "somebody ran `invoke unlock`, or the target did not answer for too long",
                "See `invoke status`, then deploy again.",
            )

    def release(self) -> None:
        """Free the lock; one that is lost or whose target is gone is left to its expiry."""
        self._stop.set()
        self._thread.join(timeout=2 * HEARTBEAT_SECONDS)
        try:
            self._swarm.remove_config(self._id)
        except (EngineRefused, TargetUnreachable):
            return

    def _beat(self, every: float) -> None:
        last = time.monotonic()
        beats = 0
        while not self._stop.wait(every):
            beats += 1
            try:
                config = self._swarm.config(self._id)
                if config is not None:
                    self._swarm.label_config(config, {**config["Spec"]["Labels"], "beat": str(beats)})
                    last = time.monotonic()
                    continue
            except (EngineRefused, TargetUnreachable):
                if time.monotonic() - last < self.holder.expiry:
                    continue
            self.lost.set()
            return


@contextmanager
def held(
    swarm: Swarm,
    stack: str,
    *,
    run: str,
    purpose: str,
    wait: float,
    waiting: Callable[[str], None] = lambda _text: None,
    check: Callable[[], None] = lambda: None,
    expiry: float = EXPIRY_SECONDS,
    heartbeat: float = HEARTBEAT_SECONDS,
) -> Iterator[Lock]:
    """Hold the stack's lock for the block; after `wait` seconds raise `LockHeld` naming the holder.

    `check` is called while waiting, so that a cancelled run stops. Times in seconds.
    """
    lock = _take(swarm, stack, run, purpose, wait, waiting, check, expiry, heartbeat)
    try:
        yield lock
    finally:
        lock.release()


def _take(
    swarm: Swarm,
    stack: str,
    run: str,
    purpose: str,
    wait: float,
    waiting: Callable[[str], None],
    check: Callable[[], None],
    expiry: float,
    heartbeat: float,
) -> Lock:
    deadline = time.monotonic() + wait
    told = False
    pause = threading.Event()
    while True:
        check()
        mine = Holder(
            owner=owner(),
            run=run,
            purpose=purpose,
            since=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            expiry=expiry,
        )
        created = swarm.create_config(
            lock_name(stack),
            json.dumps(asdict(mine)).encode(),
            {STACK_LABEL: stack, "dev.slipway.kind": "lock"},
        )
        if created:
            return Lock(swarm, created, mine, heartbeat)
        found = swarm.config(lock_name(stack))
        if found is None:
            continue
        if _expired(swarm, found):
            # By id: if a third run was quicker, this removes the dead lock again, not that run's new one.
            swarm.remove_config(found["ID"])
            continue
        if time.monotonic() >= deadline:
            raise LockHeld(
                f"Another run holds the lock of {stack}: {_holder(found)}.",
                f"waited {wait:.0f} s",
                "Wait for it, or break the lock with `invoke unlock` if you know that the run is gone "
                f"(it frees itself {_holder(found).expiry:.0f} s after its owner's last sign of life).",
            )
        if not told:
            waiting(f"waiting for the lock held by {_holder(found)}")
            told = True
        pause.wait(POLL_SECONDS)


def unlock(swarm: Swarm, stack: str) -> Holder | None:
    """Break the stack's lock, whoever holds it; return who did, or None."""
    found = swarm.config(lock_name(stack))
    if found is None:
        return None
    swarm.remove_config(found["ID"])
    return _holder(found)
