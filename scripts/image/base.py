"""Provide the base that every image is made on.

A name in BASE_IMAGE is used as it is. With none, `debian:trixie-slim` pinned by the digest that its registry
names now; where no registry is within reach, the same from Debian's archive by mmdebstrap. A base that was
made here is used for a day, then again for as long as the archive has not changed.
"""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.image import archive
from scripts.image.console import Aside, Console, one_at_a_time
from scripts.image.engine import cli, endpoint
from scripts.pipeline.errors import UnreachableError

if TYPE_CHECKING:
    import docker
    from docker.models.images import Image

DEFAULT = "debian:trixie-slim"
REPOSITORY = "slipway-base"
LABEL_STATE = "dev.slipway.base.archive"
LABEL_MADE = "dev.slipway.base.made"
FRESH = dt.timedelta(days=1)
REGISTRY_PATIENCE = 3.0


class BaseUnavailable(UnreachableError):
    """There is no base image and no means to get one."""


def ensure(
    client: docker.DockerClient,
    *,
    base_image: str = "",
    docker_host: str = "",
    console: Console | None = None,
    now: dt.datetime | None = None,
) -> str:
    """Return a reference to the base image, getting or making it when it is missing or old.

    Raises BaseUnavailable or ArchiveUnreachable (exit 4).
    """
    console = console or Aside()
    now = now or dt.datetime.now(dt.UTC)
    if base_image:
        return _named(client, base_image, console)
    made = newest(client)
    if made is not None and now - _made_at(made) < FRESH:
        return made.tags[0]
    pinned = None if made is not None else _from_registry(client, console)
    if pinned is not None:
        return pinned
    with one_at_a_time("base image", console):
        return _current(client, docker_host, console, now)


def _current(client: docker.DockerClient, docker_host: str, console: Console, now: dt.datetime) -> str:
    """Return the base for the archive's present state, made now unless someone else just did."""
    where = archive.mirrors()
    made = newest(client)
    try:
        state = archive.state(where)
    except archive.ArchiveUnreachable as problem:
        if made is None:
            raise
        console.say(f"base image of {_made_at(made):%Y-%m-%d} used unchecked: {problem.what}")
        return made.tags[0]
    if made is not None and made.labels.get(LABEL_STATE) == state:
        return made.tags[0]
    return make(where, state=state, docker_host=docker_host, console=console, now=now)


def newest(client: docker.DockerClient) -> Image | None:
    """Return the newest base made here that the engine holds."""
    images = [
        image for image in client.images.list(name=REPOSITORY) if image.tags and LABEL_MADE in image.labels
    ]
    return max(images, key=_made_at, default=None)


def _made_at(image: Image) -> dt.datetime:
    return dt.datetime.fromisoformat(image.labels[LABEL_MADE])


def _named(client: docker.DockerClient, name: str, console: Console) -> str:
    """Return BASE_IMAGE after a pull when the engine does not hold it."""
    from docker.errors import DockerException, ImageNotFound
    from requests.exceptions import RequestException

    try:
        client.images.get(name)
    except ImageNotFound:
        console.progress(f"pulling {name}")
        try:
            client.images.pull(name)
        except (DockerException, RequestException) as error:
            raise BaseUnavailable(
                f"The base image cannot be pulled ({error})",
                f"BASE_IMAGE={name}",
                "name one that this engine can reach, or leave BASE_IMAGE empty to make one here",
            ) from error
    return name


def _from_registry(client: docker.DockerClient, console: Console) -> str | None:
    """Return Debian's own image pinned by digest, or None where its registry is out of reach."""
    import requests
    from docker.errors import DockerException

    try:
        requests.get("https://registry-1.docker.io/v2/", timeout=REGISTRY_PATIENCE)
        digest = client.images.get_registry_data(DEFAULT).id
        pinned = f"{DEFAULT}@{digest}"
        console.progress(f"pulling {pinned}")
        client.images.pull(DEFAULT.partition(":")[0], tag=digest)
    except (DockerException, requests.RequestException):
        console.say("no image registry within reach: making the base image from Debian's archive")
        return None
    return pinned


def make(
    where: archive.Mirrors,
    *,
    state: str,
    docker_host: str = "",
    console: Console,
    now: dt.datetime,
    repository: str = REPOSITORY,
) -> str:
    """Make the base from Debian's archive and import it into the engine; about 20 seconds."""
    mmdebstrap = shutil.which("mmdebstrap")
    if mmdebstrap is None:
        raise BaseUnavailable(
            "There is no base image: no registry is within reach and mmdebstrap is not installed",
            endpoint(docker_host),
            "set BASE_IMAGE, or apt-get install mmdebstrap debian-archive-keyring",
        )
    reference = f"{repository}:{archive.SUITE}-{now:%Y%m%d}-{state[:12]}"
    with tempfile.TemporaryDirectory(prefix="slipway-base-") as folder:
        tree = Path(folder) / "base.tar"
        console.progress("making the base image from Debian's archive")
        console.run(
            [
                mmdebstrap,
                "--quiet",
                "--variant=minbase",
                "--include=ca-certificates",
                *([f"--keyring={archive.KEYRING}"] if archive.KEYRING.exists() else []),
                "--dpkgopt=path-exclude=/usr/share/doc/*",
                "--dpkgopt=path-include=/usr/share/doc/*/copyright",
                "--dpkgopt=path-exclude=/usr/share/man/*",
                "--dpkgopt=path-exclude=/usr/share/locale/*",
                archive.SUITE,
                str(tree),
                *where.lines(),
            ],
            env={"SOURCE_DATE_EPOCH": "0"},
        )
        console.raise_if_cancelled()
        console.progress("importing the base image")
        console.run(
            [
                *cli(docker_host),
                "import",
                "--change",
                f"LABEL {LABEL_STATE}={state} {LABEL_MADE}={now.isoformat()}",
                str(tree),
                reference,
            ]
        )
    console.say(f"base image {reference} made from {where.main}")
    return reference
