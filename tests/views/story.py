"""Runs to watch: events as the engine sends them, at times that a test chooses."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from scripts.pipeline.errors import StageFailure
from scripts.pipeline.events import (
    Event,
    Planned,
    RunFinished,
    RunStarted,
    StageFinished,
    StageOutput,
    StageProgress,
    StageStarted,
    View,
)
from scripts.pipeline.record import Recorder
from scripts.pipeline.stage import Decision, Kind, Outcome

BEGIN = datetime(2026, 3, 14, 15, 9, 26, 535000, tzinfo=UTC)
RUN = "01JPB3X4ZQ8N6M2V7T5R9K1WHC"
COMMIT = "4f1c0de2b7a94f5e8c3d6a1b0e9f8d7c6b5a4938"
BUILT_FROM = "c0ffee" + "0" * 34
"""The commit of the release, whose build was proven before the run's own commit."""
DIGEST = "sha256:" + "9c1f4e7ab2d8" + "0" * 52
PREVIOUS = "sha256:" + "77aa01dd93bc" + "0" * 52
KINDS = {"push": Kind.EFFECT, "deploy": Kind.EFFECT}


class Story:
    """A run told step by step; `at` is in seconds after its begin."""

    def __init__(
        self,
        *stages: str,
        command: str = "ship",
        environment: str = "development",
        reasons: Mapping[str, str] | None = None,
        dirty: bool = False,
        run: str = RUN,
    ) -> None:
        reasons = reasons or {}
        self.events: list[Event] = []
        self._recorder = Recorder()
        self._started: dict[str, datetime] = {}
        self._reasons = {name: reasons.get(name, "never run here") for name in stages}
        plan = tuple(
            Planned(
                name=name,
                kind=KINDS.get(name, Kind.CHECK),
                summary=f"the {name} stage",
                needs=(),
                decision=Decision(run=not reason.startswith("proven"), reason=reason),
            )
            for name, reason in self._reasons.items()
        )
        self.add(
            RunStarted(
                at=BEGIN,
                run=run,
                command=command,
                environment=environment,
                commit=COMMIT,
                dirty=dirty,
                plan=plan,
                directory=f".slipway/runs/{run}",
            )
        )
        self._run = run

    def add(self, event: Event) -> "Story":
        """Add one event as it is."""
        self._recorder.handle(event)
        self.events.append(event)
        return self

    def start(self, stage: str, at: float) -> "Story":
        """Start a stage."""
        self._started[stage] = moment(at)
        return self.add(
            StageStarted(
                at=moment(at), stage=stage, kind=KINDS.get(stage, Kind.CHECK), reason=self._reasons[stage]
            )
        )

    def say(self, stage: str, at: float, *lines: str) -> "Story":
        """Let a stage print lines."""
        for line in lines:
            self.add(StageOutput(at=moment(at), stage=stage, line=line))
        return self

    def progress(self, stage: str, at: float, text: str) -> "Story":
        """Let a stage tell what it does."""
        return self.add(StageProgress(at=moment(at), stage=stage, text=text))

    def finish(
        self,
        stage: str,
        at: float,
        result: str = "success",
        *,
        reason: str | None = None,
        failure: StageFailure | None = None,
        outputs: Mapping[str, str] | None = None,
        figures: Mapping[str, float] | None = None,
        note: str = "",
    ) -> "Story":
        """End a stage; one that never started was skipped or cancelled."""
        started = self._started.get(stage)
        return self.add(
            StageFinished(
                at=moment(at),
                stage=stage,
                kind=KINDS.get(stage, Kind.CHECK),
                result=result,
                reason=self._reasons.get(stage, "") if reason is None else reason,
                seconds=(moment(at) - started).total_seconds() if started else 0.0,
                started=started,
                log=f"{stage}.log" if started else None,
                outcome=Outcome(outputs=outputs or {}, figures=figures or {}),
                failure=failure,
                note=note,
            )
        )

    def end(self, at: float, result: str = "success", exit_code: int = 0) -> "Story":
        """End the run."""
        record = self._recorder.finish(result, moment(at))
        return self.add(
            RunFinished(at=moment(at), run=self._run, result=result, exit_code=exit_code, record=record)
        )

    @property
    def record(self) -> dict[str, object]:
        """Return the record as the engine made it."""
        return self._recorder.record


def moment(at: float) -> datetime:
    """Return the time `at` seconds after the begin."""
    return BEGIN + timedelta(seconds=at)


def watch(view: View, events: Iterable[Event]) -> None:
    """Show `events` to a view, then let it close."""
    for event in events:
        view.handle(event)
    view.close()


def shipped(environment: str = "development") -> Story:
    """Return a run in which all six stages passed, two of them proven before."""
    reasons = {
        "lint": "app/web/api.py changed since run 01JPB3W8",
        "test": "app/web/api.py changed since run 01JPB3W8",
        "build": "app/web/api.py changed since run 01JPB3W8",
        "scan": "build made another image",
        "push": "the registry does not have sha256:9c1f4e7ab2d8",
        "deploy": "development runs sha256:77aa01dd93bc",
    }
    story = Story(*reasons, command="ship", environment=environment, reasons=reasons, dirty=True)
    story.start("lint", 0.05).start("test", 0.06).start("build", 0.07)
    story.say("lint", 0.5, "ruff: 212 files, nothing to say").progress("test", 0.6, "120 of 412 tests")
    story.finish("lint", 1.9, figures={"files": 212})
    story.finish(
        "build",
        8.3,
        outputs={
            "digest": DIGEST,
            "image": "127.0.0.1:5000/slipway",
            "bytes": "78412345",
            "bytes_compressed": "24810233",
        },
        figures={"bytes": 78412345, "bytes_compressed": 24810233},
    )
    story.start("scan", 8.35).finish("scan", 14.2, figures={"packages": 61, "findings": 0})
    story.finish("test", 21.7, figures={"tests": 412, "failed": 0, "coverage": 96.13})
    story.start("push", 21.75).finish("push", 22.4, figures={"uploaded_bytes": 61432})
    story.start("deploy", 22.45).progress("deploy", 23, "waiting for 2 of 2 replicas")
    story.finish(
        "deploy",
        30.1,
        outputs={
            "result": "succeeded",
            "previous": PREVIOUS,
            "url": "http://127.0.0.1:8080",
            "commit": BUILT_FROM,
        },
    )
    return story.end(30.2)


def broken(environment: str = "staging") -> Story:
    """Return a run in which test failed, build was proven, and what needs them did not start."""
    reasons = {"build": "proven 14:02 in run 01JPB2AA, 212 files unchanged"}
    story = Story("lint", "test", "build", "push", command="push", environment=environment, reasons=reasons)
    story.finish("build", 0.01, "skipped")
    story.start("lint", 0.02).start("test", 0.03)
    story.say("test", 2.0, "tests/app/test_api.py ..F.", "tests/app/test_pages.py ....")
    story.say("lint", 2.5, "All checks passed!")
    story.finish("lint", 3.0)
    failure = StageFailure(
        "1 of 8 tests failed",
        "tests/app/test_api.py:41 test_events_are_taken_once",
        "invoke test --only",
        [
            "tests/app/test_api.py:41: AssertionError: the second delivery counts as a duplicate",
            ">       assert answer.json == {'accepted': 0, 'duplicates': 1}",
            "E       assert {'accepted': 1} == {'accepted': 0, 'duplicates': 1}",
        ],
    )
    story.finish("test", 6.4, "failure", failure=failure, figures={"tests": 8, "failed": 1})
    story.finish("push", 6.41, "cancelled", reason="test failed")
    return story.end(6.5, "failure", 1)
