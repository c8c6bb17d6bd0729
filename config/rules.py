"""What must hold between settings. Each rule is a function that yields what breaks it.

A rule that asks for a value that is missing or broken ends there: that was reported already. A variable of a
part that is not loaded counts the same, so a container checks what it can see.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from os import R_OK, access
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from config.capacity import RESERVED_CONNECTIONS, connections, largest_pool, processes
from config.environments import Environment
from config.errors import Level, Problem
from config.kinds import is_address
from config.secret import Secret
from config.variables import Reading

ERROR, WARNING = Level.ERROR, Level.WARNING
PLAIN_TEXT = ("disable", "allow", "prefer")
UNPROVEN = ("require", "verify-ca")
DOCUMENTATION = ("example", "invalid", "test", "example.com", "example.net", "example.org")
"""RFC 2606: names that never lead anywhere."""


class Unjudged(Exception):  # noqa: N818 (no error: it ends a rule that cannot be judged)
    """A rule asked for a value that is not known."""


@dataclass(frozen=True, kw_only=True)
class Values:
    """What the rules see: the values by variable, and what the environment makes of a finding."""

    environment: type[Environment]
    readings: Mapping[str, Reading] = field(repr=False)
    elsewhere: Mapping[tuple[str, str], Secret] = field(default_factory=dict)
    """The secrets of other environments on this machine, by environment and variable."""

    def __getitem__(self, name: str) -> Any:
        reading = self.readings.get(name)
        if reading is None or not reading.known:
            raise Unjudged(name)
        return reading.value

    def given(self, name: str) -> bool:
        """Tell whether a source sets `name`, so that it is not a default."""
        return name in self.readings and not self.readings[name].is_default

    def problem(
        self, id_: str, name: str, rule: str, fix: str, level: Level | None = Level.ERROR
    ) -> Iterator[Problem]:
        """Yield a problem with `name`; nothing when the level is None."""
        if level is not None:
            yield Problem(
                id=id_, variable=name, source=str(self.readings[name].origin), rule=rule, fix=fix, level=level
            )

    def level(self, laptop: Level | None, shared: Level | None, final: Level | None) -> Level | None:
        """Return the level for this environment: a laptop's, one that others depend on, or production."""
        return (laptop, shared, final)[self.environment.care]


Rule = Callable[[Values], Iterator[Problem]]


def one_database(values: Values) -> Iterator[Problem]:
    """All routes lead to one database, so the embedded one stands alone."""
    order = values["DB_ADAPTER_ORDER"]
    if "sqlite" in order and len(order) > 1:
        fix = "Name sqlite alone, or leave it out"
        yield from values.problem("one-database", "DB_ADAPTER_ORDER", "all routes lead to one database", fix)


def route_host(values: Values) -> Iterator[Problem]:
    """A route that is named has a server."""
    for route, name in (("direct", "DB_HOST"), ("pooler", "DB_POOLER_HOST"), ("local", "DB_LOCAL_HOST")):
        if route in values["DB_ADAPTER_ORDER"] and not values[name]:
            rule = f"the {route} route of DB_ADAPTER_ORDER has a server"
            yield from values.problem("route-host", name, rule, f"Set {name}, or leave {route} out")


def distinct_routes(values: Values) -> Iterator[Problem]:
    """Two routes are two ways: the pooler does not listen where the server does."""
    if {"direct", "pooler"} <= set(values["DB_ADAPTER_ORDER"]):
        server = (values["DB_HOST"], values["DB_PORT"])
        if server[0] and server == (values["DB_POOLER_HOST"], values["DB_POOLER_PORT"]):
            rule = "the pooler and the direct route differ in host or port"
            fix = "Set DB_POOLER_PORT to PgBouncer's port"
            yield from values.problem("distinct-routes", "DB_POOLER_PORT", rule, fix)


def local_route(values: Values) -> Iterator[Problem]:
    """The local route stays on this machine: it has no TLS."""
    host = values["DB_LOCAL_HOST"]
    if host and not host.startswith("/") and not loopback(host):
        rule = "the local route is a socket folder or a loopback address"
        fix = "Use the direct route for another machine"
        yield from values.problem("local-route", "DB_LOCAL_HOST", rule, fix)


def embedded_database(values: Values) -> Iterator[Problem]:
    """What several machines serve does not live in one machine's file."""
    if values["DB_ADAPTER_ORDER"] == ("sqlite",):
        rule = "an environment that others depend on has a database server"
        fix = "Set DB_ADAPTER_ORDER=direct and DB_HOST"
        yield from values.problem(
            "embedded-database", "DB_ADAPTER_ORDER", rule, fix, values.level(None, WARNING, WARNING)
        )


def tls(values: Values) -> Iterator[Problem]:
    """A connection over a network is encrypted, and the server proves its name."""
    order = values["DB_ADAPTER_ORDER"]
    if "direct" in order or values["DB_REPLICA_HOST"]:
        hosts = [values["DB_HOST"] if "direct" in order else "", values["DB_REPLICA_HOST"]]
        yield from tls_of(values, "DB_SSLMODE", [each for each in hosts if each])
    if "pooler" in order:
        hosts = [values["DB_POOLER_HOST"]]
        yield from tls_of(values, "DB_POOLER_SSLMODE", [each for each in hosts if each])


def tls_of(values: Values, name: str, hosts: list[str]) -> Iterator[Problem]:
    """Judge the TLS mode in the variable `name` for connections to `hosts`."""
    mode = values[name]
    if mode in PLAIN_TEXT:
        near = all(nearby(host) for host in hosts)
        level = values.level(None if near else WARNING, WARNING if near else ERROR, ERROR)
        rule = "the connection to the database is never plain text"
        fix = f"Set {name}=verify-full; only staging may do without, to a server on its container network"
        yield from values.problem("plain-text", name, rule, fix, level)
    elif mode in UNPROVEN:
        rule = "the server proves its name"
        level = values.level(None, WARNING, WARNING)
        yield from values.problem("unproven-server", name, rule, f"Set {name}=verify-full", level)
    elif any(is_address(host) for host in hosts):
        rule = "verify-full compares the certificate with a host name, not with an address"
        fix = "Write the name in the certificate; the address of DB_HOST goes into DB_HOSTADDR"
        yield from values.problem("tls-name", name, rule, fix, WARNING)


def root_certificate(values: Values) -> Iterator[Problem]:
    """The certificates that sign the server's are there; the deployment reads them on this machine."""
    path = values["DB_SSLROOTCERT"]
    if path is not None and not readable(path):
        rule = "the file is there and can be read"
        fix = "Correct the path, or leave the variable out for the system's certificates"
        yield from values.problem("root-certificate", "DB_SSLROOTCERT", rule, fix)


def readable(path: Path) -> bool:
    """Tell whether `path` is a file that this process may read."""
    try:
        return path.is_file() and access(path, R_OK)
    except OSError:
        return False


def pool_budget(values: Values) -> Iterator[Problem]:
    """All containers together, one more while an update runs, fit into the server's connections."""
    order = values["DB_ADAPTER_ORDER"]
    if set(order) & {"direct", "local"}:
        limit = values["DB_SERVER_MAX_CONNECTIONS"] - RESERVED_CONNECTIONS
        many = processes(values["WEB_WORKERS"], values["REPLICAS"])
        if connections(values["DB_POOL_SIZE"], len(order), many) > limit:
            most = largest_pool(limit, len(order), many)
            limited = f"at most DB_SERVER_MAX_CONNECTIONS - {RESERVED_CONNECTIONS}"
            rule = f"(DB_POOL_SIZE + routes of DB_ADAPTER_ORDER) x WEB_WORKERS x (REPLICAS + 1) is {limited}"
            lower = f"Set DB_POOL_SIZE={most} or less" if most > 0 else "Run fewer workers or replicas"
            fix = f"{lower}, or go through the pooler alone"
            yield from values.problem("pool-budget", "DB_POOL_SIZE", rule, fix)


def pool_threads(values: Values) -> Iterator[Problem]:
    """Each thread can have a connection."""
    if values["DB_POOL_SIZE"] < values["WEB_THREADS"]:
        rule = "DB_POOL_SIZE is at least WEB_THREADS, or threads wait for each other"
        fix = "Raise DB_POOL_SIZE or lower WEB_THREADS"
        yield from values.problem("pool-threads", "DB_POOL_SIZE", rule, fix, WARNING)


def time_budget(values: Values) -> Iterator[Problem]:
    """One attempt does not use up more than the whole budget."""
    for name in ("DB_CONNECT_TIMEOUT", "DB_BUSY_TIMEOUT"):
        if values[name] > values["DB_BUDGET_SECONDS"]:
            rule = f"{name} is at most DB_BUDGET_SECONDS"
            yield from values.problem("time-budget", name, rule, f"Lower {name} or raise DB_BUDGET_SECONDS")


def debug(values: Values) -> Iterator[Problem]:
    """Nobody but a developer sees tracebacks."""
    if values["DEBUG"]:
        yield from values.problem(
            "debug", "DEBUG", "debug mode is off", "Set DEBUG=false", values.level(None, WARNING, ERROR)
        )


def debug_log(values: Values) -> Iterator[Problem]:
    """The log of a shared environment has no statements in it."""
    if values["LOG_LEVEL"] == "DEBUG":
        rule = "DEBUG logs what users send"
        level = values.level(None, WARNING, WARNING)
        yield from values.problem("debug-log", "LOG_LEVEL", rule, "Set LOG_LEVEL=INFO", level)


def monitor_window(values: Values) -> Iterator[Problem]:
    """An update watches a container for longer than it takes to call it unhealthy."""
    needed = values["HEALTH_START_PERIOD"] + values["HEALTH_INTERVAL"] * values["HEALTH_RETRIES"]
    if values["MONITOR_SECONDS"] < needed:
        rule = "MONITOR_SECONDS is at least HEALTH_START_PERIOD + HEALTH_INTERVAL x HEALTH_RETRIES"
        fix = f"Set MONITOR_SECONDS={needed:g} or more"
        yield from values.problem("monitor-window", "MONITOR_SECONDS", rule, fix)


def deploy_window(values: Values) -> Iterator[Problem]:
    """A deployment has time for what it must wait for."""
    needed = values["MONITOR_SECONDS"] * values["REPLICAS"] + values["WATCH_SECONDS"]
    if values["DEPLOY_TIMEOUT"] < needed:
        rule = "DEPLOY_TIMEOUT is at least MONITOR_SECONDS x REPLICAS + WATCH_SECONDS"
        fix = f"Set DEPLOY_TIMEOUT={needed:g} or more"
        yield from values.problem("deploy-window", "DEPLOY_TIMEOUT", rule, fix)


def drain_window(values: Values) -> Iterator[Problem]:
    """A deployment does not end before the old containers had their time to stop."""
    needed = values["WEB_DRAIN_SECONDS"] + values["WEB_GRACEFUL_SECONDS"]
    if values["DEPLOY_TIMEOUT"] < needed:
        rule = "DEPLOY_TIMEOUT is at least WEB_DRAIN_SECONDS + WEB_GRACEFUL_SECONDS"
        fix = f"Set DEPLOY_TIMEOUT={needed:g} or more, or give requests less time"
        yield from values.problem("drain-window", "DEPLOY_TIMEOUT", rule, fix, WARNING)


def public_url(values: Values) -> Iterator[Problem]:
    """What users type is encrypted, and leads to the port that is published."""
    parts = urlsplit(values["PUBLIC_URL"])
    host = parts.hostname or ""
    if parts.scheme == "http" and not loopback(host):
        rule = "users reach the service over https"
        yield from values.problem(
            "public-url", "PUBLIC_URL", rule, "Write https://", values.level(None, WARNING, ERROR)
        )
    if loopback(host) and parts.port is not None and parts.port != values["PUBLIC_PORT"]:
        rule = "a PUBLIC_URL on this machine has the port PUBLIC_PORT"
        fix = "Set both to one port, or leave PUBLIC_URL out"
        yield from values.problem("public-port", "PUBLIC_URL", rule, fix, WARNING)


def ledger_url(values: Values) -> Iterator[Problem]:
    """The token of the ledger is not sent in plain text, nor the ledger called without one."""
    parts = urlsplit(values["LEDGER_URL"])
    host = parts.hostname or ""
    if parts.scheme == "http" and not loopback(host):
        near = WARNING if nearby(host) else ERROR
        level = values.level(None, near, ERROR)
        yield from values.problem(
            "ledger-url", "LEDGER_URL", "the token goes over https", "Write https://", level
        )
    if host and values.given("LEDGER_URL") and values["LEDGER_TOKEN"] is None:
        fix = "Set LEDGER_TOKEN to a token of that ledger"
        level = values.level(WARNING, None, None)
        yield from values.problem("ledger-token", "LEDGER_URL", "a ledger is called with a token", fix, level)


def registry(values: Values) -> Iterator[Problem]:
    """The target's engine can reach the registry that releases are pushed to."""
    host = values["REGISTRY"].partition("/")[0].rpartition(":")
    target = values["TARGET_DOCKER_HOST"]
    remote = bool(target) and not loopback(urlsplit(target).hostname or "localhost")
    if remote and loopback(host[0] or host[2]):
        rule = "a remote engine reaches the registry by a name that is not this machine's own"
        yield from values.problem("registry", "REGISTRY", rule, "Name the registry as the target sees it")


def one_replica(values: Values) -> Iterator[Problem]:
    """A node that fails does not take the service along."""
    if values["REPLICAS"] == 1:
        level = values.level(None, None, WARNING)
        rule = "production has two containers or more"
        yield from values.problem("one-replica", "REPLICAS", rule, "Set REPLICAS=2", level)


def documentation_host(values: Values) -> Iterator[Problem]:
    """A host is a real one, not one of a manual's."""
    for name in ("DB_HOST", "DB_POOLER_HOST", "DB_REPLICA_HOST", "LEDGER_URL", "PUBLIC_URL", "REGISTRY"):
        reading = values.readings.get(name)
        if reading is None or not reading.known:
            continue
        text = reading.value if "://" in reading.value else f"//{reading.value}"
        host = (urlsplit(text).hostname or "").rstrip(".")
        if any(host == each or host.endswith(f".{each}") for each in DOCUMENTATION):
            rule = "a host is not one of those kept for manuals"
            yield from values.problem(
                "placeholder", name, rule, "Write the real host", values.level(WARNING, ERROR, ERROR)
            )


def loopback(host: str) -> bool:
    """Tell whether `host` is this machine itself."""
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def nearby(host: str) -> bool:
    """Tell whether `host` cannot be another machine's: loopback, or one label, as in a container network."""
    return loopback(host) or (bool(host) and "." not in host and not is_address(host))


BETWEEN: tuple[Rule, ...] = (
    one_database,
    route_host,
    distinct_routes,
    local_route,
    embedded_database,
    tls,
    root_certificate,
    pool_budget,
    pool_threads,
    time_budget,
    debug,
    debug_log,
    monitor_window,
    deploy_window,
    drain_window,
    public_url,
    ledger_url,
    registry,
    one_replica,
    documentation_host,
)
