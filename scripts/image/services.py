"""Provide the side services' images: PostgreSQL, PgBouncer, the proxy, the registry.

An image is named by its own part of the recipe, so it is made once and stays the same until that changes: a
newer base must not restart a running proxy by the way. `refresh` makes it again.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from scripts.image import base
from scripts.image.console import Aside, Console, one_at_a_time
from scripts.image.engine import cli

if TYPE_CHECKING:
    import docker

Service = Literal["postgres", "pgbouncer", "proxy", "registry"]
RECIPE = "docker/services.Dockerfile"
STEP = re.compile(r"^FROM \S+ AS (\S+)$", re.MULTILINE)
COPIED = re.compile(r"^COPY (?:--\S+ )*(\S+) \S+$", re.MULTILINE)
ROOT = Path(__file__).resolve().parents[2]


def ensure(
    client: docker.DockerClient,
    name: Service,
    *,
    image: str = "",
    refresh: bool = False,
    base_image: str = "",
    docker_host: str = "",
    root: Path = ROOT,
    console: Console | None = None,
) -> str:
    """Return a reference to a service's image, made when the engine does not hold it; `image` replaces it.

    The first takes 7 (proxy) to 40 s (postgres) with the base at hand. Raises UnreachableError (exit 4) when
    the base or the package archive is out of reach.
    """
    if image:
        return image
    console = console or Aside()
    reference = name_of(name, root)
    if not refresh and _holds(client, reference):
        return reference
    with one_at_a_time(f"{name} image", console):
        if refresh or not _holds(client, reference):
            _make(client, name, reference, base_image, docker_host, root, console)
    return reference


def name_of(name: Service, root: Path = ROOT) -> str:
    """Return the reference that this tree's recipe gives a service's image."""
    _, *parts = STEP.split((root / RECIPE).read_text(encoding="utf-8"))
    steps = dict(zip(parts[::2], parts[1::2], strict=True))
    digest = hashlib.sha256((steps["base"] + steps[name]).encode())
    for path in COPIED.findall(steps[name]):
        digest.update((root / path).read_bytes())
    return f"slipway-{name}:{digest.hexdigest()[:12]}"


def _holds(client: docker.DockerClient, reference: str) -> bool:
    from docker.errors import ImageNotFound

    try:
        client.images.get(reference)
    except ImageNotFound:
        return False
    return True


def _make(
    client: docker.DockerClient,
    name: Service,
    reference: str,
    base_image: str,
    docker_host: str,
    root: Path,
    console: Console,
) -> None:
    on = base.ensure(client, base_image=base_image, docker_host=docker_host, console=console)
    console.progress(f"making the {name} image")
    console.run(
        [
            *cli(docker_host),
            "buildx",
            "build",
            "--builder=default",
            "--load",
            "--progress=plain",
            "--provenance=false",
            f"--file={root / RECIPE}",
            f"--target={name}",
            f"--build-arg=BASE_IMAGE={on}",
            f"--tag={reference}",
            str(root),
        ]
    )
    console.say(f"{name} image {reference} made on {on}")
