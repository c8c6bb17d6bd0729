"""Requests that fail while releases come and go, beside what people type by hand.

The load is wrk with keep-alive connections on loopback; it runs through each whole deployment. The contenders
have the same image and no proxy: `docker service update` and `docker compose up` on a published port.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scripts.deployment import rollback
from scripts.deployment.errors import DeploymentFailed
from scripts.deployment.watch import served_digest
from scripts.image import engine
from tests.bench.document import machine, table, write_section
from tests.deployment import images
from tests.deployment.images import Image
from tests.deployment.stage import Stage, free_port, staged
from tests.postgres import wait_until

CONNECTIONS = 16
LONGEST = 180
SECRET = "bench-" + "k" * 40
TITLE = "## Deployments"
METHOD = f"""wrk, {CONNECTIONS} keep-alive connections on `/version`, two replicas behind the proxy
(the last two rows: one container on a published port, as these tools have it). Seconds of a bad release: from
`deploy` to the old release proven again, migration and health checks included."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one change did to the load; `seconds` from its start to its end."""

    name: str
    seconds: float
    requests: int
    failed: int
    rate: float

    def row(self) -> list[str]:
        """Return the row of the table."""
        return [
            self.name,
            f"{self.seconds:.1f} s",
            f"{self.requests:,}",
            f"{self.rate:,.0f}/s",
            f"**{self.failed:,}**",
        ]


def main(document: Path) -> int:
    """Measure, write the section `deploy`, and return 0."""
    image = images.built()
    other = images.changed(image)
    with staged(watch=3.0) as stage:
        stage.deploy(image)
        rows = [
            measured("deployment", stage.target.public_url, lambda: stage.deploy(other)),
            measured("rollback", stage.target.public_url, lambda: back(stage, other)),
            *(
                measured(
                    f"bad release: {name}", stage.target.public_url, bad(stage, images.faulty(image, fault))
                )
                for fault, name in (
                    ("crash", "ends at its start"),
                    ("errors", "ready, but answers 500"),
                    ("stuck", "never ready"),
                )
            ),
        ]
    with by_service(image) as (url, service):
        rows.append(measured("`docker service update`", url, lambda: update(service, other)))
    with by_compose(image) as (url, up):
        rows.append(measured("`docker compose up`", url, lambda: up(other)))
    parts = [
        TITLE,
        machine(),
        METHOD,
        table(["change", "took", "requests", "rate", "failed"], [each.row() for each in rows]),
    ]
    write_section(document, "deploy", "\n\n".join(parts))
    return 0


def measured(name: str, url: str, change: Callable[[], object]) -> Measured:
    """Run a change under load and return what happened."""
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{LONGEST}s", "--timeout=10s", f"{url}/version"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as load:
        time.sleep(1)  # the load's own warming up; nothing to wait for
        started = time.monotonic()
        try:
            change()
        finally:
            seconds = time.monotonic() - started
            time.sleep(1)
            load.send_signal(2)
        report = load.communicate()[0]
    return parsed(name, seconds, report)


def parsed(name: str, seconds: float, report: str) -> Measured:
    """Return the figures in wrk's report."""
    requests = re.search(r"(\d+) requests in", report)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", report)
    failed = int(bad[1]) if bad else 0
    failed += sum(int(count) for count in broken.groups()) if broken else 0
    return Measured(
        name=name,
        seconds=seconds,
        requests=int(requests[1]) if requests else 0,
        failed=failed,
        rate=float(rate[1]) if rate else 0.0,
    )


def back(stage: Stage, image: Image) -> None:
    """Roll back to the release before."""
    rollback.rollback(stage.order(image), "", stage.swarm, stage.console(), lambda _line: None)


def bad(stage: Stage, image: Image) -> Callable[[], None]:
    """Return the deployment of a bad release, which fails as it must."""

    def deploy() -> None:
        with suppress(DeploymentFailed):
            stage.deploy(image, health_start_period=3.0)
            raise AssertionError("the bad release was taken for a good one")

    return deploy


def environment(digest: str) -> dict[str, str]:
    """Return what a container needs that is started by hand."""
    return {
        "ENVIRONMENT": "development",
        "SECRET_KEY": SECRET,
        "DB_SQLITE_PATH": "/data/ledger.sqlite3",
        "WEB_HOST": "0.0.0.0",
        "RELEASE_DIGEST": digest,
    }


def reference(image: Image) -> str:
    """Return the image by digest."""
    return f"{image.repository}@{image.digest}"


def run(*words: str, **options: str) -> None:
    """Run a docker command."""
    subprocess.run([*engine.cli(), *words], check=True, capture_output=True, **options)  # type: ignore[call-overload]


def migrate(image: Image, volume: str) -> None:
    """Make the schema in a volume."""
    variables = [f"--env={name}={value}" for name, value in environment(image.digest).items()]
    run("run", "--rm", *variables, f"--volume={volume}:/data", reference(image), "migrate")


@contextmanager
def by_service(image: Image) -> Iterator[tuple[str, str]]:
    """Provide a swarm service with a published port, as `docker service create` makes it."""
    port, name = free_port(), f"bench-{uuid.uuid4().hex[:8]}"
    migrate(image, name)
    variables = [f"--env={key}={value}" for key, value in environment(image.digest).items()]
    publish = f"--publish=mode=host,published={port},target=8000"
    volume = f"--mount=type=volume,source={name},target=/data"
    run(
        "service",
        "create",
        "--name",
        name,
        "--no-resolve-image",
        publish,
        volume,
        *variables,
        reference(image),
    )
    try:
        wait_until(lambda: served_digest(f"http://127.0.0.1:{port}") == image.digest, 60, "the service")
        yield f"http://127.0.0.1:{port}", name
    finally:
        run("service", "rm", name)
        wait_until(lambda: gone(name), 60, "the end of the service")
        run("volume", "rm", name)


def gone(name: str) -> bool:
    """Tell whether no container of that name is left."""
    words = [*engine.cli(), "ps", "--all", "--quiet", f"--filter=name={name}"]
    return not subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def update(service: str, image: Image) -> None:
    """Update a service as people do."""
    run(
        *("service", "update", "--no-resolve-image", f"--env-add=RELEASE_DIGEST={image.digest}"),
        *("--image", reference(image), service),
    )


@contextmanager
def by_compose(image: Image) -> Iterator[tuple[str, Callable[[Image], None]]]:
    """Provide a compose project with a published port."""
    port, name = free_port(), f"bench-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "compose.yml"

        def up(wanted: Image) -> None:
            variables = "\n".join(
                f"      {key}: '{value}'" for key, value in environment(wanted.digest).items()
            )
            path.write_text(
                f"services:\n  web:\n    image: {reference(wanted)}\n"
                f"    ports: ['127.0.0.1:{port}:8000']\n"
                f"    volumes: ['data:/data']\n    environment:\n{variables}\n"
                f"volumes:\n  data:\n    name: {name}\n"
            )
            run("compose", "--project-name", name, "--file", str(path), "up", "--detach", "--wait")

        migrate(image, name)
        up(image)
        try:
            wait_until(lambda: served_digest(f"http://127.0.0.1:{port}") == image.digest, 60, "the container")
            yield f"http://127.0.0.1:{port}", up
        finally:
            run("compose", "--project-name", name, "--file", str(path), "down", "--volumes")
