"""Look for what an attacker would use: in the image's files and settings, then by starting it.

It is started as it will run, with everything taken away that a service does not need, and must get ready and
end on SIGTERM like that.
"""

from __future__ import annotations

import json
import re
import secrets
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from scripts.image import oci
from scripts.image.console import Console
from scripts.image.engine import cli
from scripts.pipeline.errors import StageFailure

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterable, Iterator, Mapping

    import docker
    from docker.models.containers import Container

SHELLS = ("sh", "bash", "dash", "ash", "zsh", "ksh", "csh", "tcsh", "fish", "busybox", "toybox")
INSTALLERS = ("apt", "apt-get", "aptitude", "dpkg", "apk", "yum", "dnf", "rpm", "pip", "pip3", "uv", "conda")
FETCHERS = ("curl", "wget", "nc", "ncat", "socat", "ssh", "scp", "gcc", "cc", "make", "gdb", "strace")
SECRET_FILES = re.compile(
    r"(^|/)(\.env|\.netrc|\.pypirc|\.npmrc|\.git-credentials|id_(rsa|ecdsa|ed25519)|.*\.(key|p12|pfx|jks))$"
)
SECRET_NAMES = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|PRIVATE|API_?KEY)", re.IGNORECASE)
PRIVATE_KEY = re.compile(rb"^-----BEGIN [A-Z ]*PRIVATE KEY-----$", re.MULTILINE)
SEARCHED = 256 * 1024
PATIENCE = 25.0
ATTEMPTS = 3
STOP_LIMIT = 30.0
MIGRATION_LIMIT = 120.0


class StartFailed(StageFailure):
    """The image does not start, get ready or stop as it must."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """How the image behaved when it was run; times are seconds."""

    ready_seconds: float
    stop_seconds: float


def inspect(archive: oci.Archive, known_secrets: Iterable[str] = ()) -> list[str]:
    """Return what is wrong with an image's settings and files, one sentence each."""
    image = archive.image()
    problems = _settings(image.settings.get("config") or {})
    hidden = [value.encode() for value in known_secrets if len(value) >= 8]
    if any(value in json.dumps(image.settings).encode() for value in hidden):
        problems.append("a secret of this environment stands in the image's settings or history")
    for layer in image.layers:
        with oci.layer(archive, layer) as tar:
            for member in tar:
                problems += _file(member)
                if member.isfile() and member.size <= SEARCHED:
                    problems += _content(member, tar, hidden)
    return sorted(set(problems))


def _settings(config: Mapping[str, Any]) -> list[str]:
    problems = []
    user = str(config.get("User") or "")
    if not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", user):
        problems.append(f"it runs as user {user or 'root'!r}, not as a number above 0")
    if isinstance(config.get("Entrypoint"), list) and config["Entrypoint"][:1] in (["/bin/sh"], ["sh"]):
        problems.append("its entry point is a shell")
    for entry in config.get("Env") or ():
        name, _, value = entry.partition("=")
        if SECRET_NAMES.search(name) and value and not name.endswith("_FILE"):
            problems.append(f"its environment holds {name}")
    return problems


def _file(member: tarfile.TarInfo) -> list[str]:
    path = PurePosixPath("/") / member.name
    problems = []
    if member.isfile() and member.mode & 0o6000:
        problems.append(f"{path} is set-user-ID or set-group-ID")
    if not member.issym() and member.mode & 0o002 and not (member.isdir() and member.mode & 0o1000):
        problems.append(f"{path} can be written by everybody")
    if path.parent.name in ("bin", "sbin"):
        kinds = ((SHELLS, "a shell"), (INSTALLERS, "a package manager"), (FETCHERS, "a tool for intruders"))
        problems += [f"{path} is {kind}" for names, kind in kinds if path.name in names]
    if SECRET_FILES.search(str(path)):
        problems.append(f"{path} looks like a secret")
    return problems


def _content(member: tarfile.TarInfo, tar: tarfile.TarFile, hidden: list[bytes]) -> list[str]:
    file = tar.extractfile(member)
    content = file.read() if file else b""
    problems = []
    if PRIVATE_KEY.search(content):
        problems.append(f"/{member.name} holds a private key")
    if any(value in content for value in hidden):
        problems.append(f"/{member.name} holds a secret of this environment")
    return problems


def load(client: docker.DockerClient, archive: Path, digest: str, console: Console) -> str:
    """Load an archive into the engine and return the image's id; raises StartFailed for another image."""
    from docker.errors import ImageNotFound

    with oci.opened(archive) as opened:
        image = opened.image()
    console.progress("loading the image into the engine")
    console.run([*cli(), "load", "--quiet", "--input", archive], quiet=True)
    # The containerd store knows an image by its manifest, the classic store by its configuration.
    for identity in (digest, image.configuration.digest):
        try:
            found = client.images.get(identity)
        except ImageNotFound:
            continue
        return str(found.id)
    raise StartFailed(
        f"The engine does not know the image {digest} that was just loaded",
        str(archive),
        'build it again: "invoke build --force"',
    )


def start(client: docker.DockerClient, image: str, console: Console, *, limit: float) -> Started:
    """Run the image as a deployment would, on its own and with the least rights, and time it.

    It must answer 200 on /readyz within `limit` seconds and exit with 0 after SIGTERM. Raises StartFailed
    with the end of its log. The container and its volume are always removed.
    """
    volume = f"slipway-scan-{uuid.uuid4().hex[:12]}"
    environment = {"ENVIRONMENT": "development", "SECRET_KEY": secrets.token_urlsafe(48)}
    try:
        with _container(client, image, volume, environment, ["migrate"]) as job:
            console.progress("migrating an empty database in the image")
            job.start()
            _until_exit(job, console, MIGRATION_LIMIT, "the migration")
        with _container(client, image, volume, environment, None) as service:
            console.progress("starting the image with the least rights")
            # On a busy machine a start can be slow through no fault of the image: the best of a few counts.
            for attempt in range(1, ATTEMPTS + 1):
                ready = _until_ready(service, console)
                stop = _stopped(service, console)
                if ready <= limit:
                    return Started(ready_seconds=ready, stop_seconds=stop)
                console.say(f"ready after {ready:.1f} s, attempt {attempt} of {ATTEMPTS}")
            raise _wrong(
                service,
                f"No 200 on /readyz within {limit:g} s, {ATTEMPTS} times",
                next_step="quicken its start, or raise SCAN_START_SECONDS where the machine is busy or slow",
            )
    finally:
        _drop_volume(client, volume)


@contextmanager
def _container(
    client: docker.DockerClient,
    image: str,
    volume: str,
    environment: dict[str, str],
    command: list[str] | None,
) -> Iterator[Container]:
    container = client.containers.create(
        image,
        command,
        environment=environment,
        volumes={volume: {"bind": "/data", "mode": "rw"}},
        ports={"8000/tcp": ("127.0.0.1", 0)},
        read_only=True,
        tmpfs={"/tmp": "size=16m,mode=1777"},  # noqa: S108 - inside the container
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        mem_limit="256m",
        nano_cpus=1_000_000_000,
        pids_limit=128,
        init=True,
        labels={"dev.slipway.role": "scan"},
    )
    try:
        yield container
    finally:
        container.remove(force=True, v=True)


def _drop_volume(client: docker.DockerClient, name: str) -> None:
    from docker.errors import NotFound

    try:
        client.volumes.get(name).remove(force=True)
    except NotFound:
        return


def _stopped(container: Container, console: Console) -> float:
    """Send SIGTERM and return the seconds until the service has ended with 0."""
    began = time.monotonic()
    container.kill("SIGTERM")
    _until_exit(container, console, STOP_LIMIT, "the service after SIGTERM")
    return time.monotonic() - began


def _until_ready(container: Container, console: Console) -> float:
    """Start the service, poll /readyz until it answers 200 and return the seconds that took."""
    import http.client

    began = time.monotonic()
    container.start()
    while True:
        console.raise_if_cancelled()
        container.reload()
        if container.status not in ("created", "running"):
            raise _wrong(
                container, f"The container ended with status {_exit_code(container)} instead of serving"
            )
        bindings = container.ports.get("8000/tcp") or []
        port = int(bindings[0]["HostPort"]) if bindings else 0
        if port:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            try:
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return time.monotonic() - began
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
        if time.monotonic() - began > PATIENCE:
            raise _wrong(container, f"No 200 on /readyz within {PATIENCE:.0f} s")
        console.cancelled.wait(0.02)


def _until_exit(container: Container, console: Console, limit: float, what: str) -> None:
    until = time.monotonic() + limit
    while True:
        console.raise_if_cancelled()
        container.reload()
        if container.status == "exited":
            break
        if time.monotonic() > until:
            raise _wrong(container, f"{what.capitalize()} did not end within {limit:.0f} s")
        console.cancelled.wait(0.05)
    if _exit_code(container) != 0:
        raise _wrong(container, f"{what.capitalize()} exited with {_exit_code(container)} instead of 0")


def _exit_code(container: Container) -> int:
    return int(container.attrs["State"]["ExitCode"])


def _wrong(container: Container, what: str, next_step: str = "mend what its log says above") -> StartFailed:
    log = container.logs(tail=30).decode("utf-8", "replace").strip().splitlines()
    return StartFailed(
        what,
        "the image, run read-only as its own user without capabilities",
        next_step,
        log or ["its log is empty"],
    )
