"""Measure what the configuration costs at a start: importing it, and loading and checking all of it."""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.deployment.secrets import generate
from tests.bench.document import machine, table, write_section

ROUNDS = 15
PROGRAM = """
import time
start = time.process_time()
{statement}
print((time.process_time() - start) * 1000)
"""
CHECKED = """
from pathlib import Path
from config.check import check
from config.settings import Sources
sources = Sources(environ={{}}, secrets=(Path({secrets!r}),))
assert check("staging", sources).settings is not None
start = time.process_time()
check("staging", sources)
"""
FLOOR = "import dataclasses, decouple, enum, ipaddress, pathlib, re, typing, urllib.parse"
MEASURED = (
    ("`import json`, for scale", "import json", ""),
    ("`import dataclasses, decouple, ipaddress, urllib.parse`, the floor", FLOOR, ""),
    ("`import config.settings, config.check`", "import config.settings, config.check", "30 ms"),
    ("load and check all settings of staging, its secrets included", CHECKED, "10 ms"),
)


def milliseconds(statement: str, root: Path) -> list[float]:
    """Return the processor time of `statement` in fresh processes, sorted, in milliseconds."""
    command = [sys.executable, "-c", PROGRAM.format(statement=statement)]
    # The first round compiles what has changed, which no later start does again.
    compiling = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found = []
    for _ in range(ROUNDS + 1):
        done = subprocess.run(command, cwd=root, env=compiling, capture_output=True, text=True, check=True)
        found.append(float(done.stdout))
    return sorted(found[1:])


def main(document: Path) -> int:
    """Write the section `configuration` of `document`."""
    rows = []
    with tempfile.TemporaryDirectory() as secrets:
        generate(Path(secrets), ("SECRET_KEY", "LEDGER_TOKEN", "DB_PASSWORD"))
        for name, statement, budget in MEASURED:
            times = milliseconds(statement.format(secrets=secrets), document.parent.parent)
            rows.append((name, f"{times[0]:.1f} ms", f"{statistics.median(times):.1f} ms", budget or "-"))
    lines = [
        "## Configuration",
        "",
        machine(),
        f"Processor time in {ROUNDS} fresh processes. The budgets are for an idle machine, where",
        "`import json` takes 2 to 3 ms: a busy one slows every line of the table alike.",
        "",
        table(("what", "least", "median", "budget"), rows),
    ]
    write_section(document, "configuration", "\n".join(lines))
    return 0
