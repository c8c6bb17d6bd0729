"""The plan is a function of the tree, the proofs and the outside, and says its reasons."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from scripts.pipeline import plan
from scripts.pipeline.errors import UnreachableError, UsageError
from scripts.pipeline.fingerprint import Tree, fingerprint
from scripts.pipeline.proofs import Proof, Proofs
from scripts.pipeline.stage import Decision, Stage
from tests.pipeline.ground import check, effect

NOW = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
THEN = datetime(2026, 11, 23, 14, 2, tzinfo=UTC)
RUN = "01JRUN"


class Land:
    """A tree and its proofs, without a run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {"app/web/api.py": "1", "b.md": "1"}
        self.proofs = Proofs(root / "proofs")

    def facts(self, **more: Any) -> plan.Facts:
        tree = Tree(root=self.root, files=dict(self.files), commit=None, dirty=False)
        return plan.Facts(tree=tree, proofs=self.proofs, environment={}, now=lambda: NOW, **more)

    def prove(self, stage: Stage, made: Mapping[str, str] | None = None, needed: Any = None) -> Proof:
        seen = fingerprint(stage, self.facts().tree, needed or {}, {})
        proof = Proof(
            stage=stage.name, key=seen.key, run=RUN, at=THEN, seconds=1, outputs=made or {}, fingerprint=seen
        )
        self.proofs.save(proof)
        return proof

    def decide(self, stage: Stage, outputs: Any = None, **more: Any) -> Decision:
        return plan.decide(stage, self.facts(**more), outputs or {}).decision


@pytest.fixture
def land(tmp_path: Path) -> Land:
    return Land(tmp_path)


def test_what_was_never_proven_runs(land: Land) -> None:
    assert land.decide(check("lint")) == Decision(run=True, reason="never proven here")


def test_what_is_proven_is_skipped_with_when_where_and_how_much(land: Land) -> None:
    land.prove(check("lint"))
    assert land.decide(check("lint")) == Decision(
        run=False, reason=f"proven 14:02 in run {RUN}, 2 files unchanged"
    )


def test_one_file_is_singular_and_none_is_nothing(land: Land) -> None:
    land.prove(check("lint", inputs=("*.py",)))
    assert land.decide(check("lint", inputs=("*.py",))).reason.endswith("1 file unchanged")
    land.prove(check("scan", inputs=()))
    assert land.decide(check("scan", inputs=())).reason.endswith("nothing changed")


def test_another_day_is_named(land: Land) -> None:
    assert plan.when(datetime(2026, 11, 22, 9, 30, tzinfo=UTC), NOW) == "2026-11-22 09:30"


def test_a_changed_file_is_named_with_the_run_that_had_it_otherwise(land: Land) -> None:
    land.prove(check("lint"))
    land.files["app/web/api.py"] = "2"
    assert land.decide(check("lint")) == Decision(run=True, reason=f"app/web/api.py changed since run {RUN}")


def test_a_changed_tool_is_named_with_both_versions(land: Land) -> None:
    land.prove(check("lint", tools=lambda: {"ruff": "0.17.5"}))
    assert land.decide(check("lint", tools=lambda: {"ruff": "0.17.6"})).reason == "ruff 0.17.5 -> 0.17.6"


def test_at_most_two_reasons_are_told(land: Land) -> None:
    land.prove(check("lint", tools=lambda: {"a": "1", "b": "1", "c": "1"}))
    said = land.decide(check("lint", tools=lambda: {"a": "2", "b": "2", "c": "2"})).reason
    assert said == "a 1 -> 2; b 1 -> 2 (and 1 more)"


def test_going_back_to_a_proven_content_is_skipped(land: Land) -> None:
    land.prove(check("lint"))
    land.files["b.md"] = "2"
    land.prove(check("lint"))
    land.files["b.md"] = "1"
    assert not land.decide(check("lint")).run


def test_a_proof_is_void_when_what_was_made_is_gone(land: Land) -> None:
    made = check("build", artifacts=lambda outputs: [Path(outputs["archive"])])
    land.prove(made, {"archive": "image.tar"})
    (land.root / "image.tar").write_text("x")
    assert not land.decide(made).run
    (land.root / "image.tar").unlink()
    assert land.decide(made) == Decision(run=True, reason=f"image.tar, which run {RUN} made, is gone")


def test_a_proof_whose_content_no_longer_explains_itself_does_not_hold(land: Land) -> None:
    proof = land.prove(check("lint"))
    assert "does not hold" in plan.why(proof, proof.fingerprint)


def test_force_ignores_proofs_and_what_is_outside(land: Land) -> None:
    land.prove(check("lint"))
    quiet = effect("push", observe=lambda _: Decision(run=False, reason="there"))
    assert land.decide(check("lint"), force=True) == Decision(run=True, reason="forced")
    assert land.decide(quiet, force=True).run


def test_an_effect_decides_by_looking_outside(land: Land) -> None:
    asked = []

    def look(outputs: Any) -> Decision:
        asked.append(outputs)
        return Decision(run=False, reason="already there", outputs={"reference": "r"})

    verdict = plan.decide(effect("push", observe=look), land.facts(), {"build": {"digest": "d"}})
    assert asked == [{"build": {"digest": "d"}}]
    assert (verdict.decision.run, verdict.decision.reason) == (False, "already there")
    assert verdict.outputs == {"reference": "r"}


def test_an_effect_that_did_this_before_remembers_what_it_made(land: Land) -> None:
    quiet = effect("push", observe=lambda _: Decision(run=False, reason="there"))
    land.prove(quiet, {"reference": "old"})
    assert plan.decide(quiet, land.facts(), {}).outputs == {"reference": "old"}


def test_an_effect_that_cannot_look_always_runs(land: Land) -> None:
    assert land.decide(effect("push")).reason == "always runs"


def test_an_effect_whose_outside_does_not_answer_runs_and_says_so_itself(land: Land) -> None:
    def look(_: Any) -> Decision:
        raise UnreachableError("the registry does not answer")

    said = land.decide(effect("push", observe=look))
    assert said == Decision(run=True, reason="not known whether it is needed: the registry does not answer")


def test_a_given_proof_needs_no_tree(land: Land) -> None:
    proof = land.prove(check("build"), {"digest": "d"})
    land.files.clear()
    verdict = plan.decide(check("build"), land.facts(given={"build": proof}), {})
    assert verdict.decision == Decision(run=False, reason=f"proven for this release in run {RUN}")
    assert verdict.outputs == {"digest": "d"}


STAGES = (
    check("lint"),
    check("build"),
    check("scan", needs=("build",), inputs=()),
    effect("push", needs=("lint", "scan"), observe=lambda _: Decision(run=False, reason="there")),
)


def test_a_stage_behind_one_that_runs_is_planned_to_run_and_settled_later(land: Land) -> None:
    land.prove(STAGES[0])
    verdicts = plan.plan(STAGES, land.facts())
    assert not verdicts["lint"].decision.run
    assert verdicts["scan"].decision.reason == "build runs first"
    assert not verdicts["scan"].settled
    assert verdicts["push"].decision.reason == "scan runs first"
    assert verdicts["lint"].settled


def test_two_that_run_first_are_both_named(land: Land) -> None:
    assert plan.plan(STAGES, land.facts())["push"].decision.reason == "lint, scan run first"


def test_a_proven_chain_is_skipped_to_its_end(land: Land) -> None:
    land.prove(STAGES[0])
    land.prove(STAGES[1], {"digest": "d"})
    land.prove(STAGES[2], needed={"build": {"digest": "d"}})
    verdicts = plan.plan(STAGES, land.facts())
    assert [verdict.decision.run for verdict in verdicts.values()] == [False] * 4
    lines = plan.planned(STAGES, verdicts)
    assert [line.proof for line in lines] == [RUN, RUN, RUN, None]
    assert [line.name for line in lines] == ["lint", "build", "scan", "push"]


def test_planning_changes_nothing(land: Land) -> None:
    plan.plan(STAGES, land.facts())
    assert list(land.root.iterdir()) == []


def test_a_selection_holds_what_is_needed_first() -> None:
    assert [stage.name for stage in plan.select(STAGES, ["push"])] == ["lint", "build", "scan", "push"]
    assert [stage.name for stage in plan.select(STAGES, ["scan", "lint", "scan"])] == [
        "build",
        "scan",
        "lint",
    ]


@pytest.mark.parametrize(("name", "meant"), [("biuld", "; did you mean 'build'?"), ("xyz", "")])
def test_an_unknown_stage_is_refused_with_the_one_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(UsageError) as refused:
        plan.select(STAGES, [name])
    assert refused.value.what == f"there is no stage {name!r}{meant}"
    assert "lint, build, scan, push" in refused.value.next_step


def test_only_is_refused_where_what_is_needed_is_not_proven(land: Land) -> None:
    needed = STAGES[:3]
    with pytest.raises(UsageError) as refused:
        plan.require_proofs(needed, ["push"], plan.plan(needed, land.facts()))
    assert "lint, build, scan are not proven" in refused.value.what
    land.prove(STAGES[0])
    land.prove(STAGES[1], {"digest": "d"})
    with pytest.raises(UsageError, match="scan is not proven"):
        plan.require_proofs(needed, ["push"], plan.plan(needed, land.facts()))
