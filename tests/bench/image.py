"""`invoke bench image`: size, start and upload of the release beside a naive image of the same app.

The naive image is the usual recipe on the same base, made here: apt, COPY of everything, pip install.
"""

from __future__ import annotations

import secrets
import statistics
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.image import base, builder, context, engine, hardening, oci, requirements
from scripts.image.console import Aside
from scripts.stages.build import described
from tests.bench import document as performance

if TYPE_CHECKING:
    import docker

ROOT = Path(__file__).parents[2]
ROUNDS = 5
NAIVE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip
WORKDIR /app
COPY . .
RUN --mount=type=secret,id=ca if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \\
    pip install --break-system-packages -r runtime.txt
ENV PYTHONUNBUFFERED=1 DB_SQLITE_PATH=/data/ledger.sqlite3
VOLUME /data
CMD ["python3", "-m", "app", "serve"]
"""


BARE = """
import socket
listener = socket.create_server(("0.0.0.0", 8000))
while True:
    connection, _ = listener.accept()
    connection.recv(4096)
    connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n")
    connection.close()
"""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of one image, in bytes and seconds."""

    compressed: int
    size: int
    ready: float
    bare: float
    upload: int


def main(document: Path) -> int:
    """Measure both images and write the section `image` of the document."""
    client = engine.connect()
    try:
        with tempfile.TemporaryDirectory(prefix="slipway-bench-") as scratch:
            ours = measure_ours(client, Path(scratch))
            naive = measure_naive(client, Path(scratch))
    finally:
        client.close()
    performance.write_section(document, "image", section(ours, naive))
    return 0


def section(ours: Measured, naive: Measured) -> str:
    """Return the section as Markdown."""

    def row(what: str, budget: str, mine: float, other: float, form: str) -> tuple[str, ...]:
        return what, budget, form.format(mine), form.format(other), f"{100 * (1 - mine / other):.0f} %"

    table = performance.table(
        ("what", "budget", "Slipway", "naive", "less"),
        (
            row("compressed", "25 MB", ours.compressed / 1e6, naive.compressed / 1e6, "{:.1f} MB"),
            row("files on disk", "80 MB", ours.size / 1e6, naive.size / 1e6, "{:.1f} MB"),
            row("start to first 200 on /readyz", "0.5 s", ours.ready, naive.ready, "{:.2f} s"),
            row("of it, a bare socket in Python instead of the app", "", ours.bare, naive.bare, "{:.2f} s"),
            row("upload for a one-line change", "64 kB", ours.upload / 1e3, naive.upload / 1e3, "{:.0f} kB"),
        ),
    )
    return f"""## Image

{performance.machine()}

The naive image is the usual recipe on the same base: `apt-get install python3 python3-pip`, `COPY . .`,
`pip install`, run as root. Start: median of {ROUNDS} from the call that starts the container with `--cpus 1`,
on a migrated SQLite database, polled every 5 ms. An engine with the containerd store shows more in
`docker images`: it adds the compressed blobs to the unpacked files.

{table}
"""


def measure_ours(client: docker.DockerClient, scratch: Path) -> Measured:
    """Build the tree and a copy with one line more, and run the first."""
    labels = {"COMMIT": "0" * 40, **described(ROOT)}
    tree, changed = scratch / "tree", scratch / "changed"
    for folder in (tree, changed):
        context.lay_out(ROOT, folder)
    add_a_line(changed)
    first, second = (
        builder.build(client, each, scratch / "ours", console=Aside(), labels=labels)
        for each in (tree, changed)
    )
    image = hardening.load(client, first.archive, first.digest, Aside())
    return Measured(
        compressed=first.compressed,
        size=first.size,
        ready=ready(client, image),
        bare=ready(client, image, ["python3", "-c", BARE]),
        upload=new_bytes(first.archive, second.archive),
    )


def measure_naive(client: docker.DockerClient, scratch: Path) -> Measured:
    """Build the usual recipe twice, with one line between, and run the first."""
    on = base.ensure(client)
    tree = scratch / "naive"
    context.lay_out(ROOT, tree)
    (tree / "Dockerfile").write_text(NAIVE)
    (tree / "runtime.txt").write_text(
        requirements.shipped((ROOT / "requirements.lock").read_text(), (ROOT / "setup.cfg").read_text())
    )
    archives = []
    for number in range(2):
        path = scratch / f"naive{number}.tar"
        argv = [*engine.cli(), "buildx", "build", "--builder=default", "--quiet", "--provenance=false"]
        argv += [f"--build-arg=BASE_IMAGE={on}", f"--secret=id=ca,src={builder.SYSTEM_BUNDLE}"]
        subprocess.run([*argv, f"--output=type=oci,dest={path}", str(tree)], check=True, capture_output=True)
        archives.append(path)
        add_a_line(tree)
    with oci.opened(archives[0]) as archive:
        image, size = archive.image(), oci.size_unpacked(archive)
    identity = hardening.load(client, archives[0], image.manifest.digest, Aside())
    return Measured(
        compressed=image.compressed,
        size=size,
        ready=ready(client, identity),
        bare=ready(client, identity, ["python3", "-c", BARE]),
        upload=new_bytes(*archives),
    )


def add_a_line(tree: Path) -> None:
    """Change one line of the app."""
    with (tree / "app/web/pages.py").open("a", encoding="utf-8") as file:
        file.write("\nCHANGED = True\n")


def new_bytes(old: Path, new: Path) -> int:
    """Return the bytes of the second image that a registry with the first one lacks."""
    with oci.opened(old) as before, oci.opened(new) as after:
        present = {blob.digest for blob in before.image().layers}
        image = after.image()
        layers = sum(blob.size for blob in image.layers if blob.digest not in present)
        return layers + image.configuration.size + image.manifest.size


def ready(client: docker.DockerClient, image: str, instead: list[str] | None = None) -> float:
    """Return the median seconds from start to the first 200 on /readyz, on one CPU.

    `instead` is a program to run in the place of the app.
    """
    name = f"slipway-bench-{uuid.uuid4().hex[:12]}"
    environment = {"ENVIRONMENT": "development", "SECRET_KEY": secrets.token_urlsafe(48)}
    options = {
        "environment": environment,
        "volumes": {name: {"bind": "/data", "mode": "rw"}},
        "nano_cpus": 1_000_000_000,
        "mem_limit": "256m",
    }
    program = {} if instead is None else {"entrypoint": instead, "command": []}
    try:
        client.containers.run(
            image, ["python3", "-m", "app", "migrate"], entrypoint=[], remove=True, **options
        )
        return statistics.median(once(client, image, options | program) for _ in range(ROUNDS))
    finally:
        client.volumes.get(name).remove(force=True)


def once(client: docker.DockerClient, image: str, options: dict[str, object]) -> float:
    """Start one container and return the seconds until it is ready."""
    import http.client

    container = client.containers.create(image, ports={"8000/tcp": ("127.0.0.1", 0)}, **options)  # type: ignore[arg-type]
    try:
        began = time.perf_counter()
        container.start()
        container.reload()
        port = int(container.ports["8000/tcp"][0]["HostPort"])
        while time.perf_counter() - began < 60:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return time.perf_counter() - began
            except (OSError, http.client.HTTPException):
                time.sleep(0.005)
            finally:
                connection.close()
        raise TimeoutError(container.logs(tail=20).decode("utf-8", "replace"))
    finally:
        container.remove(force=True, v=True)
