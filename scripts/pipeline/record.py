"""run.json, the contract for other programs, made from the events of a run."""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from scripts.pipeline import events

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
Record = dict[str, Any]


def new_run_id(moment: datetime, randomness: int | None = None) -> str:
    """Return a ULID: 26 letters that sort by time (https://github.com/ulid/spec)."""
    milliseconds = int(moment.timestamp() * 1000)
    number = milliseconds << 80 | (secrets.randbits(80) if randomness is None else randomness)
    return "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def timestamp(moment: datetime) -> str:
    """Write a moment as RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(value: float) -> float:
    """Round a duration to milliseconds."""
    return round(value, 3)


class Recorder:
    """A view that keeps the record up to date; `record` may be read at any time."""

    def __init__(self) -> None:
        self.record: Record = {}
        self._started: datetime | None = None
        self._kinds: dict[str, str] = {}

    def handle(self, event: events.Event) -> None:
        """Take one event into the record."""
        if isinstance(event, events.RunStarted):
            self._start(event)
        elif isinstance(event, events.StageFinished):
            self._finish_stage(event)
        elif isinstance(event, events.RunFinished):
            self.finish(event.result, event.at)

    def close(self) -> None:
        """Hold nothing."""

    def finish(self, result: str, at: datetime) -> Record:
        """Set the result and the duration, and return the record."""
        self.record["result"] = result
        if self._started is not None:
            self.record["seconds"] = seconds((at - self._started).total_seconds())
        return self.record

    def _start(self, event: events.RunStarted) -> None:
        self._started = event.at
        self.record.update(
            run=event.run,
            command=event.command,
            environment=event.environment,
            result="running",
            commit=event.commit,
            dirty=event.dirty,
            started=timestamp(event.at),
            seconds=0.0,
            stages=[],
            release=None,
            deployment=None,
        )

    def _finish_stage(self, event: events.StageFinished) -> None:
        outputs = event.outcome.outputs if event.outcome else {}
        figures = event.outcome.figures if event.outcome else {}
        self.record["stages"].append(
            {
                "name": event.stage,
                "kind": str(event.kind),
                "result": event.result,
                "reason": event.reason,
                "proof": event.proof,
                "seconds": seconds(event.seconds),
                "started": timestamp(event.started) if event.started else None,
                "log": event.log,
                "figures": dict(figures),
                "outputs": dict(outputs),
                "note": event.note,
                "failure": failure(event),
            }
        )
        if event.stage == "build" and "digest" in outputs:
            self.record["release"] = release(outputs)
        elif event.stage == "deploy" and outputs:
            self.record["deployment"] = deployment(self.record["environment"], outputs)


def failure(event: events.StageFinished) -> Record | None:
    """Return what went wrong in a stage, with the lines to show first, or None."""
    if event.failure is None:
        return None
    return {
        "what": event.failure.what,
        "where": event.failure.where,
        "next": event.failure.next_step,
        "details": list(getattr(event.failure, "details", ())),
    }


def whole(text: str | None) -> int:
    """Read a count of bytes; 0 when it is missing or no number."""
    return int(text) if text and text.isdecimal() else 0


def release(outputs: Mapping[str, str]) -> Record:
    """Return the record's release from the outputs of build."""
    return {
        "digest": outputs["digest"],
        "image": outputs.get("image", ""),
        "bytes": whole(outputs.get("bytes")),
        "bytes_compressed": whole(outputs.get("bytes_compressed")),
    }


def deployment(environment: str, outputs: Mapping[str, str]) -> Record:
    """Return the record's deployment from the outputs of deploy."""
    return {
        "environment": environment,
        "result": outputs.get("result", ""),
        "previous": outputs.get("previous") or None,
        "url": outputs.get("url", ""),
    }
