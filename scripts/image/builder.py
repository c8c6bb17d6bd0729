"""Make the release: an OCI archive whose manifest digest is known from then on and never changes.

BuildKit is driven through the docker command. Timestamps are rewritten and nothing that differs between two
builds (provenance, file modes, time stamps in bytecode) goes in, so one tree gives one digest.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.image import base, context, oci
from scripts.image.buildkit import Transcript
from scripts.image.engine import cli, endpoint, has_containerd_store
from scripts.pipeline.errors import StageFailure, UnreachableError

if TYPE_CHECKING:
    import docker

    from scripts.image.console import Console

SUFFIX = ".tar"
BUNDLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
ABANDONED = 3600.0
OUTPUT = "type=oci,compression=zstd,compression-level=19,force-compression=true"


class BuilderMissing(UnreachableError):
    """The engine has no builder that writes OCI archives."""


class BuildFailed(StageFailure):
    """The image could not be made."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image as it lies in its archive; sizes are bytes."""

    digest: str
    archive: Path
    size: int
    compressed: int
    seconds: float


def build(
    client: docker.DockerClient,
    root: Path,
    folder: Path,
    *,
    console: Console,
    base_image: str = "",
    docker_host: str = "",
    labels: dict[str, str] | None = None,
    keep: int = 5,
    cache: bool = True,
) -> Built:
    """Build the tree's image and put its archive into `folder`, named by its digest.

    `labels` are the Dockerfile's arguments COMMIT, VERSION and SOURCE. The newest `keep` archives stay.
    Raises BuildFailed with the failing step's lines first, or UnreachableError.
    """
    began = time.monotonic()
    builder = choose(client, docker_host, base_image, console)
    on = base.ensure(client, base_image=base_image, docker_host=docker_host, console=console)
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=folder) as scratch:
        tree, made, metadata = (Path(scratch) / name for name in ("tree", "image.tar", "metadata.json"))
        context.lay_out(root, tree)
        argv = [
            *cli(docker_host),
            "buildx",
            "build",
            f"--builder={builder}",
            "--progress=plain",
            "--provenance=false",
            "--sbom=false",
            f"--file={tree / 'docker/Dockerfile'}",
            f"--output={OUTPUT},dest={made}",
            f"--metadata-file={metadata}",
            "--build-arg=SOURCE_DATE_EPOCH=0",
            f"--build-arg=BASE_IMAGE={on}",
            *(f"--build-arg={name}={value}" for name, value in (labels or {}).items()),
            *_secrets(),
            *([] if cache else ["--no-cache"]),
            str(tree),
        ]
        transcript = Transcript(console.say, console.progress)
        ended = console.run(argv, cwd=root, check=False, on_line=transcript.line)
        if ended.exit_code != 0:
            raise _failed(transcript, ended.exit_code, docker_host, folder)
        digest = _digest(metadata)
        with oci.opened(made) as archive:
            image = archive.image()
            if image.manifest.digest != digest:
                raise BuildFailed(
                    f"BuildKit says {digest}, its archive holds {image.manifest.digest}",
                    str(made),
                    'build once more: "invoke build --force"',
                )
            size = oci.size_unpacked(archive)
        kept = folder / (digest.removeprefix("sha256:") + SUFFIX)
        _settle(made, kept)
    prune(folder, keep)
    return Built(
        digest=digest, archive=kept, size=size, compressed=image.compressed, seconds=time.monotonic() - began
    )


def choose(client: docker.DockerClient, docker_host: str, base_image: str, console: Console) -> str:
    """Return the builder to use: the engine's own where it keeps images in containerd.

    The classic image store cannot write OCI archives; a builder with the docker-container driver can, but
    does not see the engine's images, so it needs a BASE_IMAGE from a registry. Raises BuilderMissing.
    """
    if has_containerd_store(client):
        return "default"
    listing = console.run([*cli(docker_host), "buildx", "ls"], check=False, quiet=True).output
    for line in listing.splitlines()[1:]:
        words = line.split()
        if base_image and len(words) > 1 and words[1] == "docker-container":
            return words[0].rstrip("*")
    raise BuilderMissing(
        "This engine's image store cannot write OCI archives",
        endpoint(docker_host),
        'put {"features": {"containerd-snapshotter": true}} into /etc/docker/daemon.json and restart it'
        "; or create a builder (docker buildx create --driver docker-container) and set BASE_IMAGE",
    )


def _secrets() -> list[str]:
    """Hand the host's CA bundle and package index to the build without leaving them in a layer."""
    secrets = []
    bundle = next((Path(os.environ[name]) for name in BUNDLES if os.environ.get(name)), SYSTEM_BUNDLE)
    if bundle.is_file():
        secrets.append(f"--secret=id=ca,src={bundle}")
    if os.environ.get("PIP_INDEX_URL"):
        secrets.append("--secret=id=index,env=PIP_INDEX_URL")
    return secrets


def _digest(metadata: Path) -> str:
    try:
        return str(json.loads(metadata.read_text(encoding="utf-8"))["containerimage.digest"])
    except (OSError, ValueError, KeyError) as error:
        raise BuildFailed(
            f"BuildKit did not say which digest it built ({error})",
            str(metadata),
            "use Docker 24 or later with buildx 0.13 or later",
        ) from error


def _failed(transcript: Transcript, exit_code: int, docker_host: str, folder: Path) -> Exception:
    details = transcript.failure()
    if transcript.mentions("no space left on device"):
        return BuildFailed(
            "There is no room for the image",
            f"{folder}, or the engine's data folder",
            'free some: "invoke prune", "docker builder prune"',
            details,
        )
    if any(word in " ".join(transcript.errors) for word in ("Cannot connect to the Docker daemon", "EOF")):
        return UnreachableError(
            "The Docker engine went away during the build",
            endpoint(docker_host),
            "start it again, then run the same command: finished steps are cached",
        )
    return BuildFailed(
        f"docker buildx exited with {exit_code}",
        "docker/Dockerfile",
        "mend the step whose output is above; finished steps are cached",
        details,
    )


def _settle(made: Path, kept: Path) -> None:
    """Move a whole archive to its name, safely on disk before the name says that it is there."""
    with made.open("rb") as content:
        os.fsync(content.fileno())
    made.replace(kept)


def sweep(folder: Path) -> None:
    """Drop what a killed build left behind an hour ago or longer."""
    import shutil

    for left in folder.glob(".building-*"):
        if time.time() - left.stat().st_mtime > ABANDONED:
            shutil.rmtree(left, ignore_errors=True)


def prune(folder: Path, keep: int) -> list[Path]:
    """Drop all but the newest archives and return what was dropped."""
    archives = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in archives[keep:]:
        old.unlink(missing_ok=True)
    return archives[keep:]
