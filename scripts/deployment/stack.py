"""From the settings of an environment and a digest to the stack that the swarm is told to run."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.deployment import secrets
from scripts.deployment.errors import DeploymentError
from scripts.deployment.swarm import STACK_LABEL, Swarm
from scripts.deployment.target import Target

STACK_FILE = Path("docker/stack.yml")
PROXY_FILE = Path("docker/proxy/haproxy.cfg")
CA_PATH = "/etc/slipway/database-ca.pem"
DATA_PATH = "/data"
APP_USER = "10001"
PAUSE = "15m"
"""Between the first new replica and the next, unless the deployment finds the first one good sooner."""
FORMAT = "1"
"""Raised when the same inputs would be rendered differently, so that one redeployment follows an upgrade."""


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """All that a stack is made of; no secret's value is in it."""

    stack: str
    digest: str
    values: Mapping[str, str]
    """What fills the variables of stack.yml."""
    environment: Mapping[str, str]
    """The environment variables of the app's containers."""
    secrets: Mapping[str, str]
    """Secret -> its name on the swarm, which ends in a prefix of a hash of its value."""
    configs: Mapping[str, str]
    """Config -> its name on the swarm, which ends in a prefix of the hash of its content."""
    pids: int
    volume: str
    file_hash: str

    @property
    def fingerprint(self) -> str:
        """Return what two renderings share when deploying one over the other would change nothing."""
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return hashlib.sha256(json.dumps([FORMAT, facts], sort_keys=True, default=dict).encode()).hexdigest()[
            :16
        ]

    def overlay(self) -> dict[str, Any]:
        """Return the compose file that goes over stack.yml: what depends on the environment's settings."""
        web: dict[str, Any] = {
            "environment": {name: _escaped(value) for name, value in self.environment.items()},
            "secrets": [
                {"source": name, "target": name, "uid": APP_USER, "gid": APP_USER, "mode": 0o400}
                for name in self.secrets
            ],
            "deploy": {"resources": {"limits": {"pids": self.pids}}},
        }
        whole: dict[str, Any] = {
            "services": {"web": web},
            "secrets": {
                name: {"external": True, "name": on_swarm} for name, on_swarm in self.secrets.items()
            },
        }
        if self.volume:
            web["volumes"] = [{"type": "volume", "source": "data", "target": DATA_PATH}]
            whole["volumes"] = {"data": {"name": self.volume, "labels": {STACK_LABEL: self.stack}}}
        if "database-ca" in self.configs:
            web["configs"] = [{"source": "database-ca", "target": CA_PATH, "mode": 0o444}]
            whole["configs"] = {"database-ca": {"external": True, "name": self.configs["database-ca"]}}
        return whole


def render(target: Target, digest: str, root: Path, *, proxy_image: str = "") -> Rendering:
    """Return the stack of a release on a target, asking no engine; raise `DeploymentError` without a file."""
    from scripts.image import services

    contents = _contents(target, root)
    configs = {
        name: f"{target.stack}.{name}.{hashlib.sha256(data).hexdigest()[: secrets.PREFIX_LENGTH]}"
        for name, data in contents.items()
    }
    environment = {**target.variables, "ENVIRONMENT": target.environment, "RELEASE_DIGEST": digest}
    if target.embedded:
        environment["DB_SQLITE_PATH"] = f"{DATA_PATH}/ledger.sqlite3"
    if "database-ca" in contents:
        environment["DB_SSLROOTCERT"] = CA_PATH
    monitor = max(
        target.monitor, target.health_start_period + target.health_interval * target.health_retries + 1
    )
    return Rendering(
        stack=target.stack,
        digest=digest,
        values={
            "STACK_NAME": target.stack,
            "IMAGE": f"{target.image}@{digest}",
            "REPLICAS": str(target.replicas),
            "LIMIT_MEMORY": target.limit_memory,
            "LIMIT_CPUS": f"{target.limit_cpus:g}",
            "PUBLIC_PORT": str(target.public_port),
            "HEALTH_START_PERIOD": f"{target.health_start_period:g}s",
            "HEALTH_INTERVAL": f"{target.health_interval:g}s",
            "HEALTH_TIMEOUT": "5s",
            "HEALTH_RETRIES": str(target.health_retries),
            "MONITOR": f"{monitor:g}s",
            "PAUSE": PAUSE if target.replicas > 1 else "0s",
            "STOP_GRACE": f"{target.drain + 2:g}s",
            "PROXY_IMAGE": proxy_image or services.name_of("proxy", root),
            "PROXY_CONFIG": configs["proxy"],
        },
        environment=environment,
        secrets=secrets.names(target.stack, target.secrets),
        configs=configs,
        pids=target.limit_pids,
        volume=f"{target.stack}_data" if target.embedded else "",
        file_hash=hashlib.sha256(_read(root / STACK_FILE)).hexdigest()[:16],
    )


def _contents(target: Target, root: Path) -> dict[str, bytes]:
    contents = {"proxy": _read(root / PROXY_FILE)}
    if target.ca_file is not None and not target.embedded:
        contents["database-ca"] = _read(target.ca_file)
    return contents


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DeploymentError(
            f"A file that the deployment needs cannot be read: {error.strerror}.", str(path), "Put it back."
        ) from error


def create_configs(swarm: Swarm, target: Target, rendering: Rendering, root: Path) -> list[str]:
    """Create the configs that the swarm does not have yet; return their names."""
    contents = _contents(target, root)
    return [
        on_swarm
        for name, on_swarm in rendering.configs.items()
        if swarm.create_config(
            on_swarm, contents[name], {STACK_LABEL: target.stack, "dev.slipway.kind": "config"}
        )
    ]


def _escaped(value: str) -> str:
    return value.replace("$", "$$")


def composed(docker: list[str], rendering: Rendering, root: Path, scratch: Path) -> str:
    """Return the whole stack as one compose file: stack.yml filled in, with the overlay laid over it.

    `docker` is the start of a docker command line; `scratch` a folder for the overlay. Raises
    `DeploymentError` with the command's own words when stack.yml is not a stack.
    """
    overlay = scratch / "stack.overlay.json"
    overlay.write_text(json.dumps(rendering.overlay(), indent=1))
    words = [*docker, "stack", "config", "-c", str(root / STACK_FILE), "-c", str(overlay)]
    return _run(words, "", rendering.values, f"{STACK_FILE} is not a stack")


def apply(docker: list[str], stack: str, text: str) -> None:
    """Tell the swarm to run the stack; it goes on by itself. Raises `DeploymentError` when it refuses."""
    # By digest, from where it was pushed to: asking the registry again could only fail.
    words = [
        *docker,
        "stack",
        "deploy",
        "--prune",
        "--resolve-image=never",
        "--with-registry-auth",
        "-c",
        "-",
        stack,
    ]
    _run(words, _escaped(text), {}, "The swarm refused the stack")


def _run(words: list[str], text: str, values: Mapping[str, str], complaint: str) -> str:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "HOME") or name.startswith(("DOCKER_", "SSH_"))
    }
    try:
        # A session of its own: Ctrl-C in the terminal must not leave half a stack applied.
        done = subprocess.run(
            words,
            input=text,
            env={**kept, **values},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise DeploymentError(
            f"{complaint}: no answer within 60 s.", " ".join(words[-4:]), "See the engine's log."
        ) from error
    if done.returncode != 0:
        raise DeploymentError(
            f"{complaint}: {done.stderr.strip()}", str(STACK_FILE), "Mend it and deploy again."
        )
    return done.stdout
