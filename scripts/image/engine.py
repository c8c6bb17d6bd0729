"""Find the Docker engine and a docker command line that has BuildKit and compose.

The SDK and the command line are always pointed at the same engine: the command line gets `--host`, so that a
docker context chosen elsewhere cannot make them differ.
"""

from __future__ import annotations

import os
import socket
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.pipeline.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

DEFAULT_HOST = "unix:///var/run/docker.sock"
PLUGINS = ("buildx", "compose")
SSH_START = 'start it, then check it with "docker info" on that machine'
LOCAL_START = 'start it (as root: "systemctl start docker", or "scripts/bootstrap" which also installs one)'


class EngineUnreachable(UnreachableError):
    """No Docker engine answers, or this user may not talk to it."""


class DockerCommandMissing(UnreachableError):
    """No docker command on this machine has both buildx and compose."""


def endpoint(docker_host: str = "") -> str:
    """Return the engine's address: the one given, else DOCKER_HOST, else this machine's socket."""
    return docker_host or os.environ.get("DOCKER_HOST", "") or DEFAULT_HOST


def connect(docker_host: str = "", *, timeout: float = 60.0) -> docker.DockerClient:
    """Connect to an engine and prove that it answers.

    `timeout` bounds each call, in seconds. Raises EngineUnreachable with what to do next.
    """
    import docker
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    host = endpoint(docker_host)
    options: dict[str, Any] = {"timeout": timeout}
    try:
        if host.startswith("unix://"):
            _knock(host.removeprefix("unix://"))
        if host.startswith("ssh://"):
            options["use_ssh_client"] = True
        elif host.startswith("tcp://") and os.environ.get("DOCKER_TLS_VERIFY"):
            from docker.tls import TLSConfig

            folder = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
            options["tls"] = TLSConfig(
                client_cert=(str(folder / "cert.pem"), str(folder / "key.pem")),
                ca_cert=str(folder / "ca.pem"),
                verify=True,
            )
        client = docker.DockerClient(base_url=host, version="auto", **options)
        client.ping()
    except (DockerException, RequestException, OSError, ValueError) as error:
        raise unreachable(host, error) from error
    return client


def _knock(path: str) -> None:
    """Connect to a socket once: the SDK leaves its own open when that fails."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(path)


def unreachable(host: str, error: Exception) -> EngineUnreachable:
    """Say why an engine does not answer and what to do about it."""
    reasons = _reasons(error)
    text = " ".join(reasons)
    if "Permission denied" in text:
        return EngineUnreachable(
            "The Docker engine refuses this user",
            host,
            'join its group ("sudo usermod -aG docker $USER", then log in again), or run as root',
        )
    start = LOCAL_START if host.startswith(("unix://", "tcp://127.", "tcp://localhost")) else SSH_START
    return EngineUnreachable(
        f"No Docker engine answers ({reasons[-1]})",
        host,
        f"{start}; or name another with TARGET_DOCKER_HOST",
    )


def _reasons(error: BaseException) -> list[str]:
    """Return the messages along an exception's causes, outermost first."""
    reasons = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        reasons.append(str(current).strip() or type(current).__name__)
        current = current.__cause__ or current.__context__
    return reasons


def cli(docker_host: str = "") -> list[str]:
    """Return the start of a docker command line that has buildx and compose.

    A client without plugins may come first on PATH, so every one found there is asked. Raises
    DockerCommandMissing.
    """
    return [_command(os.environ.get("PATH", os.defpath)), "--host", endpoint(docker_host)]


@lru_cache(maxsize=4)
def _command(search_path: str) -> str:
    seen = []
    for candidate in _candidates(search_path):
        missing = [plugin for plugin in PLUGINS if not _has(candidate, plugin)]
        if not missing:
            return candidate
        seen.append(f"{candidate} lacks {' and '.join(missing)}")
    raise DockerCommandMissing(
        "No docker command with buildx and compose was found",
        "; ".join(seen) or "PATH holds no docker command",
        "run scripts/bootstrap, or apt-get install docker-cli docker-buildx docker-compose",
    )


def _candidates(search_path: str) -> Iterator[str]:
    known: set[Path] = set()
    for folder in [*search_path.split(os.pathsep), "/usr/bin", "/usr/local/bin"]:
        candidate = Path(folder or ".") / "docker"
        if candidate.is_file() and os.access(candidate, os.X_OK) and candidate.resolve() not in known:
            known.add(candidate.resolve())
            yield str(candidate)


def _has(command: str, plugin: str) -> bool:
    try:
        answer = subprocess.run(
            [command, plugin, "version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def has_containerd_store(client: docker.DockerClient) -> bool:
    """Tell whether the engine keeps images in containerd, where an image's id is its manifest digest."""
    status = client.info().get("DriverStatus") or []
    return any(value == "io.containerd.snapshotter.v1" for _, value in status)
