"""An archive says what it holds, and a damaged one is refused with what to do."""

from pathlib import Path

import pytest

from scripts.image import oci
from tests.image.archives import Made, tarball


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_an_archive_tells_digest_size_and_files_of_its_image(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "with space.tar"
    digest = Made(layers=[{"a": b"12345"}, {"b": b"123"}], compression=compression).write(path)
    with oci.opened(path) as archive:
        image = archive.image()
        archive.verify()
        assert image.manifest.digest == digest
        assert oci.size_unpacked(archive) == 8
        assert [member.name for layer in image.layers for member in oci.members(archive, layer)] == ["a", "b"]
        assert image.compressed == sum(
            blob.size for blob in (image.manifest, image.configuration, *image.layers)
        )


def test_a_layer_that_was_changed_is_found_by_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    Made().write(path)
    with oci.opened(path) as archive:
        layer = archive.image().layers[0]
        offset = path.read_bytes().index(archive.open_blob(layer.digest).read())
    content = bytearray(path.read_bytes())
    content[offset + layer.size - 1] ^= 1
    path.write_bytes(content)
    with oci.opened(path) as archive, pytest.raises(oci.ArchiveCorrupt, match=layer.digest):
        archive.verify()


def test_a_manifest_that_was_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    Made().write(path)
    path.write_bytes(
        path.read_bytes().replace(b'"schemaVersion": 2, "mediaType"', b'"schemaVersion": 3, "mediaType"')
    )
    with oci.opened(path) as archive, pytest.raises(oci.ArchiveCorrupt, match="is another"):
        archive.image()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no tar at all" * 100,
        tarball({"index.json": b"{"}),
        tarball({"index.json": b"[]"}),
        tarball({"index.json": b'{"manifests": []}'}),
        tarball({"index.json": b'{"manifests": [{"digest": "sha256:00"}]}'}),
        tarball({"oci-layout": b"{}"}),
    ],
    ids=["empty", "noise", "no-json", "no-object", "no-image", "no-manifest", "no-index"],
)
def test_a_damaged_archive_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(content)
    with pytest.raises(oci.ArchiveCorrupt) as refused, oci.opened(path) as archive:
        archive.image()
    assert str(path) in str(refused.value)
    assert "invoke build --force" in str(refused.value)
    assert refused.value.exit_code == 1


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    Made(layers=[{"a": b"x" * 100_000}], compression="gzip").write(path)
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.raises(oci.ArchiveCorrupt), oci.opened(path) as archive:
        archive.verify()


def test_a_missing_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(oci.ArchiveCorrupt, match="No such file"), oci.opened(tmp_path / "none.tar"):
        pass
