"""Carries out a plan: starts what may start, side by side, tells the views, stops everything when told to."""

import contextlib
import os
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from scripts.pipeline import events, plan, process
from scripts.pipeline.budget import Budget, processors
from scripts.pipeline.errors import SlipwayError, StageFailure
from scripts.pipeline.fingerprint import STATE, Tree, changed_names, chosen, printable, snapshot
from scripts.pipeline.interrupt import Interrupt
from scripts.pipeline.lock import RunLock
from scripts.pipeline.proofs import Proof, Proofs
from scripts.pipeline.record import new_run_id
from scripts.pipeline.stage import Kind, Outcome, Stage
from scripts.pipeline.telling import Telling
from scripts.pipeline.working import Ended, Working

TICK_SECONDS = 0.05
"""How soon, in seconds, a signal or a time-out is noticed while the stages are quiet."""
STOP_SECONDS = 1.3
"""How long a cancelled stage gets at least, in seconds, before the run goes on without it."""
HEARTBEAT_SECONDS = 20.0
QUEUE_EVENTS = 10_000
"""Events that may wait for the views; a stage that prints faster than they show is slowed down."""
GOOD = ("success", "skipped")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What was asked for. `given` are the proofs of the release that is promoted, which need no tree."""

    command: str
    names: tuple[str, ...]
    environment: str = "development"
    force: bool = False
    only: bool = False
    keep_going: bool = False
    given: Mapping[str, Proof] = field(default_factory=dict)


def utc_now() -> datetime:
    """Return the time as an aware UTC time."""
    return datetime.now(UTC)


class Runner:
    """One run of an order in one tree; `run` may be called once."""

    def __init__(
        self,
        *,
        root: Path,
        stages: Sequence[Stage],
        order: Order,
        views: Sequence[events.View] = (),
        mask: events.Mask | None = None,
        cpus: int | None = None,
        heartbeat: float = HEARTBEAT_SECONDS,
        environment: Mapping[str, str] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.root = root
        self.order = order
        self.interrupt = Interrupt()
        self._now = now
        self.run_id = new_run_id(now())
        self.directory = root / STATE / "runs" / self.run_id
        self._environment = os.environ if environment is None else environment
        self._mask = mask or events.Plainly()
        self._budget = Budget(processors() if cpus is None else cpus)
        self._heartbeat = heartbeat
        self._telling = Telling(views, self._mask, self.directory, now)
        self._proofs = Proofs(root / STATE / "proofs", self._telling.notice)
        self._lock = RunLock(root / STATE / "run.lock")
        self._queue: queue.Queue[events.Event | Ended] = queue.Queue(QUEUE_EVENTS)
        self._stages = plan.select(stages, order.names)
        self._verdicts: dict[str, plan.Verdict] = {}
        self._facts: plan.Facts | None = None
        self._pending: list[Stage] = []
        self._running: dict[str, Working] = {}
        self._results: dict[str, events.StageFinished] = {}
        self._passed: dict[str, Proof] = {}
        self._moved: dict[str, str] = {}
        self._guardian: process.Guardian | None = None

    def preview(self) -> tuple[events.Planned, ...]:
        """Decide and change nothing; raises UsageError where a run would."""
        self._decide()
        return plan.planned(self._shown(), self._verdicts)

    def run(self) -> int:
        """Carry out the order and return the exit code; raises SlipwayError when it cannot begin."""
        try:
            with self.interrupt:
                self._decide()
                if any(self._verdicts[stage.name].decision.run for stage in self._shown()):
                    self._take_turn()
                self._begin()
                try:
                    self._go()
                finally:
                    self._stop_all()
                return self._finish()
        finally:
            self._lock.free()
            self._telling.close()

    def _shown(self) -> tuple[Stage, ...]:
        names = self.order.names
        return tuple(stage for stage in self._stages if not self.order.only or stage.name in names)

    def _decide(self) -> None:
        tree = snapshot(self.root)
        self._facts = plan.Facts(
            tree=tree,
            proofs=self._proofs,
            environment=self._environment,
            force=self.order.force,
            given=self.order.given,
        )
        if self.order.only:
            # What is only needed is never forced: its proofs are what is asked about.
            unforced = replace(self._facts, force=False)
            needed = [stage for stage in self._stages if stage.name not in self.order.names]
            others = plan.plan(needed, unforced)
            plan.require_proofs(needed, self.order.names, others)
            self._verdicts = plan.plan(self._shown(), self._facts, others)
        else:
            self._verdicts = plan.plan(self._stages, self._facts)

    def _take_turn(self) -> None:
        try:
            waited = False
            while not self._lock.take(self.run_id, self.order.command) and not self.interrupt.number:
                if not waited:
                    self._telling.notice(f"waiting for {self._lock.holder()} in this tree")
                waited = True
                time.sleep(TICK_SECONDS)
        except OSError as error:
            raise SlipwayError(
                f"this tree's state cannot be written: {error.strerror}",
                where=str(self.root / STATE),
                next_step="free some space or make it writable, then run this again",
            ) from error
        if waited:
            self._decide()

    def _begin(self) -> None:
        tree = self._tree
        self._telling.keep_runs(self._proofs.runs())
        self._telling.begin(
            events.RunStarted(
                at=self._now(),
                run=self.run_id,
                command=self.order.command,
                environment=self.order.environment,
                commit=tree.commit,
                dirty=tree.dirty,
                plan=plan.planned(self._shown(), self._verdicts),
                directory=str(self.directory.relative_to(self.root)),
            )
        )
        self._pending = list(self._shown())

    @property
    def _tree(self) -> Tree:
        assert self._facts is not None  # noqa: S101 _decide comes first
        return self._facts.tree

    def _go(self) -> None:
        while True:
            self._start_ready()
            if not self._running:
                return
            self._listen()
            self._watch()

    def _listen(self) -> None:
        """Pass on what the stages say; at most one queue's length at once, so that signals are noticed."""
        with contextlib.suppress(queue.Empty):
            event = self._queue.get(timeout=TICK_SECONDS)
            for _ in range(QUEUE_EVENTS):
                if isinstance(event, Ended):
                    self._end(event)
                else:
                    self._note_progress(event)
                    self._telling.tell(event)
                event = self._queue.get_nowait()

    def _note_progress(self, event: events.Event) -> None:
        if isinstance(event, events.StageProgress) and event.stage in self._running:
            self._running[event.stage].progress = event.text

    def _start_ready(self) -> None:
        """Settle what can be settled without running, then start what may start, the widest stage first."""
        ready: list[tuple[Stage, plan.Verdict]] = []
        for stage in tuple(self._pending):
            refused = self._refusal(stage)
            if refused:
                self._pending.remove(stage)
                self._settle(stage, "cancelled", refused)
            elif all(need in self._results for need in self._needs(stage)):
                self._pending.remove(stage)
                verdict = self._verdict(stage)
                moved = [self._moved[need] for need in self._all_needs(stage) if need in self._moved]
                if not verdict.decision.run:
                    self._skip(stage, verdict)
                elif stage.kind is Kind.EFFECT and moved:
                    self._refuse_moved(stage, verdict, moved[0])
                else:
                    ready.append((stage, verdict))
        for stage, verdict in sorted(ready, key=lambda pair: -pair[0].workers):
            self._start(stage, verdict)

    def _refusal(self, stage: Stage) -> str:
        if self.interrupt.number:
            return "not run: the run was stopped"
        bad = [name for name, result in self._results.items() if result.result not in GOOD]
        needed = [name for name in bad if name in stage.needs]
        if needed or (bad and not self.order.keep_going):
            name = (needed or bad)[0]
            how = "failed" if self._results[name].result in ("failure", "error") else "did not run"
            return f"not run: {name} {how}"
        return ""

    def _needs(self, stage: Stage) -> tuple[str, ...]:
        shown = {each.name for each in self._shown()}
        return tuple(need for need in stage.needs if need in shown)

    def _all_needs(self, stage: Stage) -> set[str]:
        return {each.name for each in plan.select(self._stages, [stage.name])} - {stage.name}

    def _verdict(self, stage: Stage) -> plan.Verdict:
        verdict = self._verdicts[stage.name]
        if verdict.settled or self._facts is None:
            return verdict
        verdict = plan.decide(stage, self._facts, self._outputs(stage))
        self._verdicts[stage.name] = verdict
        return verdict

    def _outputs(self, stage: Stage) -> dict[str, Mapping[str, str]]:
        return {
            name: self._verdicts[name].outputs for name in self._all_needs(stage) if name in self._verdicts
        }

    def _skip(self, stage: Stage, verdict: plan.Verdict) -> None:
        if verdict.proof and stage.kind is Kind.CHECK:
            self._passed[stage.name] = verdict.proof
        proof = verdict.proof
        self._settle(
            stage,
            "skipped",
            verdict.decision.reason,
            proof=proof.run if proof else None,
            outcome=Outcome(outputs=verdict.outputs, figures=proof.figures if proof else {}),
        )

    def _refuse_moved(self, stage: Stage, verdict: plan.Verdict, what: str) -> None:
        failure = StageFailure(
            f"{stage.name} is refused: {what} while the checks ran, so they did not check what is there now",
            where=f"stage {stage.name}",
            next_step=f"invoke {self.order.command}, once the tree stands still",
        )
        self._settle(stage, "failure", verdict.decision.reason, failure=failure)

    def _settle(
        self,
        stage: Stage,
        result: str,
        reason: str,
        *,
        proof: str | None = None,
        outcome: Outcome | None = None,
        failure: SlipwayError | None = None,
    ) -> None:
        """Finish a stage that was never started."""
        finished = events.StageFinished(
            at=self._now(),
            stage=stage.name,
            kind=stage.kind,
            result=result,
            reason=reason,
            proof=proof,
            outcome=outcome,
            failure=failure,
        )
        self._results[stage.name] = finished
        self._telling.tell(finished)

    def _start(self, stage: Stage, verdict: plan.Verdict) -> None:
        if self._guardian is None:
            self._guardian = process.Guardian(self.run_id)
        workers = self._budget.take(stage.name, stage.workers)
        started = events.StageStarted(
            at=self._now(), stage=stage.name, kind=stage.kind, reason=verdict.decision.reason, workers=workers
        )
        self._telling.tell(started)
        working = Working(
            stage=stage,
            root=self.root,
            directory=self.directory,
            run_id=self.run_id,
            environment=self.order.environment,
            outputs=self._outputs(stage),
            workers=workers,
            mask=self._mask,
            post=self._queue.put,
            started=started.at,
        )
        self._running[stage.name] = working
        working.start()

    def _end(self, ended: Ended) -> None:
        working = self._running.get(ended.working.stage.name)
        if working is not ended.working:
            return  # it was given up before; what it says now comes too late
        stage = working.stage
        del self._running[stage.name]
        self._budget.give_back(stage.name)
        note = ""
        proof: Proof | None = None
        verdict = self._verdicts[stage.name]
        if ended.result == "success" and ended.outcome:
            self._verdicts[stage.name] = replace(verdict, outputs=ended.outcome.outputs)
            note = self._movement(stage)
            if note:
                self._moved[stage.name] = note
                note = f"{note} while it ran: no proof is kept"
            else:
                proof = self._prove(stage, verdict, ended)
        finished = events.StageFinished(
            at=self._now(),
            stage=stage.name,
            kind=stage.kind,
            result=ended.result,
            reason=verdict.decision.reason,
            seconds=working.seconds,
            started=working.started,
            proof=self.run_id if proof else None,
            log=f"{stage.name}.log" if (self.directory / f"{stage.name}.log").exists() else None,
            outcome=ended.outcome,
            failure=ended.failure,
            note=note,
        )
        self._results[stage.name] = finished
        self._telling.tell(finished)

    def _movement(self, stage: Stage) -> str:
        """Say which input changed since the run began; empty when none did."""
        if stage.kind is Kind.EFFECT:
            return ""
        try:
            now = snapshot(self.root)
        except SlipwayError as error:
            return error.what
        changed = changed_names(chosen(self._tree, stage.inputs), chosen(now, stage.inputs))
        if not changed:
            return ""
        more = f" (+{len(changed) - 1} more)" if len(changed) > 1 else ""
        return f"{printable(changed[0][0])} {changed[0][1]}{more}"

    def _prove(self, stage: Stage, verdict: plan.Verdict, ended: Ended) -> Proof | None:
        outcome = ended.outcome or Outcome()
        proof = Proof(
            stage=stage.name,
            key=verdict.fingerprint.key,
            run=self.run_id,
            at=self._now(),
            seconds=ended.working.seconds,
            outputs={name: self._mask.text(value) for name, value in outcome.outputs.items()},
            figures=outcome.figures,
            fingerprint=verdict.fingerprint,
        )
        try:
            self._proofs.save(proof)
        except OSError as error:
            self._telling.notice(
                f"the proof of {stage.name} cannot be written ({error.strerror}): "
                "it passed, and will run again next time"
            )
            return None
        if stage.kind is Kind.CHECK:
            self._passed[stage.name] = proof
            self._assign()
        return proof

    def _watch(self) -> None:
        """Stop what must stop: all of it after a signal, a stage after its time-out."""
        now = time.monotonic()
        for working in tuple(self._running.values()):
            if self.interrupt.number and not working.told_to_stop:
                working.stop(now)
            elif now > working.deadline and not working.told_to_stop:
                working.stop(now, timed_out=True)
            if working.told_to_stop and (
                self.interrupt.count > 1
                or now > working.told_to_stop + max(working.stage.grace, STOP_SECONDS)
            ):
                self._end(working.give_up())
        if self._running and self._telling.silence() > self._heartbeat:
            running = tuple(
                events.Running(stage=name, seconds=working.seconds, progress=working.progress)
                for name, working in self._running.items()
            )
            self._telling.tell(events.Heartbeat(at=self._now(), running=running))

    def _stop_all(self) -> None:
        """Leave no process behind, also when the run itself broke."""
        for working in tuple(self._running.values()):
            working.stop(time.monotonic())
            working.give_up()
        if self._guardian is not None:
            self._guardian.close()

    def _finish(self) -> int:
        results = [finished.result for finished in self._results.values()]
        self._assign()
        if self.interrupt.number:
            result, code = "cancelled", self.interrupt.exit_code
        elif "error" in results:
            result, code = "error", 1
        elif "failure" in results:
            failures = [found.failure for found in self._results.values() if found.failure]
            result, code = "failure", failures[0].exit_code if failures else 1
        else:
            result, code = "success", 0
        self._telling.finish(self.run_id, result, code)
        return code

    def _assign(self) -> None:
        """Remember which proofs the release of this run has, once there is one."""
        build = self._passed.get("build")
        digest = build.outputs.get("digest", "") if build else ""
        known = self._proofs.for_release(digest) if digest else {}
        wanted = {name: proof for name, proof in self._passed.items() if name not in self.order.given}
        news = {name for name, proof in wanted.items() if name not in known or known[name].key != proof.key}
        if digest and news:
            with contextlib.suppress(OSError):
                self._proofs.assign(digest, wanted)
