"""Follow what the service writes, without its secrets."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from scripts.deployment import secrets
from scripts.deployment.errors import DeploymentError
from scripts.deployment.swarm import Swarm
from scripts.deployment.target import Target


def logs(
    target: Target,
    swarm: Swarm,
    docker: list[str],
    write: Callable[[str], None],
    *,
    service: str = "web",
    follow: bool = False,
    since: str = "",
    tail: int = 100,
) -> None:
    """Write the last lines of a service, and with `follow` every further one until interrupted.

    `since` is a moment or a time back from now, as `docker service logs` takes it. Raises `DeploymentError`
    when the service is not there.
    """
    name = f"{target.stack}_{service}"
    if swarm.service(name) is None:
        known = [
            each["Spec"]["Name"].removeprefix(f"{target.stack}_") for each in swarm.services(target.stack)
        ]
        raise DeploymentError(
            f"{target.environment} runs no service {service!r}.",
            f"stack {target.stack}",
            f"Choose one of: {', '.join(known)}." if known else "Deploy first: `invoke deploy`.",
        )
    words = [*docker, "service", "logs", "--no-trunc", f"--tail={tail}"]
    words += ["--follow"] if follow else []
    words += [f"--since={since}"] if since else []
    mask = secrets.masker(target.secrets.values())
    with subprocess.Popen(
        [*words, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - for the type checker: stdout is a pipe
            for line in process.stdout:
                write(mask.text(line.rstrip("\n")))
        finally:
            process.terminate()
    if process.returncode > 0:
        raise DeploymentError("The engine did not give the logs.", name, "See its words above.")
