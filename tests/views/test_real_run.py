"""A run of the real engine in a tree of its own, with everyone watching."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from config.masking import MASK, Masker
from scripts.pipeline.errors import StageFailure
from scripts.pipeline.runner import Order, Runner
from scripts.pipeline.stage import Kind, Outcome, Stage, StageContext
from scripts.views.audience import audience

from .test_report import SCHEMA

SENTINEL = "s3ntinel-of-a-real-run"
ENCODED = base64.b64encode(SENTINEL.encode()).decode()


def speaking(context: StageContext) -> Outcome:
    context.progress(f"reading {SENTINEL}")
    context.say(f"the value is {SENTINEL}")
    context.run(
        [sys.executable, "-c", "import os; print('child:', os.environ['GIVEN'])"], env={"GIVEN": SENTINEL}
    )
    context.run([sys.executable, "-c", f"print('coded: {ENCODED}')"])
    return Outcome(
        outputs={"digest": "sha256:" + "a" * 64, "image": f"registry/{SENTINEL}"}, figures={"files": 1}
    )


def failing(context: StageContext) -> Outcome:
    raise StageFailure(f"{SENTINEL} was refused", SENTINEL, f"change {SENTINEL}", [f"line {SENTINEL}"])


def run(root: Path, *stages: Stage) -> tuple[int, str]:
    if not (root / ".git").is_dir():
        subprocess.run(["git", "init", "-q", str(root)], check=True)
        (root / ".gitignore").write_text(".slipway/\nproject_state.json\n")
    out = io.StringIO()
    runner = Runner(
        root=root,
        stages=stages,
        order=Order(command="build", names=tuple(stage.name for stage in stages)),
        views=audience(root, out=out, err=out, variables={}),
        mask=Masker([SENTINEL]),
    )
    return runner.run(), out.getvalue()


def stage(name: str, action: object, **options: object) -> Stage:
    return Stage(name=name, kind=Kind.CHECK, summary=name, action=action, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("action", [speaking, failing])
def test_the_record_on_disk_is_what_its_schema_says(tmp_path: Path, action: object) -> None:
    code, _ = run(tmp_path, stage("build", action))
    assert code == (1 if action is failing else 0)
    record = json.loads((tmp_path / ".slipway/runs/latest/run.json").read_text(encoding="utf-8"))
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(record)
    assert [each["name"] for each in record["stages"]] == ["build"]


def test_no_file_below_the_tree_and_no_line_holds_a_secret(tmp_path: Path) -> None:
    _, shown = run(tmp_path, stage("build", speaking), stage("lint", failing))
    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    names = {path.name for path in written}
    assert names >= {"build.log", "run.json", "report.html", "project_state.json"}
    log = next(text for path, text in written.items() if path.name == "build.log")
    assert log.count(MASK.encode()) == 3
    for path, text in written.items():
        assert SENTINEL.encode() not in text, path
        assert ENCODED[:12].encode() not in text, path
    assert SENTINEL not in shown
    assert MASK in shown


def test_the_second_run_says_what_is_proven(tmp_path: Path) -> None:
    run(tmp_path, stage("build", lambda context: Outcome()))
    code, shown = run(tmp_path, stage("build", lambda context: Outcome()))
    assert code == 0
    assert "○ build skipped: " in shown
    assert len(list((tmp_path / ".slipway/spool/embedded").glob("*.ndjson"))) == 2
