"""Small image archives made by hand, right or wrong in one place."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from scripts.image import oci


@dataclass
class Made:
    """What an archive is made of before it is written."""

    config: dict[str, object] = field(
        default_factory=lambda: {"User": "10001:10001", "Env": ["PATH=/usr/bin"]}
    )
    layers: list[dict[str, bytes | tarfile.TarInfo]] = field(
        default_factory=lambda: [{"app/a.py": b"a = 1\n"}]
    )
    compression: str = "zstd"

    def write(self, path: Path) -> str:
        """Write the archive and return its manifest digest."""
        blobs: dict[str, bytes] = {}
        layers = [self._blob(blobs, self._layer(files), self._layer_type()) for files in self.layers]
        settings = json.dumps({"architecture": "amd64", "os": "linux", "config": self.config}).encode()
        config = self._blob(blobs, settings, "application/vnd.oci.image.config.v1+json")
        content = json.dumps(
            {"schemaVersion": 2, "mediaType": oci.MANIFEST, "config": config, "layers": layers}
        ).encode()
        manifest = self._blob(blobs, content, oci.MANIFEST)
        files = {
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
            "index.json": json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode(),
            **{f"blobs/{digest.replace(':', '/')}": blob for digest, blob in blobs.items()},
        }
        path.write_bytes(tarball(files))
        return str(manifest["digest"])

    def _layer_type(self) -> str:
        return f"application/vnd.oci.image.layer.v1.tar+{self.compression}"

    def _layer(self, files: dict[str, bytes | tarfile.TarInfo]) -> bytes:
        plain = tarball(files)
        if self.compression == "zstd":
            return zstandard.compress(plain)
        import gzip

        return gzip.compress(plain, mtime=0)

    def _blob(self, blobs: dict[str, bytes], content: bytes, kind: str) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        blobs[digest] = content
        return {"mediaType": kind, "digest": digest, "size": len(content)}


def tarball(files: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """Return files, by name, as a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def entry(mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    """Return an empty file, folder or link of a mode."""
    member = tarfile.TarInfo()
    member.mode = mode
    member.type = kind
    return member
