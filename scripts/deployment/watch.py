"""What users see of a release: the proxy's own counts, and the public address asked for the new digest."""

from __future__ import annotations

import csv
import json
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

from scripts.deployment.console import Console
from scripts.deployment.difference import short
from scripts.deployment.errors import EngineRefused, TargetUnreachable, Unhealthy
from scripts.deployment.swarm import Swarm
from scripts.deployment.target import Target

POLL_SECONDS = 0.25
LEAST_ERRORS = 3
"""One or two errors are a user's bad luck at any time, not a bad release."""
IN_A_ROW = 5
"""Answers of the new digest that prove that the proxy has left the old one."""
PROVING_REQUESTS = 20
SMOKE_SECONDS = 15.0
READ_FIGURES = "exec 3<>/dev/tcp/127.0.0.1/8404; printf 'GET /;csv HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Counts since the proxy started: requests, 5xx answers, requests tried again on another task."""

    requests: int
    errors: int
    retries: int

    def since(self, earlier: Figures) -> Figures:
        """Return the counts since an earlier look; the whole when the proxy started anew."""
        if self.requests < earlier.requests:
            return self
        return Figures(
            requests=self.requests - earlier.requests,
            errors=self.errors - earlier.errors,
            retries=self.retries - earlier.retries,
        )


def figures(swarm: Swarm, stack: str) -> Figures | None:
    """Return the proxy's counts; None when it runs on another node or does not tell."""
    service = swarm.service(f"{stack}_proxy")
    if service is None:
        return None
    for task in swarm.tasks(service["ID"]):
        container = (task["Status"].get("ContainerStatus") or {}).get("ContainerID", "")
        if task["Status"]["State"] == "running" and container:
            try:
                return parsed(
                    swarm.execute(container, ["bash", "-c", READ_FIGURES]).decode("utf-8", "replace")
                )
            except (EngineRefused, TargetUnreachable):
                return None
    return None


def parsed(answer: str) -> Figures | None:
    """Return the counts in the proxy's CSV, HTTP headers before it or not; None for anything else."""
    start = answer.find("# pxname")
    if start < 0:
        return None
    requests = errors = retries = 0
    for row in csv.DictReader(answer[start + 2 :].splitlines()):
        if row["pxname"] == "public" and row["svname"] == "FRONTEND":
            requests, errors = int(row["req_tot"] or 0), int(row["hrsp_5xx"] or 0)
        elif row["pxname"] == "web" and row["svname"] == "BACKEND":
            retries = int(row["wretr"] or 0)
    return Figures(requests=requests, errors=errors, retries=retries)


class Watch:
    """The error rate at the proxy from now on."""

    def __init__(self, swarm: Swarm, target: Target) -> None:
        self._swarm = swarm
        self._target = target
        self._start = figures(swarm, target.stack)
        self.sees = self._start is not None

    def restart(self) -> None:
        """Count from now."""
        self._start = figures(self._swarm, self._target.stack)
        self.sees = self._start is not None

    def look(self) -> Figures | None:
        """Return the counts so far; raise `Unhealthy` when the share of errors is above the limit."""
        now = figures(self._swarm, self._target.stack) if self._start is not None else None
        if now is None or self._start is None:
            return None
        counts = now.since(self._start)
        bad = counts.errors + counts.retries
        if bad >= LEAST_ERRORS and bad > counts.requests * self._target.error_rate_limit:
            raise Unhealthy(
                f"{bad} of {counts.requests} requests failed at the proxy ({counts.retries} of them saved "
                "by another replica).",
                f"{self._target.public_url}, ERROR_RATE_LIMIT {self._target.error_rate_limit:g}",
                "See `invoke logs`.",
            )
        return counts


def answer(url: str, timeout: float = 3.0) -> tuple[int, bytes]:
    """Return the status and body that `url` answers; raise OSError when it does not. `timeout` in seconds."""
    request = urllib.request.Request(url, headers={"User-Agent": "slipway-deployment"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:  # noqa: S310
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def served_digest(url: str) -> str:
    """Return the digest that the release behind a public address says it is; empty when it does not say."""
    try:
        status, body = answer(f"{url.rstrip('/')}/version")
        told = json.loads(body) if status == 200 else {}
    except (OSError, ValueError):
        return ""
    return str(told.get("digest") or "") if isinstance(told, dict) else ""


def smoke(target: Target, digest: str, console: Console, *, interruptible: bool = True) -> None:
    """Return when the public address answers with the digest several times in a row and its page works.

    Raises `Unhealthy` after 15 s of anything else.
    """
    deadline = time.monotonic() + SMOKE_SECONDS
    row, last = 0, ""
    console.progress(f"asking {target.public_url} for {short(digest)}")
    while row < IN_A_ROW:
        if interruptible:
            console.raise_if_cancelled()
        last = served_digest(target.public_url)
        row = row + 1 if last == digest else 0
        if row == 0:
            if time.monotonic() > deadline:
                raise Unhealthy(
                    f"The public address serves {short(last) or 'no release'} and not {short(digest)}.",
                    f"{target.public_url}/version",
                    "See that PUBLIC_URL leads to this target's proxy.",
                )
            (console.cancelled if interruptible else threading.Event()).wait(POLL_SECONDS)
    try:
        status, _body = answer(target.public_url)
    except OSError as error:
        raise Unhealthy(
            f"The page does not answer: {error}.", target.public_url, "See `invoke logs`."
        ) from error
    if status >= 500:
        raise Unhealthy(f"The page answers with status {status}.", target.public_url, "See `invoke logs`.")


def prove(watched: Watch, target: Target, console: Console) -> None:
    """Send requests of our own while one replica is new, and look at how they went; raise `Unhealthy`."""
    console.progress("looking at the first new replica")
    for _ in range(PROVING_REQUESTS):
        console.raise_if_cancelled()
        try:
            answer(target.public_url)
        except OSError as error:
            raise Unhealthy(
                f"The page does not answer: {error}.", target.public_url, "See `invoke logs`."
            ) from error
    watched.look()


def watch(watched: Watch, target: Target, console: Console) -> Figures | None:
    """Look at the error rate for the target's time, with a few requests of our own; raise `Unhealthy`."""
    end = time.monotonic() + target.watch
    counts = watched.look()
    console.progress(f"watching the error rate for {target.watch:g} s")
    while time.monotonic() < end:
        console.raise_if_cancelled()
        try:
            status, _body = answer(target.public_url)
        except OSError as error:
            raise Unhealthy(
                f"The page does not answer: {error}.", target.public_url, "See `invoke logs`."
            ) from error
        if status >= 500:
            raise Unhealthy(
                f"The page answers with status {status}.", target.public_url, "See `invoke logs`."
            )
        counts = watched.look()
        console.cancelled.wait(POLL_SECONDS)
    return counts
