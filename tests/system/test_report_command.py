"""`invoke report` as a person types it, in a tree of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.views.report import Report, as_json
from tests.views.story import RUN, shipped, watch

pytestmark = pytest.mark.system
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a tree")
    for name in ("scripts", "app", "config"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tasks.py", folder)
    return folder


def invoke(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    return subprocess.run(
        [sys.executable, "-m", "invoke", *words],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_report_of_the_last_run_is_found(tree: Path) -> None:
    none = invoke(tree, "report")
    assert none.returncode == 2
    assert none.stderr.startswith("no run has ended here yet")
    assert "invoke lint" in none.stderr
    runs = tree / ".slipway/runs"
    story = shipped()
    watch(Report(runs, warn=pytest.fail), story.events)
    (runs / RUN / "run.json").write_text(as_json(story.record), encoding="utf-8")
    page = invoke(tree, "report")
    assert (page.returncode, page.stdout, page.stderr) == (0, f"{runs / RUN / 'report.html'}\n", "")
    record = invoke(tree, "report", "--json")
    assert json.loads(record.stdout) == story.record
