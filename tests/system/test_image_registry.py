"""Pushing to a real registry: only what is missing, whole or not at all, on bad networks too."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from scripts.image import engine, local_registry, oci
from scripts.image.registry import Registry, RegistryUnreachable
from scripts.pipeline.errors import Cancelled
from scripts.pipeline.stage import StageContext
from tests.image.archives import Made
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.system
LAYER = 4_000_000


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = engine.connect()
    yield client
    client.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def remove(client: docker.DockerClient, name: str) -> None:
    for collection in (client.containers, client.volumes):
        try:
            collection.get(name).remove(force=True)
        except docker.errors.NotFound:
            continue


@pytest.fixture(scope="module")
def host(client: docker.DockerClient) -> Iterator[str]:
    """A registry of our own on a free port, as Slipway starts it."""
    name = f"slipway-registry-{uuid.uuid4().hex[:8]}"
    try:
        yield local_registry.ensure(client, f"127.0.0.1:{free_port()}", container=name)
    finally:
        remove(client, name)


@pytest.fixture
def name() -> str:
    return f"test/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def proxy(host: str) -> Iterator[TcpProxy]:
    proxy = TcpProxy(int(host.rpartition(":")[2]))
    yield proxy
    proxy.close()


def archive(path: Path, *layers: bytes) -> str:
    return Made(layers=[{f"layer{number}": content} for number, content in enumerate(layers)]).write(path)


def test_a_push_uploads_what_is_missing_and_nothing_twice(host: str, name: str, tmp_path: Path) -> None:
    base, first, second = os.urandom(LAYER), os.urandom(1000), os.urandom(1000)
    registry = Registry(host)
    digest = archive(tmp_path / "1.tar", base, first)
    assert not registry.has(name, digest)
    told: list[tuple[int, int]] = []
    pushed = registry.push_archive(tmp_path / "1.tar", name, lambda *each: told.append(each))
    assert pushed.digest == digest
    assert pushed.skipped_bytes == 0
    assert registry.has(name, digest)
    assert told[-1][0] == told[-1][1] == pushed.uploaded_bytes
    assert told == sorted(told)
    again = registry.push_archive(tmp_path / "1.tar", name)
    assert (again.uploaded_bytes, again.skipped_bytes) == (0, pushed.uploaded_bytes)
    archive(tmp_path / "2.tar", base, second)
    assert registry.push_archive(tmp_path / "2.tar", name).uploaded_bytes < 5000


def test_what_was_pushed_has_the_digest_and_the_tag(host: str, name: str, tmp_path: Path) -> None:
    digest = archive(tmp_path / "a.tar", b"content")
    registry = Registry(host)
    registry.push_archive(tmp_path / "a.tar", name, tag="v1")
    assert registry.manifest(name, "v1") == registry.manifest(name, digest)


def test_a_connection_that_breaks_in_the_middle_is_tried_again(
    proxy: TcpProxy, name: str, tmp_path: Path
) -> None:
    digest = archive(tmp_path / "a.tar", os.urandom(LAYER))
    broken = threading.Event()

    def progress(done: int, everything: int) -> None:
        if done > everything / 2 and not broken.is_set():
            broken.set()
            proxy.reset()

    registry = Registry(f"127.0.0.1:{proxy.port}")
    assert registry.push_archive(tmp_path / "a.tar", name, progress).digest == digest
    assert broken.is_set()
    assert registry.has(name, digest)


def test_a_registry_that_goes_away_is_exit_4_and_the_next_push_goes_on(
    proxy: TcpProxy, name: str, tmp_path: Path
) -> None:
    digest = archive(tmp_path / "a.tar", os.urandom(LAYER), os.urandom(LAYER))

    def progress(done: int, everything: int) -> None:
        if done > everything * 0.75:
            proxy.refuse()

    registry = Registry(f"127.0.0.1:{proxy.port}")
    with pytest.raises(RegistryUnreachable) as failed:
        registry.push_archive(tmp_path / "a.tar", name, progress)
    assert failed.value.exit_code == 4
    assert "run the same command again" in failed.value.next_step
    proxy.heal()
    assert not registry.has(name, digest)
    pushed = registry.push_archive(tmp_path / "a.tar", name)
    assert pushed.skipped_bytes >= LAYER
    assert pushed.uploaded_bytes >= LAYER
    assert registry.has(name, digest)


def test_a_push_can_be_stopped_between_two_chunks(host: str, name: str, tmp_path: Path) -> None:
    digest = archive(tmp_path / "a.tar", os.urandom(LAYER))
    work = StageContext(stage="push", root=tmp_path, directory=tmp_path / "run")
    registry = Registry(host, check=work.raise_if_cancelled)
    with pytest.raises(Cancelled):
        registry.push_archive(tmp_path / "a.tar", name, lambda done, everything: work.cancelled.set())
    assert not Registry(host).has(name, digest)


def test_a_damaged_layer_is_refused_by_the_registry(host: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    digest = archive(path, os.urandom(10_000))
    with oci.opened(path) as opened:
        content = opened.open_blob(opened.image().layers[0].digest).read()
    path.write_bytes(path.read_bytes().replace(content, content[:-1] + bytes([content[-1] ^ 1])))
    with pytest.raises(Exception, match="does not accept layer") as refused:
        Registry(host).push_archive(path, name)
    assert refused.value.exit_code == 1  # type: ignore[attr-defined]
    assert not Registry(host).has(name, digest)


def test_a_registry_that_runs_is_used_again(client: docker.DockerClient, host: str) -> None:
    before = {container.id for container in client.containers.list(all=True, ignore_removed=True)}
    assert local_registry.ensure(client, host, container=f"none-{uuid.uuid4().hex[:8]}") == host
    after = client.containers.list(all=True, ignore_removed=True)
    names = [each.name for each in after if each.id not in before]
    assert not any(each.startswith("none-") for each in names)


def test_a_port_that_another_program_has_is_told(client: docker.DockerClient) -> None:
    name = f"slipway-registry-{uuid.uuid4().hex[:8]}"
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        try:
            with pytest.raises(RegistryUnreachable, match="taken by another program") as refused:
                local_registry.ensure(client, address, container=name)
        finally:
            remove(client, name)
    assert "REGISTRY" in refused.value.next_step
    assert refused.value.exit_code == 4


def test_a_registry_on_another_port_keeps_its_images(
    client: docker.DockerClient, name: str, tmp_path: Path
) -> None:
    container = f"slipway-registry-{uuid.uuid4().hex[:8]}"
    digest = archive(tmp_path / "a.tar", b"content")
    try:
        first = local_registry.ensure(client, f"127.0.0.1:{free_port()}", container=container)
        Registry(first).push_archive(tmp_path / "a.tar", name)
        client.containers.get(container).stop(timeout=1)
        second = local_registry.ensure(client, f"127.0.0.1:{free_port()}", container=container)
        assert second != first
        assert Registry(second).has(name, digest)
    finally:
        remove(client, container)
