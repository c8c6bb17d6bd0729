"""The image is scanned and started for real; the side services' images do their work."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from scripts.image import builder, engine, hardening, services
from scripts.image.console import Aside
from scripts.pipeline.errors import StageFailure
from scripts.pipeline.stage import StageContext
from scripts.stages import scan
from tests.postgres import wait_until

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse"
START_SECONDS = 25.0
"""Other tests take the processor meanwhile; `invoke bench image` measures the start on a quiet machine."""
ADVISORY = {
    "id": "PYSEC-0000-1",
    "summary": "Made by hand.",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "Flask"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
        }
    ],
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
}


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = engine.connect()
    yield client
    client.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a tree")


@pytest.fixture(scope="module")
def built(client: docker.DockerClient, root: Path) -> dict[str, str]:
    """What the build stage hands on."""
    made = builder.build(client, ROOT, root / "images", console=Aside())
    return {"digest": made.digest, "archive": str(made.archive.relative_to(root))}


def left_behind(client: docker.DockerClient) -> set[str]:
    """Return the scan's containers and volumes that the engine holds."""
    containers = client.containers.list(
        all=True, filters={"label": "dev.slipway.role=scan"}, ignore_removed=True
    )
    volumes = client.volumes.list(filters={"name": "slipway-scan-"})
    return {str(each.id) for each in (*containers, *volumes)}


def assert_gone(client: docker.DockerClient, before: set[str]) -> None:
    """What is new goes; another worker's scan takes its own away."""
    new = left_behind(client) - before
    wait_until(lambda: not new & left_behind(client), 180, "the end of the scans' containers")


def run(root: Path, built: dict[str, str], environment: str, advisories: Path | None) -> dict[str, str]:
    work = StageContext(
        stage="scan", root=root, directory=root / f"run-{uuid.uuid4().hex[:6]}", outputs={"build": built}
    )
    policy = scan.Policy(
        environment=environment,
        fail_level="high",
        start_seconds=START_SECONDS,
        advisories=advisories,
        place=("127.0.0.1:9", "none"),
    )
    try:
        return dict(scan.scan(work, root, policy).outputs)
    finally:
        work.close()


def data(folder: Path, name: str) -> Path:
    folder.mkdir()
    text = json.dumps(ADVISORY).replace("Flask", name)
    (folder / "PYSEC-0000-1.json").write_text(text)
    return folder


def test_a_clean_image_passes_and_leaves_nothing_behind(
    client: docker.DockerClient, root: Path, built: dict[str, str], tmp_path: Path
) -> None:
    before = left_behind(client)
    outputs = run(root, built, "production", data(tmp_path / "osv", "not-in-it"))
    assert outputs["verdict"] == "passed"
    report = json.loads((root / outputs["report"]).read_text())
    assert report["digest"] == built["digest"]
    assert report["hardening"] == report["findings"] == []
    assert 0 < report["start"]["ready_seconds"] <= START_SECONDS
    sbom = json.loads((root / outputs["sbom"]).read_text())
    names = {package["name"] for package in sbom["packages"]}
    assert {"flask", "sqlalchemy", "libc6", "libssl3t64", "python3.13-minimal"} <= names
    assert_gone(client, before)


def test_a_known_vulnerability_stops_a_release_and_comes_first(
    root: Path, built: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(StageFailure, match="1 known vulnerabilities") as failed:
        run(root, built, "development", data(tmp_path / "osv", "Flask"))
    assert failed.value.details[0].startswith("flask ")
    assert "PYSEC-0000-1 (critical 9.8)" in failed.value.details[0]


def test_an_image_that_does_not_serve_is_told_with_its_log(
    client: docker.DockerClient, root: Path, built: dict[str, str]
) -> None:
    image = hardening.load(client, root / built["archive"], built["digest"], Aside())
    before = left_behind(client)
    container = client.containers.create(image)
    entry = "raise SystemExit('it broke')"
    broken = str(container.commit(changes=f'ENTRYPOINT ["python3", "-c", "{entry}"]').id)
    container.remove(v=True)
    try:
        with pytest.raises(hardening.StartFailed, match="exited with 1") as failed:
            hardening.start(client, broken, Aside(), limit=START_SECONDS)
        assert any("it broke" in line for line in failed.value.details)
    finally:
        client.images.remove(broken, force=True)
    assert_gone(client, before)


def test_an_image_that_starts_too_slowly_is_told_after_three_tries(
    client: docker.DockerClient, root: Path, built: dict[str, str]
) -> None:
    image = hardening.load(client, root / built["archive"], built["digest"], Aside())
    before = left_behind(client)
    with pytest.raises(hardening.StartFailed, match=r"within 0\.01 s, 3 times") as failed:
        hardening.start(client, image, Aside(), limit=0.01)
    assert "SCAN_START_SECONDS" in failed.value.next_step
    assert_gone(client, before)


def test_postgres_keeps_its_data_from_one_container_to_the_next(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    import psycopg2

    name = f"slipway-postgres-{uuid.uuid4().hex[:8]}"
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o444)
    image = services.ensure(client, "postgres")
    try:
        for statement in ("CREATE TABLE kept AS SELECT 42 AS answer", "SELECT answer FROM kept"):
            container = client.containers.run(
                image,
                detach=True,
                name=name,
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                tmpfs={"/tmp": "size=16m,mode=1777"},
                ports={"5432/tcp": ("127.0.0.1", 0)},
                volumes={
                    name: {"bind": "/var/lib/postgresql", "mode": "rw"},
                    str(secret): {"bind": "/run/secrets/DB_PASSWORD", "mode": "ro"},
                },
            )
            container.reload()
            port = int(container.ports["5432/tcp"][0]["HostPort"])
            connection = None
            until = time.monotonic() + 90
            while connection is None:
                try:
                    connection = psycopg2.connect(
                        host="127.0.0.1",
                        port=port,
                        user="slipway",
                        dbname="slipway",
                        password="correct horse",
                    )
                except psycopg2.OperationalError:
                    assert time.monotonic() < until, container.logs(tail=20).decode()
                    time.sleep(0.2)
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
                if statement.startswith("SELECT"):
                    assert cursor.fetchone() == (42,)
            connection.close()
            container.stop(timeout=20)
            container.reload()
            assert container.attrs["State"]["ExitCode"] == 0
            container.remove()
    finally:
        for collection in (client.containers, client.volumes):
            try:
                collection.get(name).remove(force=True)
            except docker.errors.NotFound:
                continue


def test_postgres_without_a_password_says_what_to_mount(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.ContainerError) as failed:
        client.containers.run(services.ensure(client, "postgres"), remove=True)
    assert failed.value.exit_status == 2
    assert b"POSTGRES_PASSWORD_FILE" in failed.value.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [("proxy", ["-v"], b"HAProxy version 3.0"), ("pgbouncer", ["--version"], b"PgBouncer 1.")],
)
def test_a_side_service_runs_as_a_numeric_user_of_its_own(
    client: docker.DockerClient, name: services.Service, arguments: list[str], answer: bytes
) -> None:
    image = services.ensure(client, name)
    assert answer in client.containers.run(image, arguments, remove=True, read_only=True, network_mode="none")
    user = client.images.get(image).attrs["Config"]["User"]
    assert user.partition(":")[0].isdigit()
    assert int(user.partition(":")[0]) > 0
