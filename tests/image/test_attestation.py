"""A release's proofs and its archive travel through a registry, to a machine that has neither."""

import contextlib
import hashlib
import io
import json
import socket
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.image import attestation, local_registry, oci
from scripts.image.attestation import AttestationDamaged
from scripts.image.engine import connect
from scripts.image.registry import Registry, RegistryRefused, RegistryUnreachable
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.system

PROOFS = {"lint": {"run": "01A", "key": "k1"}, "test": {"run": "01A", "key": "k2"}}
LAYER = bytes(range(256)) * 4096


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A real registry of this module's own."""
    client = connect()
    name = f"slipway-test-{uuid.uuid4().hex[:12]}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    try:
        yield Registry(local_registry.ensure(client, address, container=name))
    finally:
        client.containers.get(name).remove(force=True)
        client.volumes.get(name).remove()


def archive(path: Path) -> str:
    """Write a small image archive and return its digest."""
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": oci.digest(b"{}"),
                "size": 2,
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": oci.digest(LAYER),
                    "size": len(LAYER),
                }
            ],
        }
    ).encode()
    digest = oci.digest(manifest)
    with oci.written(path, digest, manifest, oci.MANIFEST) as add:
        for content in (b"{}", LAYER):
            add(oci.digest(content), len(content), io.BytesIO(content))
    return digest


@pytest.fixture
def pushed(registry: Registry, tmp_path: Path) -> tuple[str, str]:
    """The name and digest of an image in the registry."""
    name = f"service-{uuid.uuid4().hex[:8]}"
    digest = archive(tmp_path / "image.tar")
    registry.push_archive(tmp_path / "image.tar", name)
    return name, digest


def test_proofs_come_back_as_they_were_published(registry: Registry, pushed: tuple[str, str]) -> None:
    name, digest = pushed
    attestation.publish(registry, name, digest, PROOFS, commit="c" * 40)
    assert attestation.read(registry, name, digest) == {
        "digest": digest,
        "commit": "c" * 40,
        "proofs": PROOFS,
    }


def test_a_commit_leads_to_the_digest_that_was_built_from_it(
    registry: Registry, pushed: tuple[str, str]
) -> None:
    name, digest = pushed
    assert attestation.find(registry, name, "d" * 40) is None
    attestation.publish(registry, name, digest, PROOFS, commit="d" * 40)
    assert attestation.find(registry, name, "d" * 40) == digest


def test_publishing_again_replaces_the_proofs(registry: Registry, pushed: tuple[str, str]) -> None:
    name, digest = pushed
    attestation.publish(registry, name, digest, {"lint": PROOFS["lint"]})
    attestation.publish(registry, name, digest, PROOFS)
    found = attestation.read(registry, name, digest)
    assert found is not None
    assert set(found["proofs"]) == {"lint", "test"}


def test_an_image_without_proofs_has_none(registry: Registry, pushed: tuple[str, str]) -> None:
    assert attestation.read(registry, *pushed) is None


def test_proofs_of_another_release_are_refused(
    registry: Registry, pushed: tuple[str, str], tmp_path: Path
) -> None:
    """Moving one release's proofs to another's tag does not make the other proven."""
    name, digest = pushed
    attestation.publish(registry, name, digest, PROOFS)
    moved = registry.raw_manifest(name, f"{digest.replace(':', '-')}.proofs")
    other = f"sha256:{hashlib.sha256(b'another').hexdigest()}"
    registry.put_manifest(name, moved, f"{other.replace(':', '-')}.proofs")
    with pytest.raises(AttestationDamaged, match="are not this release's"):
        attestation.read(registry, name, other)


def test_a_pulled_archive_is_the_image_that_was_pushed(
    registry: Registry, pushed: tuple[str, str], tmp_path: Path
) -> None:
    name, digest = pushed
    seen: list[tuple[int, int]] = []
    registry.pull_archive(name, digest, tmp_path / "back.tar", lambda *at: seen.append(at))
    with oci.opened(tmp_path / "back.tar") as back:
        assert back.image().manifest.digest == digest
        back.verify()
    assert seen[-1] == (len(LAYER) + 2, len(LAYER) + 2)


def test_a_pull_that_breaks_off_leaves_no_file(
    registry: Registry, pushed: tuple[str, str], tmp_path: Path
) -> None:
    """Half an archive under the whole one's name would be scanned and loaded."""
    name, digest = pushed
    with contextlib.closing(TcpProxy(int(registry.host.partition(":")[2]))) as between:
        broken = Registry(f"127.0.0.1:{between.port}", timeout=5.0)
        folder = tmp_path / "images"

        def cut(done: int, everything: int) -> None:
            if done > everything // 4:
                between.reset()

        with pytest.raises(RegistryUnreachable, match="does not answer"):
            broken.pull_archive(name, digest, folder / "image.tar", cut)
    assert list(folder.iterdir()) == []


def test_an_image_that_is_not_there_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryRefused, match="does not give"):
        registry.pull_archive("nothing", f"sha256:{'0' * 64}", tmp_path / "image.tar")
    assert not (tmp_path / "image.tar").exists()


def test_the_archive_that_is_written_can_be_read_as_a_tar(tmp_path: Path) -> None:
    archive(tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as tar:
        assert {"oci-layout", "index.json"} < set(tar.getnames())
