"""The settings of the pipeline: where a release goes and what it must satisfy. No container gets them."""

from dataclasses import dataclass
from pathlib import Path

from config.kinds import Choice, Endpoint, File, Hidden, Integer, Memory, Name, Number, Text, Url
from config.secret import Secret
from config.variables import variable

PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Registry, target, limits, host names and the policies of a deployment."""

    registry: str = variable(
        "REGISTRY",
        "Registry that releases are pushed to, without a scheme",
        Name(
            pattern=rf"[a-z0-9]+([.-][a-z0-9]+)*(:{PORT})?(/[a-z0-9._-]+)*",
            rule="host, host:port or host/path in lower case, without a scheme",
        ),
        "127.0.0.1:5000",
        example="registry.internal:5000",
    )
    registry_user: str = variable(
        "REGISTRY_USER", "User that `invoke login` logs in to the registry as", Text(), "", example="deployer"
    )
    registry_password: Secret | None = variable(
        "REGISTRY_PASSWORD",
        "Password or token of that user",
        Hidden(characters=8, bits=15.0),
        None,
    )
    image_name: str = variable(
        "IMAGE_NAME",
        "Name of the image in the registry",
        Name(
            pattern=r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*",
            rule="lower-case letters and digits, joined by . _ - or /",
        ),
        "slipway",
    )
    docker_host: str = variable(
        "TARGET_DOCKER_HOST",
        "Engine of the target; empty for this machine's",
        Endpoint(),
        "",
        example="ssh://deploy@host",
    )
    stack_name: str = variable(
        "STACK_NAME",
        "Name of the stack on the target",
        Name(pattern=r"[a-z0-9][a-z0-9_-]{0,62}", rule="1 to 63 lower-case letters, digits, _ and -"),
        "slipway-<environment>",
    )
    limit_memory: str = variable("LIMIT_MEMORY", "Most memory a container", Memory(), "256M")
    limit_cpus: float = variable(
        "LIMIT_CPUS", "Most CPUs a container", Number(minimum=0.05, maximum=256, unit="CPUs"), 1.0
    )
    limit_pids: int = variable(
        "LIMIT_PIDS", "Most processes and threads a container", Integer(minimum=16, maximum=65536), 128
    )
    public_url: str = variable(
        "PUBLIC_URL",
        "Address that users reach the service by",
        Url(schemes=("https", "http")),
        "http://127.0.0.1:<PUBLIC_PORT>",
        example="https://ledger.internal",
    )
    public_port: int = variable(
        "PUBLIC_PORT", "Port of the target that the proxy publishes", Integer(minimum=1, maximum=65535), 8080
    )
    health_start_period: float = variable(
        "HEALTH_START_PERIOD", "Time to start before failed checks count", Number(maximum=600), 10.0
    )
    health_interval: float = variable(
        "HEALTH_INTERVAL", "Time between two health checks", Number(minimum=0.1, maximum=300), 1.0
    )
    health_retries: int = variable(
        "HEALTH_RETRIES", "Failed checks in a row that mean unhealthy", Integer(minimum=1, maximum=20), 3
    )
    monitor_seconds: float = variable(
        "MONITOR_SECONDS", "How long an update watches a new container", Number(maximum=3600), 13.0
    )
    watch_seconds: float = variable(
        "WATCH_SECONDS", "How long the error rate is watched after an update", Number(maximum=3600), 3.0
    )
    error_rate_limit: float = variable(
        "ERROR_RATE_LIMIT",
        "Share of failed requests that turns a deployment back",
        Number(maximum=1, unit="parts of 1"),
        0.01,
    )
    deploy_timeout: float = variable(
        "DEPLOY_TIMEOUT", "Time for a whole deployment", Number(minimum=5, maximum=7200), 120.0
    )
    scan_fail_level: str = variable(
        "SCAN_FAIL_LEVEL",
        "Least severity of a finding that stops a release",
        Choice(choices=("low", "medium", "high", "critical", "none"), fold=True),
        "high",
    )
    scan_start_seconds: float = variable(
        "SCAN_START_SECONDS",
        "Longest start, from the container's to a first 200 on /readyz, that the scan accepts",
        Number(minimum=0.1, maximum=25),
        5.0,
    )
    advisories: Path | None = variable(
        "ADVISORIES",
        "Folder or zip of OSV advisories to scan with",
        File(),
        None,
        example="advisories/PyPI.zip",
    )
    advisories_url: str = variable(
        "ADVISORIES_URL",
        "Where to fetch OSV's zip for PyPI once a day when ADVISORIES is empty",
        Url(schemes=("https", "http")),
        "",
        example="https://advisories.internal/PyPI/all.zip",
    )
    base_image: str = variable(
        "BASE_IMAGE",
        "Base of the build, by digest; empty for the one the Dockerfile pins",
        Text(pattern=r"\S+", rule="an image reference without blanks"),
        "",
        example="debian@sha256:…",
    )
    keep_releases: int = variable(
        "KEEP_RELEASES", "Releases kept on the target to roll back to", Integer(minimum=2, maximum=100), 5
    )
