"""Read an OCI image archive: a tar of blobs that are named by their own hash.

The layout is the OCI image specification's (image-layout.md). `docker buildx build -o type=oci` writes it, so
does `docker save` of an engine with the containerd store.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol

from scripts.pipeline.errors import StageFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CHUNK = 1024 * 1024


class Readable(Protocol):
    """What a blob's content is read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes."""
        ...


class ArchiveCorrupt(StageFailure):
    """An image archive is not what its digest says."""


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A part of an image: its manifest, its configuration or one layer."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image as its archive describes it."""

    manifest: Blob
    configuration: Blob
    layers: tuple[Blob, ...]
    settings: dict[str, Any]

    @property
    def compressed(self) -> int:
        """Return the bytes that a registry stores for it."""
        return self.manifest.size + self.configuration.size + sum(layer.size for layer in self.layers)


class Archive:
    """An open image archive."""

    def __init__(self, path: Path, tar: tarfile.TarFile) -> None:
        self.path = path
        self._tar = tar
        self._members = {member.name.removeprefix("./"): member for member in tar.getmembers()}

    def open_blob(self, digest: str) -> IO[bytes]:
        """Open one blob for reading; raises ArchiveCorrupt when the archive lacks it."""
        member = self._members.get(_place(digest))
        content = self._tar.extractfile(member) if member else None
        if content is None:
            raise _corrupt(self.path, f"it lacks {digest}")
        return content

    def read_json(self, name: str) -> dict[str, Any]:
        """Read one of the layout's JSON files."""
        member = self._members.get(name)
        content = self._tar.extractfile(member) if member else None
        if content is None:
            raise _corrupt(self.path, f"it lacks {name}")
        return self._parse(content.read(), name)

    def checked(self, digest: str) -> bytes:
        """Read a small blob whole and prove that its content has its name."""
        content = self.open_blob(digest).read()
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise _corrupt(self.path, f"the content of {digest} is another")
        return content

    def image(self) -> Image:
        """Return the one image that the archive holds."""
        manifests = self.read_json("index.json").get("manifests", [])
        if len(manifests) != 1:
            raise _corrupt(self.path, f"it holds {len(manifests)} images instead of one")
        entry = manifests[0]
        manifest = self._parse(self.checked(entry["digest"]), entry["digest"])
        configuration = _blob(manifest.get("config", {}), self.path)
        return Image(
            manifest=_blob({"mediaType": MANIFEST, **entry}, self.path),
            configuration=configuration,
            layers=tuple(_blob(layer, self.path) for layer in manifest.get("layers", [])),
            settings=self._parse(self.checked(configuration.digest), configuration.digest),
        )

    def verify(self) -> None:
        """Prove every blob of the image against its name; about 1 s for 500 MB."""
        image = self.image()
        for blob in image.layers:
            digest = hashlib.sha256()
            with self.open_blob(blob.digest) as content:
                while chunk := content.read(CHUNK):
                    digest.update(chunk)
            if f"sha256:{digest.hexdigest()}" != blob.digest:
                raise _corrupt(self.path, f"the content of layer {blob.digest} is another")

    def _parse(self, content: bytes, name: str) -> dict[str, Any]:
        try:
            value = json.loads(content)
        except ValueError as error:
            raise _corrupt(self.path, f"{name} is not JSON") from error
        if not isinstance(value, dict):
            raise _corrupt(self.path, f"{name} is not a JSON object")
        return value


def _blob(entry: dict[str, Any], path: Path) -> Blob:
    try:
        return Blob(digest=entry["digest"], size=int(entry["size"]), media_type=entry["mediaType"])
    except (KeyError, TypeError, ValueError) as error:
        raise _corrupt(path, f"a description in it is incomplete: {error}") from error


def _corrupt(path: Path, why: str) -> ArchiveCorrupt:
    return ArchiveCorrupt(
        f"The image archive is damaged: {why}", str(path), 'make it again: "invoke build --force"'
    )


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open an image archive; raises ArchiveCorrupt when it is missing or no tar."""
    try:
        tar = tarfile.open(path)  # noqa: SIM115 - closed below; only the opening may be a damaged file
    except (OSError, tarfile.TarError) as error:
        raise _corrupt(path, str(error)) from error
    with tar:
        try:
            archive = Archive(path, tar)
        except tarfile.TarError as error:
            raise _corrupt(path, str(error)) from error
        yield archive


@contextmanager
def written(
    path: Path, digest: str, manifest: bytes, media_type: str
) -> Iterator[Callable[[str, int, Readable], None]]:
    """Write an image archive; the caller adds each blob by digest, size and content.

    The file appears whole when the block ends, and not at all when it raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    entry = {"mediaType": media_type, "digest": digest, "size": len(manifest)}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}

    try:
        with tarfile.open(draft, "w") as tar:

            def add(name: str, size: int, content: Readable) -> None:
                member = tarfile.TarInfo(name)
                member.size = size
                tar.addfile(member, content)

            for folder in ("blobs", "blobs/sha256"):  # readers that index the tar by folder need them
                directory = tarfile.TarInfo(folder)
                directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(directory)
            for name, text in (
                ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
                ("index.json", json.dumps(index).encode()),
                (_place(digest), manifest),
            ):
                add(name, len(text), io.BytesIO(text))
            yield lambda blob, size, content: add(_place(blob), size, content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def digest(content: bytes) -> str:
    """Return the name of a blob: the hash of its content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _place(blob: str) -> str:
    return f"blobs/{blob.replace(':', '/')}"


def size_unpacked(archive: Archive) -> int:
    """Return the bytes of all files of the image's layers, as a root file system would hold them."""
    return sum(member.size for blob in archive.image().layers for member in members(archive, blob))


def members(archive: Archive, blob: Blob) -> Iterator[tarfile.TarInfo]:
    """Yield the entries of one layer."""
    with layer(archive, blob) as tar:
        yield from tar


@contextmanager
def layer(archive: Archive, blob: Blob) -> Iterator[tarfile.TarFile]:
    """Open one layer as a stream of files; raises ArchiveCorrupt when it cannot be unpacked."""
    import zstandard

    with archive.open_blob(blob.digest) as raw:
        try:
            if blob.media_type.endswith("+zstd"):
                with (
                    zstandard.ZstdDecompressor().stream_reader(raw) as plain,
                    tarfile.open(fileobj=plain, mode="r|") as tar,
                ):
                    yield tar
            else:
                with tarfile.open(fileobj=raw, mode="r|*") as tar:
                    yield tar
        except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
            raise _corrupt(archive.path, f"layer {blob.digest} cannot be unpacked: {error}") from error
