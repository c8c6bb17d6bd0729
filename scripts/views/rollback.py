"""A rollback as the views know runs: one with the stage deploy alone."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Protocol

from scripts.pipeline.events import Event, Planned, RunFinished, RunStarted, StageFinished, StageStarted
from scripts.pipeline.record import Recorder
from scripts.pipeline.stage import Decision, Kind, Outcome


class Done(Protocol):
    """What became of a deployment; `seconds` is how long it took."""

    @property
    def environment(self) -> str: ...  # noqa: D102
    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def previous(self) -> str: ...  # noqa: D102
    @property
    def url(self) -> str: ...  # noqa: D102
    @property
    def commit(self) -> str: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102


def story(done: Done, *, run: str, ended: datetime) -> Iterator[Event]:
    """Yield the events of a rollback that put `done.digest` back and `ended` just now."""
    started = ended - timedelta(seconds=done.seconds)
    reason = f"back to {done.digest}"
    outputs = {"result": "succeeded", "previous": done.previous, "url": done.url, "digest": done.digest}
    plan = Planned(
        name="deploy", kind=Kind.EFFECT, summary="", needs=(), decision=Decision(run=True, reason=reason)
    )
    events: tuple[Event, ...] = (
        RunStarted(
            at=started,
            run=run,
            command="rollback",
            environment=done.environment,
            commit=done.commit or None,
            dirty=False,
            plan=(plan,),
            directory="",
        ),
        StageStarted(at=started, stage="deploy", kind=Kind.EFFECT, reason=reason),
        StageFinished(
            at=ended,
            stage="deploy",
            kind=Kind.EFFECT,
            result="success",
            reason=reason,
            seconds=done.seconds,
            started=started,
            outcome=Outcome(outputs=outputs),
        ),
    )
    recorder = Recorder()
    for event in events:
        recorder.handle(event)
        yield event
    record = recorder.finish("success", ended)
    record["deployment"]["digest"] = done.digest
    yield RunFinished(at=ended, run=run, result="success", exit_code=0, record=record)
