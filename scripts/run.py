"""Joins stages, pipeline and views into one run."""

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from scripts.pipeline import events
from scripts.pipeline.errors import UsageError
from scripts.pipeline.plan import select
from scripts.pipeline.proofs import Proof
from scripts.pipeline.record import new_run_id
from scripts.pipeline.runner import Order, Runner
from scripts.pipeline.stage import Kind, Outcome, Stage

if TYPE_CHECKING:
    from config.masking import Masker
    from config.settings import Settings
    from scripts.command import Call
    from scripts.views.rollback import Done

ROOT = Path(__file__).resolve().parent.parent
NEEDS: Mapping[str, tuple[str, ...]] = {
    "lint": (),
    "test": (),
    "build": (),
    "scan": ("build",),
    "push": ("lint", "test", "scan"),
    "deploy": ("push",),
}
SELF_CONTAINED = ("lint", "test")
"""Stages that depend on no environment's settings, so that they run where these are not complete."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What one command line asks of the pipeline."""

    stages: tuple[str, ...]
    command: str
    environment: str | None = None
    force: bool = False
    only: bool = False
    json: bool = False
    keep_going: bool = False
    everything: bool = False
    release: str | None = None
    plan: bool = False


def asked(calls: Sequence["Call"], *, dry: bool = False) -> Asked:
    """Join the pipeline's tasks of one command line into one order; raises UsageError when they
    contradict.
    """
    stages: list[str] = []
    environments: set[str] = set()
    flags = dict.fromkeys(("force", "only", "json", "keep_going", "all"), False)
    releases: set[str] = set()
    for call in calls:
        if call.name != "plan":
            stages.append("deploy" if call.name == "ship" else call.name)
        environment = "development" if call.name == "ship" else call.arguments.get("env")
        environments |= {environment} if environment else set()
        release = call.arguments.get("release")
        releases |= {release} if release else set()
        for flag in flags:
            flags[flag] |= bool(call.arguments.get(flag))
    for name, values in (("environment", environments), ("release", releases)):
        if len(values) > 1:
            raise UsageError(
                f"one run has one {name}, not {' and '.join(sorted(values))}",
                next_step="give them to two commands",
            )
    planning = dry or any(call.name == "plan" for call in calls)
    return Asked(
        stages=tuple(dict.fromkeys(stages)) or tuple(NEEDS),
        command=" ".join(dict.fromkeys(call.name for call in calls if call.name != "plan")) or "plan",
        environment=next(iter(environments), None),
        force=flags["force"],
        only=flags["only"],
        json=flags["json"],
        keep_going=flags["keep_going"],
        everything=flags["all"],
        release=next(iter(releases), None),
        plan=planning,
    )


def closure(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names and all that they need, without loading any stage; raises UsageError for an
    unknown.
    """
    skeleton = [
        Stage(name=name, kind=Kind.CHECK, summary="", action=lambda _: Outcome(), needs=needs)
        for name, needs in NEEDS.items()
    ]
    return tuple(stage.name for stage in select(skeleton, names))


def load_stages(
    names: Sequence[str], settings: "Settings | None", *, everything: bool = False, promoted: bool = False
) -> list[Stage]:
    """Load the modules of these stages alone, and connect them."""
    found = []
    for name in names:
        module = importlib.import_module(f"scripts.stages.{name}")
        if name == "test":
            made = module.stage(everything=everything)
        elif name == "lint":
            made = module.stage()
        elif name == "push":
            made = module.stage(settings, ROOT, promoted=promoted)
        else:
            made = module.stage(settings, ROOT)
        found.append(replace(made, needs=NEEDS[name]))
    return found


def given(
    release: str | None, names: Sequence[str], settings: "Settings | None", root: Path
) -> Mapping[str, Proof]:
    """Return the proofs that a promoted release brings along; none where no release is named."""
    if release is None or settings is None:
        return {}
    from scripts import promotion

    return promotion.proofs_of(release, names, settings, root)


def show_plan(plan: Sequence[events.Planned], stream: TextIO, *, as_json: bool) -> None:
    """Write a plan, one line a stage."""
    if as_json:
        content: list[dict[str, Any]] = [
            {
                "name": each.name,
                "kind": str(each.kind),
                "needs": list(each.needs),
                "run": each.decision.run,
                "reason": each.decision.reason,
                "proof": each.proof,
            }
            for each in plan
        ]
        stream.write(json.dumps({"stages": content}, indent=1) + "\n")
        return
    width = max(len(each.name) for each in plan)
    for each in plan:
        verb = "run " if each.decision.run else "skip"
        stream.write(f"{each.name:<{width}}  {verb}  {each.decision.reason}\n")


def load_settings(names: Sequence[str], environment: str | None) -> "tuple[str, Settings | None]":
    """Load the environment's settings and return its name with them; raises ConfigurationError.

    Stages that depend on no settings run without them where they are not complete, unless an environment is
    named, or the one that is chosen does not exist.
    """
    from config.errors import ConfigurationError
    from config.settings import Sources, load

    sources = Sources()
    if "deploy" in names:
        from scripts.deployment.secrets import prepare

        prepare(environment, sources)
    try:
        settings = load(environment, sources)
    except ConfigurationError as refused:
        if environment or not refused.environment or any(name not in SELF_CONTAINED for name in names):
            raise
        return refused.environment, None
    return settings.environment, settings


def watchers(settings: "Settings | None", mask: "Masker", *, as_json: bool) -> Sequence[events.View]:
    """Return every view of a run in this tree."""
    from scripts.views.audience import audience

    url, token = ledger_of(settings)
    return audience(
        ROOT,
        out=sys.stdout,
        err=sys.stderr,
        variables=os.environ,
        json=as_json,
        ledger_url=url,
        ledger_token=token,
        hide=mask.text,
    )


def ledger_of(settings: "Settings | None") -> tuple[str, Callable[[], str | None]]:
    """Return the shared ledger's address and how to get its token."""
    ledger = settings.ledger if settings else None
    return ledger.url if ledger else "", lambda: ledger.token.reveal() if ledger and ledger.token else None


def masker(settings: "Settings | None") -> "Masker":
    """Return what hides every secret of this machine, of settings that were refused too."""
    from config.masking import Masker
    from config.reach import within_reach

    own = settings.secrets() if settings else ()
    return Masker(secret.reveal() for secret in (*own, *within_reach()))


def remember(done: "Done", tell: Callable[[str], None]) -> None:
    """Write a rollback where the runs are remembered: project_state.json and the ledgers."""
    from scripts.views.audience import keepers
    from scripts.views.rollback import story

    _, settings = load_settings(("deploy",), done.environment)
    mask = masker(settings)
    url, token = ledger_of(settings)

    def said(text: str) -> None:
        tell(mask.text(text))

    views = keepers(ROOT, tell=said, variables=os.environ, ledger_url=url, ledger_token=token)
    now = datetime.now(UTC)
    for event in story(done, run=new_run_id(now), ended=now):
        for view in views:
            view.handle(mask.event(event))
    for view in views:
        view.close()


def run(wanted: Asked) -> int:
    """Carry out what was asked and return the exit code; raises SlipwayError and ConfigurationError."""
    names = closure(wanted.stages)
    environment, settings = load_settings(names, wanted.environment)
    stages = load_stages(names, settings, everything=wanted.everything, promoted=wanted.release is not None)
    order = Order(
        command=wanted.command,
        names=wanted.stages,
        environment=environment,
        force=wanted.force,
        only=wanted.only,
        keep_going=wanted.keep_going,
        given=given(wanted.release, names, settings, ROOT),
    )
    mask = masker(settings)
    runner = Runner(
        root=ROOT,
        stages=stages,
        order=order,
        views=() if wanted.plan else watchers(settings, mask, as_json=wanted.json),
        mask=mask,
    )
    if wanted.plan:
        show_plan(runner.preview(), sys.stdout, as_json=wanted.json)
        return 0
    return runner.run()
