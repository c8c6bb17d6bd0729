"""Tell the ledger about each run: the embedded one in `.slipway/`, and a shared one when LEDGER_URL names it.

A run's events first go to the spool on disk, then to each ledger that can take them now; what cannot be
delivered waits for the end of a later run. So nothing is lost, and nothing that a ledger does fails a run.
Loading the database layer takes over a second: it begins in the background when a run has lasted `PATIENCE`
seconds, and a run shorter than that leaves its events to the next long one.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from scripts.pipeline.events import RunFinished, StageStarted
from scripts.pipeline.record import timestamp
from scripts.views.listener import Listener
from scripts.views.spool import Spool
from scripts.views.wording import count

SOURCE = "/slipway/pipeline"
TYPE = "dev.slipway"
UNCHANGED = "unchanged"
"""The result of looking at a target where the release serves already: a run without a deployment."""
PATIENCE = 4.0
EMBEDDED, SHARED = "embedded", "shared"


class Undelivered(Exception):  # noqa: N818 - it is the state of a delivery, told once, not a programming error
    """The ledger did not take the events now; they wait for a later run."""


class NotThere(Undelivered):
    """Nothing listens where a ledger of this machine would be: as a rule nothing was shipped to it yet."""


class Refused(Undelivered):
    """The ledger will never take these events: they are set aside."""


class Ledger(Protocol):
    """Something that takes events, each once, known by source and id."""

    def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Take the events; raises Undelivered or Refused."""

    def close(self) -> None:
        """Let go of what it holds."""


class LedgerView(Listener):
    """Spool each run's events and deliver what waits."""

    def __init__(
        self,
        folder: Path,
        *,
        actor: str,
        embedded: Callable[[], Ledger],
        shared: Callable[[], Ledger] | None,
        tell: Callable[[str], None],
        patience: float = PATIENCE,
    ) -> None:
        self._actor = actor
        self._tell = tell
        self._patience = patience
        self._spools = {EMBEDDED: Spool(folder / "spool" / EMBEDDED)}
        self._openers = {EMBEDDED: embedded}
        if shared is not None:
            self._spools[SHARED] = Spool(folder / "spool" / SHARED)
            self._openers[SHARED] = shared
        self._timer: threading.Timer | None = None
        self._opened: Ledger | None = None
        self._loading = threading.Event()
        self._trouble = ""
        self._shipped = False

    def stage_started(self, event: StageStarted) -> None:
        """Begin the wait after which the embedded ledger is worth loading."""
        if self._timer is None:
            self._timer = threading.Timer(self._patience, self._load)
            self._timer.daemon = True
            self._timer.start()

    def run_finished(self, event: RunFinished) -> None:
        """Spool the run's events, then deliver to each ledger what waits for it."""
        events = events_of(event.record, self._actor)
        self._shipped = bool(event.record.get("deployment"))
        try:
            for spool in self._spools.values():
                spool.put(str(event.record["run"]), events)
        except OSError as error:
            self._tell(f"ledger: this run could not be kept for it: {error.strerror}")
            return
        if event.result == "cancelled" or self._timer is None:
            return  # a cancelled run has to be gone in two seconds, and one that did nothing in half a second
        for name in (SHARED, EMBEDDED):
            if name in self._spools and (name == SHARED or self._loaded()):
                self._deliver(name)

    def close(self) -> None:
        """Stop the wait."""
        if self._timer is not None:
            self._timer.cancel()

    def _load(self) -> None:
        self._loading.set()
        try:
            self._opened = self._openers[EMBEDDED]()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the ledger, the result of the run stands
            self._trouble = f"{type(error).__name__}: {error}"

    def _loaded(self) -> bool:
        if self._timer is None:
            return False
        self._timer.cancel()
        if not self._loading.is_set():
            return False
        self._timer.join()
        if self._trouble:
            self._tell(f"ledger: the embedded one cannot be opened, this run waits for it: {self._trouble}")
        return self._opened is not None

    def _deliver(self, name: str) -> None:
        spool = self._spools[name]
        ledger = self._opened if name == EMBEDDED and self._opened else self._openers[name]()
        try:
            for path in spool.waiting():
                self._deliver_file(ledger, name, path)
        except NotThere as error:
            if self._shipped:
                self._tell(f"ledger: this run waits in .slipway/spool/{name}: {error}")
        except Undelivered as error:
            waiting = count(len(spool.waiting()), "run waits", "runs wait")
            self._tell(f"ledger: {waiting} in .slipway/spool/{name} for the end of a later run: {error}")
        except OSError as error:
            self._tell(f"ledger: .slipway/spool/{name} cannot be used: {error.strerror}")
        finally:
            ledger.close()

    def _deliver_file(self, ledger: Ledger, name: str, path: Path) -> None:
        spool = self._spools[name]
        events = spool.read(path)
        if events is None:
            return
        try:
            ledger.deliver(events)
        except Refused as error:
            spool.refuse(path)
            self._tell(f"ledger: run {path.stem} was set aside in .slipway/spool/{name}/refused: {error}")
        else:
            spool.done(path)


def events_of(record: Mapping[str, Any], actor: str) -> list[dict[str, Any]]:
    """Return a run's record as CloudEvents 1.0, in the order of time, the same ones every time."""
    run, started, seconds = str(record["run"]), str(record["started"]), float(record.get("seconds") or 0.0)
    finished = _after(started, seconds)
    head = {
        name: record.get(name) for name in ("run", "command", "environment", "commit", "dirty", "started")
    }
    events = [_event(run, "started", "run.started", started, run, {**head, "actor": actor})]
    for position, stage in enumerate(record.get("stages") or ()):
        name = str(stage["name"])
        at = (
            _after(stage["started"], float(stage.get("seconds") or 0.0)) if stage.get("started") else finished
        )
        data = {**stage, "run": run, "environment": record.get("environment"), "position": position}
        events.append(_event(run, f"task/{name}", "task.finished", at, f"{run}/{name}", data))
    release, deployment = record.get("release") or {}, record.get("deployment") or {}
    if deployment.get("result") == UNCHANGED:
        deployment, record = {}, {**record, "deployment": None}
    if release.get("digest"):
        data = {**release, "run": run, "commit": record.get("commit")}
        events.append(_event(run, "artifact", "artifact.built", finished, release["digest"], data))
    if deployment.get("result"):
        stages = {str(stage["name"]): stage for stage in record.get("stages") or ()}
        stage = stages.get("deploy") or {}
        data = {
            **deployment,
            "run": run,
            # A proven build is not built again: the release may be of an earlier commit than the run.
            "commit": (stage.get("outputs") or {}).get("commit") or record.get("commit"),
            "digest": deployment.get("digest") or release.get("digest"),
            "actor": actor,
            "started": stage.get("started") or started,
            "seconds": stage.get("seconds", seconds),
        }
        subject = str(deployment.get("environment"))
        events.append(_event(run, "deployment", "deployment.finished", finished, subject, data))
    events.append(_event(run, "finished", "run.finished", finished, run, {**record, "actor": actor}))
    return events


def _event(
    run: str, name: str, kind: str, time: str, subject: str, data: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"{run}/{name}",
        "source": SOURCE,
        "type": f"{TYPE}.{kind}",
        "time": time,
        "subject": subject,
        "datacontenttype": "application/json",
        "data": dict(data),
    }


def _after(started: str, seconds: float) -> str:
    return timestamp(datetime.fromisoformat(started) + timedelta(seconds=seconds))
