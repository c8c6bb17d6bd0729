"""What will run, what is skipped, and why, decided before anything happens."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from scripts.pipeline.errors import SlipwayError, UsageError
from scripts.pipeline.events import Planned
from scripts.pipeline.fingerprint import Fingerprint, Tree, differences, fingerprint
from scripts.pipeline.proofs import Proof, Proofs
from scripts.pipeline.stage import Decision, Kind, Outputs, Stage


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A decision with what it rests on: the fingerprint, and for a skipped stage its proof and outputs."""

    decision: Decision
    fingerprint: Fingerprint
    proof: Proof | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    settled: bool = True


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that a decision may look at. `given` are proofs that hold whatever the tree is: a release's own."""

    tree: Tree
    proofs: Proofs
    environment: Mapping[str, str]
    force: bool = False
    given: Mapping[str, Proof] = field(default_factory=dict)
    now: Callable[[], datetime] = lambda: datetime.now().astimezone()


def by_name(stages: Iterable[Stage]) -> dict[str, Stage]:
    """Return the stages by name."""
    return {stage.name: stage for stage in stages}


def select(stages: Sequence[Stage], names: Sequence[str]) -> tuple[Stage, ...]:
    """Return the named stages and all that they need, each behind its needs.

    Raises UsageError for a name that is none, with the one that was probably meant.
    """
    known = by_name(stages)
    found: dict[str, Stage] = {}

    def visit(name: str) -> None:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(
                f"there is no stage {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                next_step=f"choose from {', '.join(known)}",
            )
        if name not in found:
            for need in known[name].needs:
                visit(need)
            found[name] = known[name]

    for name in names:
        visit(name)
    return tuple(found.values())


def decide(stage: Stage, facts: Facts, outputs: Outputs) -> Verdict:
    """Decide whether a stage runs, given the outputs of the stages that it needs."""
    seen = fingerprint(stage, facts.tree, outputs, facts.environment)
    if stage.name in facts.given:
        proof = facts.given[stage.name]
        reason = f"proven for this release in run {proof.run}"
        return Verdict(
            decision=Decision(run=False, reason=reason), fingerprint=seen, proof=proof, outputs=proof.outputs
        )
    if facts.force:
        return Verdict(decision=Decision(run=True, reason="forced"), fingerprint=seen)
    if stage.kind is Kind.EFFECT:
        return decide_effect(stage, facts, outputs, seen)
    return decide_check(stage, facts, seen)


def decide_check(stage: Stage, facts: Facts, seen: Fingerprint) -> Verdict:
    """Decide for a check: skipped when its fingerprint is proven and what it made is still there."""
    proof = facts.proofs.find(stage.name, seen.key)
    if proof is None:
        last = facts.proofs.latest(stage.name)
        return Verdict(decision=Decision(run=True, reason=why(last, seen)), fingerprint=seen)
    for path in stage.artifacts(proof.outputs):
        if not (facts.tree.root / path).exists():
            reason = f"{shown(path, facts.tree.root)}, which run {proof.run} made, is gone"
            return Verdict(decision=Decision(run=True, reason=reason), fingerprint=seen)
    count = len(seen.files)
    unchanged = f"{count} file{'s' if count != 1 else ''} unchanged" if count else "nothing changed"
    reason = f"proven {when(proof.at, facts.now())} in run {proof.run}, {unchanged}"
    return Verdict(
        decision=Decision(run=False, reason=reason), fingerprint=seen, proof=proof, outputs=proof.outputs
    )


def decide_effect(stage: Stage, facts: Facts, outputs: Outputs, seen: Fingerprint) -> Verdict:
    """Decide for an effect by looking outside; when that fails it runs, and says itself what is wrong."""
    if stage.observe is None:
        return Verdict(decision=Decision(run=True, reason="always runs"), fingerprint=seen)
    try:
        decision = stage.observe(outputs)
    except SlipwayError as error:
        decision = Decision(run=True, reason=f"not known whether it is needed: {error.what}")
    if decision.run:
        return Verdict(decision=decision, fingerprint=seen)
    proof = facts.proofs.find(stage.name, seen.key)
    made = decision.outputs or (proof.outputs if proof else {})
    return Verdict(decision=decision, fingerprint=seen, proof=proof, outputs=made)


def why(last: Proof | None, seen: Fingerprint) -> str:
    """Say why a stage is not proven: what differs from the last time that it passed."""
    if last is None:
        return "never proven here"
    differing = differences(last.fingerprint, seen, f"run {last.run}")
    if not differing:
        return f"the proof of run {last.run} does not hold"
    more = f" (and {len(differing) - 2} more)" if len(differing) > 2 else ""
    return "; ".join(differing[:2]) + more


def when(moment: datetime, now: datetime) -> str:
    """Say when something was, as a clock time today and as a date before."""
    local = moment.astimezone(now.tzinfo)
    return f"{local:%H:%M}" if local.date() == now.date() else f"{local:%Y-%m-%d %H:%M}"


def shown(path: Path, root: Path) -> Path:
    """Return a path as a reader of the tree would write it."""
    return path.relative_to(root) if path.is_relative_to(root) else path


def plan(
    stages: Sequence[Stage], facts: Facts, before: Mapping[str, Verdict] | None = None
) -> dict[str, Verdict]:
    """Decide for every stage, in the order given, which has each behind its needs.

    `before` holds what is already decided. A stage that needs one that runs cannot be settled yet: it is
    planned to run, and decided again at its start.
    """
    verdicts = dict(before or {})
    for stage in stages:
        waiting = [need for need in stage.needs if need in verdicts and verdicts[need].decision.run]
        outputs = {name: verdict.outputs for name, verdict in verdicts.items()}
        if waiting and stage.name not in facts.given:
            verb = "runs" if len(waiting) == 1 else "run"
            decision = Decision(run=True, reason=f"{', '.join(waiting)} {verb} first")
            verdicts[stage.name] = Verdict(
                decision=decision, fingerprint=Fingerprint(files={}), settled=False
            )
        else:
            verdicts[stage.name] = decide(stage, facts, outputs)
    return verdicts


def require_proofs(stages: Sequence[Stage], names: Sequence[str], verdicts: Mapping[str, Verdict]) -> None:
    """Refuse `--only` when a stage outside `names` is needed and not proven; raises UsageError."""
    missing = [
        stage.name for stage in stages if stage.name not in names and verdicts[stage.name].decision.run
    ]
    if missing:
        raise UsageError(
            f"--only {' '.join(names)} is refused: {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not proven for this tree",
            where="; ".join(f"{name}: {verdicts[name].decision.reason}" for name in missing),
            next_step=f"invoke {' '.join(names)} without --only",
        )


def planned(stages: Sequence[Stage], verdicts: Mapping[str, Verdict]) -> tuple[Planned, ...]:
    """Return the plan as the views get it."""
    return tuple(
        Planned(
            name=stage.name,
            kind=stage.kind,
            summary=stage.summary,
            needs=stage.needs,
            decision=verdicts[stage.name].decision,
            proof=proof.run if (proof := verdicts[stage.name].proof) else None,
        )
        for stage in stages
    )
