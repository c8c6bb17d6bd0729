"""The real server as a process, for the tests that talk to it over its port."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.settings import Sources
from tests.postgres import free_port, wait_until

from .conftest import TOKEN

ROOT = Path(__file__).parents[2]
JSON = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}


@dataclass
class Service:
    """One running `python -m app serve`."""

    process: subprocess.Popen[str]
    port: int
    log: Path
    environment: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **named: Any) -> tuple[int, Any]:
        return self.ask("GET", path, **named)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
            kind = answer.headers.get_content_type()
            return answer.status, json.loads(content) if kind.endswith("json") else content

    def raw(self, data: bytes) -> bytes:
        """Send bytes as they are, and return all that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), 20) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def alive(self) -> bool:
        try:
            return self.get("/livez")[0] == 200
        except OSError:
            return False

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()


def environment_of(**changes: str | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COV")}
    wanted = {
        **kept,
        "ENVIRONMENT": "testing",
        "WEB_DRAIN_SECONDS": "0.4",
        "WEB_GRACEFUL_SECONDS": "5",
        "LEDGER_TOKEN": TOKEN,
        "LOG_LEVEL": "INFO",
        **changes,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def app(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m app` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "app", *words],
        cwd=Sources().root,
        env=environment_of(**changes),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def serving(
    folder: Path,
    *,
    until: Callable[[Service], bool] = Service.ready,
    root: Path | None = None,
    **changes: str | None,
) -> Iterator[Service]:
    """Run the service of the tree `root`, the tests' own by default, until the block ends; what is left of it
    then is killed.

    Its log goes to `folder`.
    """
    port = free_port()
    environment = environment_of(WEB_PORT=str(port), **changes)
    log = folder / f"serve-{port}.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"],
            cwd=root or Sources().root,
            env=environment,
            stderr=stream,
            text=True,
        )
    service = Service(process, port, log, environment)
    try:
        wait_until(lambda: process.poll() is not None or until(service), 30, "the service's readiness")
        assert process.poll() is None, log.read_text()
        yield service
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
