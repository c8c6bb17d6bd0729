"""The workflows stay thin: they bring a machine and a checkout, then call what a laptop calls."""

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def load(path: Path) -> dict[str, Any]:
    """Return the workflow in `path` as plain data."""
    content: dict[str, Any] = YAML(typ="safe").load(path)
    return content


def steps(path: Path) -> list[dict[str, Any]]:
    """Return every step of every job in `path`, in order."""
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


def test_both_workflows_are_there() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci-cd.yml", "deploy.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_step_only_sets_up_or_invokes(path: Path) -> None:
    """What CI runs is what a person runs: bootstrap and invoke, nothing of its own."""
    lines = [step["run"] for step in steps(path) if "run" in step]
    assert lines
    assert all(re.match(r"(scripts/bootstrap|\.venv/bin/invoke [a-z])", line) for line in lines)
    assert all("\n" not in line.strip() for line in lines)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_expression_reaches_a_shell(path: Path) -> None:
    """An expression in `run:` is code injection; values travel in the environment."""
    assert not [step["run"] for step in steps(path) if "${{" in step.get("run", "")]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_to_commits_with_their_version_beside(path: Path) -> None:
    uses = re.findall(r"uses: (\S+)(.*)", path.read_text())
    assert uses
    for action, comment in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"{action} names no version"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_rights_are_granted_one_by_one(path: Path) -> None:
    """Nothing by default, and the token does not stay in the checkout."""
    assert load(path)["permissions"] == {}
    checkouts = [step for step in steps(path) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_every_pull_request_is_checked_and_every_push_to_main_is_deployed_to_staging() -> None:
    workflow = load(ROOT / ".github/workflows/ci-cd.yml")
    jobs = workflow["jobs"]
    assert set(workflow["on"]) == {"pull_request", "push"}
    assert jobs["verify"]["steps"][-1]["run"].endswith("invoke lint test build scan")
    assert jobs["staging"]["environment"] == "staging"
    assert jobs["staging"]["steps"][-1]["run"].endswith("invoke deploy --env=staging")


def test_production_is_promoted_by_hand_or_by_a_release_one_at_a_time() -> None:
    workflow = load(ROOT / ".github/workflows/deploy.yml")
    assert set(workflow["on"]) == {"workflow_dispatch", "release"}
    assert workflow["concurrency"]["cancel-in-progress"] is False
    assert workflow["jobs"]["promote"]["environment"]
    assert "--release=" in workflow["jobs"]["promote"]["steps"][-1]["run"]
