"""Wall clocks that jump while a program runs: budget, breaker, lifetime and failback go on as before."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app import database as package
from tests.clock import wrong_clock
from tests.postgres import Database, wait_until
from tests.tcp_proxy import TcpProxy

PROGRAM = """
import json, sys, time
from app.database import ConnectionManager, Limits, PoolTimeout
from app.database.adapters.local import Local

def route(name, port):
    return Local(name=name, host="127.0.0.1", port=int(port), database=sys.argv[3], user="slipway")

def waited():
    began = time.monotonic()
    try:
        with manager.transaction(), manager.transaction(budget=0.4):
            pass
    except PoolTimeout:
        return time.monotonic() - began

def insert(tx):
    tx.execute("INSERT INTO entry VALUES (1)")
    return tx.route

def opened():
    return sum(pool.opened for route in manager.statistics().routes for pool in route.pools.values())

answers = {"wall": time.time, "waited": waited, "write": lambda: manager.run(insert), "opened": opened,
           "active": lambda: manager.active}
limits = Limits(pool_size=1, budget=60.0, connect_timeout=20.0, silence=1.0, max_lifetime=600.0, failback=1.0,
                failback_probes=2, breaker_cooldown=0.05, breaker_cooldown_limit=0.3)
with ConnectionManager([route("first", sys.argv[1]), route("second", sys.argv[2])], limits=limits) as manager:
    for line in sys.stdin:
        print(json.dumps(answers[line.strip()]()), flush=True)
"""


@contextmanager
def program(file: Path, *arguments: str) -> Iterator[Callable[[str], Any]]:
    """Run the program under the clock that `file` sets, and give what asks it."""
    clock = {"FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), **wrong_clock(), **clock},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(what: str) -> Any:
            stdin.write(f"{what}\n")
            stdin.flush()
            return json.loads(stdout.readline())

        try:
            yield ask
        finally:
            stdin.close()
            process.wait(20)


@pytest.mark.system
def test_a_wall_clock_that_jumps_changes_nothing(
    database: Database, proxy: Callable[[int], TcpProxy], tmp_path: Path
) -> None:
    database.execute("CREATE TABLE entry (id integer)")
    first = proxy(database.server.port)
    file = tmp_path / "clock"
    file.write_text("+0")
    with program(file, str(first.port), str(database.server.port), database.name) as ask:
        for jump in (7200, -7200):
            assert ask("write") == "first"
            opened = ask("opened")
            file.write_text(f"{jump:+}")
            assert abs(ask("wall") - time.time() - jump) < 60
            # Neither older than its lifetime nor younger than it is.
            assert ask("write") == "first"
            assert ask("opened") == opened
            assert 0.4 <= ask("waited") < 10
            first.refuse()
            assert ask("write") == "second"
            file.write_text("+0")
            began = time.monotonic()
            first.heal()
            file.write_text(f"{jump:+}")
            wait_until(lambda: ask("active") == "first", 60, "failing back")
            assert time.monotonic() - began > 0.8, "a jump does not make a route steady"


def test_no_module_of_the_layer_measures_by_the_wall_clock() -> None:
    """`datetime.now` is for what is written down, and only there."""
    written_down = {"migrations/lock.py": 1, "migrations/runner.py": 1}
    found: dict[str, int] = {}
    root = Path(package.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Attribute(attr="now" | "utcnow" | "today"):
                    found[str(path.relative_to(root))] = found.get(str(path.relative_to(root)), 0) + 1
                case ast.Attribute(value=ast.Name(id="time"), attr=name):
                    assert name in {"monotonic", "sleep"}, f"{path}: time.{name}"
                case ast.ImportFrom(module="time"):
                    raise AssertionError(f"{path}: a name out of `time` cannot be told from others")
                case _:
                    pass
    assert found == written_down
