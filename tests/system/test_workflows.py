"""Every `run:` line of the CI workflow, in order, on a fresh clone, as the workflow's jobs run them."""

import io
import json
import os
import secrets
import subprocess
import tarfile
import urllib.request
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from scripts.deployment.swarm import Swarm
from scripts.deployment.target import Target, check
from scripts.image import services
from scripts.image.engine import connect
from tests.authority import Authority
from tests.clone import ROOT, clean_environment, fresh_clone
from tests.postgres import free_port, wait_until
from tests.stack import remove

pytestmark = pytest.mark.system

WORKFLOW = ROOT / ".github/workflows/ci-cd.yml"
EMBEDDED = 10004
"""The numeric user of the side service's PostgreSQL."""


def run_lines(job: str) -> list[str]:
    """Return the `run:` lines of a job."""
    steps = YAML(typ="safe").load(WORKFLOW)["jobs"][job]["steps"]
    return [step["run"] for step in steps if "run" in step]


@dataclass(frozen=True)
class Runner:
    """A checkout on a CI machine, with the files that a workflow's steps may write."""

    folder: Path
    files: Path

    def step(self, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one step as the workflow does."""
        summary = self.files / f"summary-{uuid.uuid4().hex}"
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", line],
            cwd=self.folder,
            env=clean_environment(
                {
                    "GITHUB_ACTIONS": "true",
                    "CI": "true",
                    "GITHUB_STEP_SUMMARY": str(summary),
                    "GITHUB_OUTPUT": str(self.files / "output"),
                    "PATH": os.environ["PATH"],
                    "SCAN_START_SECONDS": "25",  # other tests take the processor meanwhile
                    **environment,
                }
            ),
            text=True,
            capture_output=True,
            timeout=900,
            check=False,
        )

    def summaries(self) -> str:
        return "\n".join(path.read_text() for path in self.files.glob("summary-*"))


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    folder = tmp_path_factory.mktemp("workflow")
    (folder / "files").mkdir()
    return Runner(folder=fresh_clone(folder / "checkout"), files=folder / "files")


@pytest.fixture(scope="module")
def advisories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Advisory data in OSV's layout that holds nothing against our packages."""
    path = tmp_path_factory.mktemp("advisories") / "all.zip"
    record = {"id": "PYSEC-0000-1", "modified": "2026-01-01T00:00:00Z", "affected": []}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PYSEC-0000-1.json", json.dumps(record))
    return path


@dataclass(frozen=True)
class Staging:
    """What the staging environment's variables and secrets hold, and a sentinel that must not appear."""

    environment: dict[str, str]
    url: str
    sentinels: tuple[str, ...]


@pytest.fixture(scope="module")
def staging(advisories: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staging]:
    """A staging target: this machine's swarm, and a PostgreSQL with TLS on the stack's own network."""
    stack = f"slipway-test-{uuid.uuid4().hex[:8]}"
    password, key, token = (f"sentinel-{secrets.token_hex(24)}" for _ in range(3))
    authority = Authority()
    folder = tmp_path_factory.mktemp("staging")
    (folder / "ca.pem").write_bytes(authority.pem())
    port = free_port()
    client = connect()
    check(Swarm(""), Target(environment="development", stack=stack))
    Swarm("").ensure_network(f"{stack}_app", stack)
    certificate, certificate_key = authority.issue("database")
    container = client.containers.create(
        services.ensure(client, "postgres"),
        command=[
            *("-c", "ssl=on"),
            *("-c", "ssl_cert_file=/tmp/server.crt"),
            *("-c", "ssl_key_file=/tmp/server.key"),
        ],
        name=f"{stack}-database",
        environment={"POSTGRES_PASSWORD_FILE": "/tmp/password"},
    )
    try:
        container.put_archive(
            "/tmp",
            packed(
                {"password": password.encode(), "server.crt": certificate, "server.key": certificate_key},
                owner=EMBEDDED,
            ),
        )
        client.networks.get(f"{stack}_app").connect(container, aliases=["database"])
        container.start()
        wait_until(lambda: healthy(container), 90, "the database's health")
        yield Staging(
            environment={
                "STACK_NAME": stack,
                "PUBLIC_PORT": str(port),
                "PUBLIC_URL": f"http://127.0.0.1:{port}",
                "REPLICAS": "1",
                "REGISTRY": "127.0.0.1:5000",
                "DB_HOST": "database",
                "DB_SSLROOTCERT": str(folder / "ca.pem"),
                "DB_PASSWORD": password,
                "SECRET_KEY": key,
                "LEDGER_TOKEN": token,
                "LEDGER_URL": f"http://127.0.0.1:{port}",
                "ADVISORIES": str(advisories),
            },
            url=f"http://127.0.0.1:{port}",
            sentinels=(password, key, token),
        )
    finally:
        container.remove(force=True, v=True)
        remove(stack)


def packed(files: dict[str, bytes], *, owner: int) -> bytes:
    """Return a tar of files that only their owner can read."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid, member.gid = len(content), 0o600, owner, owner
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def healthy(container: Any) -> bool:
    container.reload()
    assert container.status != "exited", container.logs().decode()
    return bool(container.attrs["State"]["Health"]["Status"] == "healthy")


def test_a_pull_request_is_checked(runner: Runner) -> None:
    """lint, test, build and scan pass on a fresh clone, and the step summary tells of each."""
    for line in run_lines("verify"):
        done = runner.step(line)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert "::group::" in done.stdout
    assert all(name in runner.summaries() for name in ("lint", "test", "build", "scan"))


def test_a_push_to_main_is_live_on_staging(runner: Runner, staging: Staging) -> None:
    """The same commands, then push and deploy; PostgreSQL holds the ledger, and no secret is printed."""
    printed = ""
    for line in run_lines("staging"):
        done = runner.step(line, **staging.environment)
        printed += done.stdout + done.stderr
        assert done.returncode == 0, f"{line}\n{printed}"
    with urllib.request.urlopen(f"{staging.url}/version", timeout=10) as answer:
        digest = json.load(answer)["digest"]
    with urllib.request.urlopen(f"{staging.url}/api/v1/deployments", timeout=10) as answer:
        last = json.load(answer)["items"][0]
    assert (last["digest"], last["environment"], last["result"]) == (digest, "staging", "succeeded")
    written = "".join(
        path.read_text(errors="replace")
        for folder in (runner.folder / ".slipway", runner.files)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in (".log", ".json", ".html", ".ndjson", "")
    )
    for sentinel in staging.sentinels:
        assert sentinel not in printed
        assert sentinel not in written
        assert sentinel not in runner.summaries()
