"""What must hold between settings, each rule with what breaks it and what is just right."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from app.database.errors import AdapterMisconfigured
from app.database.routes import check_capacity
from app.web.server import processes
from config.rules import loopback, nearby, readable
from config.settings import Part, Sources, load
from tests.config.world import World

E, W = "error", "warning"
SETTINGS = load("testing", Sources(environ={}, root=Path("/nonexistent"), secrets=()))
POSTGRES = {"DB_ADAPTER_ORDER": "direct", "DB_HOST": "db.internal"}


def verdict(world: World, environment: str, environ: dict[str, str], id_: str) -> str | None:
    """Return the level at which the rule `id_` finds fault, or None."""
    world.environ |= environ
    levels = [problem.level.value for problem in world.problems(environment) if problem.id == id_]
    assert len(levels) <= 1, levels
    return levels[0] if levels else None


DEVELOPMENT = [
    ("one-database", {"DB_ADAPTER_ORDER": "sqlite,direct"}, E),
    ("one-database", {"DB_ADAPTER_ORDER": "direct,pooler"}, None),
    ("one-database", {"DB_ADAPTER_ORDER": "sqlite"}, None),
    ("route-host", {"DB_ADAPTER_ORDER": "direct"}, E),
    ("route-host", {"DB_ADAPTER_ORDER": "pooler"}, E),
    ("route-host", {"DB_ADAPTER_ORDER": "local"}, E),
    ("route-host", POSTGRES, None),
    ("route-host", {"DB_ADAPTER_ORDER": "local", "DB_LOCAL_HOST": "/run"}, None),
    ("distinct-routes", {"DB_ADAPTER_ORDER": "pooler,direct", "DB_POOLER_PORT": "5432"}, None),
    ("local-route", {"DB_LOCAL_HOST": "db.internal"}, E),
    ("local-route", {"DB_LOCAL_HOST": "10.0.0.1"}, E),
    ("local-route", {"DB_LOCAL_HOST": "127.0.0.2"}, None),
    ("local-route", {"DB_LOCAL_HOST": "localhost"}, None),
    ("local-route", {"DB_LOCAL_HOST": "/var/run/postgresql"}, None),
    ("embedded-database", {}, None),
    ("pool-budget", {**POSTGRES, "DB_POOL_SIZE": "32"}, E),
    ("pool-budget", {**POSTGRES, "DB_POOL_SIZE": "31"}, None),
    ("pool-budget", {"DB_POOL_SIZE": "33"}, None),
    ("pool-threads", {"DB_POOL_SIZE": "3", "WEB_THREADS": "4"}, W),
    ("pool-threads", {"DB_POOL_SIZE": "4", "WEB_THREADS": "4"}, None),
    ("time-budget", {"DB_CONNECT_TIMEOUT": "10.1"}, E),
    ("time-budget", {"DB_CONNECT_TIMEOUT": "10"}, None),
    ("time-budget", {"DB_BUSY_TIMEOUT": "11"}, E),
    ("time-budget", {"DB_BUSY_TIMEOUT": "10"}, None),
    ("monitor-window", {"MONITOR_SECONDS": "12.9"}, E),
    ("monitor-window", {"MONITOR_SECONDS": "13"}, None),
    ("monitor-window", {"HEALTH_RETRIES": "4"}, E),
    ("monitor-window", {"HEALTH_INTERVAL": "1.1"}, E),
    ("monitor-window", {"HEALTH_START_PERIOD": "10.1"}, E),
    ("deploy-window", {"DEPLOY_TIMEOUT": "28.9"}, E),
    ("deploy-window", {"DEPLOY_TIMEOUT": "29"}, None),
    ("deploy-window", {"WATCH_SECONDS": "94"}, None),
    ("deploy-window", {"WATCH_SECONDS": "94.1"}, E),
    ("deploy-window", {"REPLICAS": "20"}, E),
    ("drain-window", {"WEB_GRACEFUL_SECONDS": "119"}, None),
    ("drain-window", {"WEB_GRACEFUL_SECONDS": "119.1"}, W),
    ("drain-window", {"WEB_DRAIN_SECONDS": "110.1"}, W),
    ("public-port", {"PUBLIC_URL": "http://127.0.0.1:9"}, W),
    ("public-port", {"PUBLIC_URL": "http://localhost:9", "PUBLIC_PORT": "9"}, None),
    ("public-port", {"PUBLIC_URL": "http://localhost"}, None),
    ("public-port", {"PUBLIC_URL": "http://a.internal:9"}, None),
    ("public-port", {"PUBLIC_PORT": "9"}, None),
    ("public-url", {"PUBLIC_URL": "http://a.internal"}, None),
    ("ledger-url", {"LEDGER_URL": "http://a.internal"}, None),
    ("ledger-token", {"LEDGER_URL": "https://a.internal"}, W),
    ("ledger-token", {}, None),
    ("registry", {"TARGET_DOCKER_HOST": "ssh://deploy@host"}, E),
    ("registry", {"TARGET_DOCKER_HOST": "ssh://deploy@host", "REGISTRY": "localhost/x"}, E),
    ("registry", {"TARGET_DOCKER_HOST": "tcp://127.0.0.1:2375"}, None),
    ("registry", {"TARGET_DOCKER_HOST": "unix:///run/docker.sock"}, None),
    ("registry", {"TARGET_DOCKER_HOST": "ssh://deploy@host", "REGISTRY": "registry.internal"}, None),
    (
        "registry",
        {"TARGET_DOCKER_HOST": "ssh://deploy@host", "REGISTRY": "registry.internal:5000/team"},
        None,
    ),
    ("one-replica", {"REPLICAS": "1"}, None),
    ("debug", {"DEBUG": "true"}, None),
    ("debug-log", {"LOG_LEVEL": "DEBUG"}, None),
    ("plain-text", {**POSTGRES, "DB_SSLMODE": "disable"}, W),
    ("plain-text", {**POSTGRES, "DB_HOST": "postgres", "DB_SSLMODE": "disable"}, None),
    ("plain-text", {"DB_SSLMODE": "disable"}, None),
    ("plain-text", {"DB_SSLMODE": "disable", "DB_REPLICA_HOST": "r.internal"}, W),
    ("plain-text", {"DB_SSLMODE": "disable", "DB_REPLICA_HOST": "replica"}, None),
    ("unproven-server", {**POSTGRES, "DB_SSLMODE": "require"}, None),
    ("placeholder", {**POSTGRES, "DB_HOST": "db.example.com"}, W),
]


@pytest.mark.parametrize(("id_", "environ", "level"), DEVELOPMENT)
def test_a_rule_on_a_laptop(world: World, id_: str, environ: dict[str, str], level: str | None) -> None:
    assert verdict(world, "development", environ, id_) == level


POOLER = {"DB_ADAPTER_ORDER": "pooler", "DB_POOLER_HOST": "p.internal"}
NEAR_POOLER = {**POOLER, "DB_POOLER_HOST": "p"}
LOCAL = {"DB_ADAPTER_ORDER": "local", "DB_LOCAL_HOST": "/run"}
TWO = {"DB_ADAPTER_ORDER": "pooler,direct", "DB_POOLER_HOST": "db.internal"}
SHARED = [
    ("embedded-database", {"DB_ADAPTER_ORDER": "sqlite"}, W, W),
    ("embedded-database", {}, None, None),
    ("distinct-routes", {**TWO, "DB_POOLER_PORT": "5432"}, E, E),
    ("distinct-routes", TWO, None, None),
    ("distinct-routes", {**TWO, "DB_POOLER_HOST": "a", "DB_POOLER_PORT": "5432"}, None, None),
    ("distinct-routes", {**TWO, "DB_ADAPTER_ORDER": "direct", "DB_POOLER_PORT": "5432"}, None, None),
    ("plain-text", {"DB_SSLMODE": "disable"}, E, E),
    ("plain-text", {"DB_SSLMODE": "allow"}, E, E),
    ("plain-text", {"DB_SSLMODE": "prefer"}, E, E),
    ("plain-text", {"DB_SSLMODE": "disable", "DB_HOST": "postgres"}, W, E),
    ("plain-text", {"DB_SSLMODE": "disable", "DB_HOST": "127.0.0.1"}, W, E),
    ("plain-text", {"DB_SSLMODE": "disable", "DB_HOST": "10.0.0.1"}, E, E),
    ("plain-text", {"DB_SSLMODE": "disable", "DB_HOST": "postgres", "DB_REPLICA_HOST": "r.internal"}, E, E),
    ("plain-text", {**POOLER, "DB_POOLER_SSLMODE": "disable"}, E, E),
    ("plain-text", {**NEAR_POOLER, "DB_POOLER_SSLMODE": "disable"}, W, E),
    ("plain-text", {**NEAR_POOLER, "DB_POOLER_SSLMODE": "disable", "DB_REPLICA_HOST": "r.internal"}, W, E),
    ("plain-text", {"DB_POOLER_SSLMODE": "disable"}, None, None),
    ("plain-text", {**POOLER, "DB_SSLMODE": "disable", "DB_REPLICA_HOST": "r.internal"}, E, E),
    ("plain-text", {**POOLER, "DB_SSLMODE": "disable", "DB_REPLICA_HOST": "r"}, W, E),
    ("plain-text", {**POOLER, "DB_SSLMODE": "disable"}, None, None),
    ("plain-text", {**LOCAL, "DB_SSLMODE": "prefer", "DB_REPLICA_HOST": "r.internal"}, E, E),
    ("unproven-server", {**POOLER, "DB_SSLMODE": "require", "DB_REPLICA_HOST": "r.internal"}, W, W),
    ("tls-name", {**POOLER, "DB_HOST": "10.0.0.1", "DB_REPLICA_HOST": "r.internal"}, None, None),
    ("plain-text", {"DB_SSLMODE": "require"}, None, None),
    ("plain-text", {**LOCAL, "DB_SSLMODE": "disable"}, None, None),
    ("unproven-server", {"DB_SSLMODE": "require"}, W, W),
    ("unproven-server", {"DB_SSLMODE": "verify-ca"}, W, W),
    ("unproven-server", {}, None, None),
    ("tls-name", {"DB_HOST": "10.0.0.1"}, W, W),
    ("tls-name", {"DB_HOST": "db.internal", "DB_HOSTADDR": "10.0.0.1"}, None, None),
    ("tls-name", {"DB_REPLICA_HOST": "10.0.0.2"}, W, W),
    ("pool-budget", {"DB_POOL_SIZE": "32"}, E, E),
    ("pool-budget", {"DB_POOL_SIZE": "31"}, None, None),
    ("pool-budget", {"WEB_WORKERS": "6"}, E, E),
    ("pool-budget", {"WEB_WORKERS": "5"}, None, None),
    ("pool-budget", {"DB_POOL_SIZE": "16", "WEB_WORKERS": "2"}, E, E),
    ("pool-budget", {"DB_POOL_SIZE": "24", "REPLICAS": "3"}, E, E),
    ("pool-budget", {"DB_POOL_SIZE": "23", "REPLICAS": "3"}, None, None),
    ("pool-budget", {"DB_POOL_SIZE": "33", "DB_SERVER_MAX_CONNECTIONS": "105"}, None, None),
    ("pool-budget", {"DB_POOL_SIZE": "33", "DB_SERVER_MAX_CONNECTIONS": "104"}, E, E),
    ("pool-budget", {**TWO, "DB_POOL_SIZE": "31"}, E, E),
    ("pool-budget", {**TWO, "DB_POOL_SIZE": "30"}, None, None),
    ("pool-budget", {**POOLER, "DB_POOL_SIZE": "33"}, None, None),
    ("pool-budget", {**LOCAL, "DB_POOL_SIZE": "33"}, E, E),
    ("debug", {"DEBUG": "true"}, W, E),
    ("debug", {"DEBUG": "false"}, None, None),
    ("debug-log", {"LOG_LEVEL": "DEBUG"}, W, W),
    ("debug-log", {"LOG_LEVEL": "INFO"}, None, None),
    ("public-url", {"PUBLIC_URL": "http://a.internal"}, W, E),
    ("public-url", {"PUBLIC_URL": "http://127.0.0.1:8080"}, None, None),
    ("public-url", {"PUBLIC_URL": "https://a.internal"}, None, None),
    ("ledger-url", {"LEDGER_URL": "http://a.internal"}, E, E),
    ("ledger-url", {"LEDGER_URL": "http://ledger"}, W, E),
    ("ledger-url", {"LEDGER_URL": "http://localhost:1"}, None, None),
    ("ledger-url", {"LEDGER_URL": "https://a.internal"}, None, None),
    ("ledger-token", {"LEDGER_URL": "https://a.internal"}, None, None),
    ("one-replica", {"REPLICAS": "1"}, None, W),
    ("one-replica", {"REPLICAS": "2"}, None, None),
    ("placeholder", {"DB_HOST": "db.example.com"}, E, E),
    ("placeholder", {"DB_HOST": "example.com."}, E, E),
    ("placeholder", {"DB_HOST": "db.invalid"}, E, E),
    ("placeholder", {"DB_HOST": "myexample.com"}, None, None),
    ("placeholder", {"PUBLIC_URL": "https://a.test/x"}, E, E),
    ("placeholder", {"DB_POOLER_HOST": "not a host", "PUBLIC_URL": "https://a.test/x"}, E, E),
    ("placeholder", {"REGISTRY": "registry.example:5000/team"}, E, E),
    ("placeholder", {"DB_POOLER_HOST": "p.example.net"}, E, E),
    ("placeholder", {"DB_REPLICA_HOST": "r.example.org"}, E, E),
    ("placeholder", {"LEDGER_URL": "https://l.example"}, E, E),
]  # fmt: skip


@pytest.mark.parametrize(("id_", "environ", "at_staging", "at_production"), SHARED)
def test_a_rule_where_others_depend_on_it(
    staging: World, production: World, id_: str, environ: dict[str, str], at_staging: str, at_production: str
) -> None:
    """The two worlds are one folder: the fixture of production only adds to it."""
    assert verdict(staging, "staging", environ, id_) == at_staging
    assert verdict(production, "production", environ, id_) == at_production


def test_a_broken_value_ends_only_the_rules_that_need_it(staging: World) -> None:
    staging.environ |= {"DB_POOL_SIZE": "many", "MONITOR_SECONDS": "1", "DB_SSLMODE": "disable"}
    ids = {problem.id for problem in staging.problems()}
    assert ids == {"value", "monitor-window", "plain-text"}


def test_a_container_counts_the_connections_of_all_replicas(staging: World) -> None:
    """Two replicas, and a third while an update runs, on a server that keeps 3 of its 100 connections."""
    staging.environ |= {"DB_POOL_SIZE": "31"}
    assert staging.found("staging", part="app") == set()
    staging.environ |= {"DB_POOL_SIZE": "32"}
    assert staging.found("staging", part="app") == {(E, "pool-budget", "DB_POOL_SIZE")}


@pytest.mark.parametrize("routes", ["direct", "pooler,direct", "local,pooler,direct", "local", "pooler"])
@pytest.mark.parametrize(("workers", "replicas"), [(1, 1), (1, 2), (2, 2), (6, 2), (3, 9)])
def test_the_check_passes_a_pool_just_when_the_start_does(
    staging: World, routes: str, workers: int, replicas: int
) -> None:
    """The server gives what the check assumes: 100 connections, 3 of them for its superuser."""
    staging.environ |= {"DB_ADAPTER_ORDER": routes, "DB_POOLER_HOST": "p.internal", "DB_LOCAL_HOST": "/run"}
    staging.environ |= {"WEB_WORKERS": str(workers), "REPLICAS": str(replicas)}
    many = processes(replace(SETTINGS, web=replace(SETTINGS.web, workers=workers, replicas=replicas)))
    first = next((size for size in range(1, 100) if refused(size, routes.split(","), many)), 100)
    assert (first == 100) is (routes == "pooler")
    for pool_size in (first - 1, first):
        staging.environ["DB_POOL_SIZE"] = str(pool_size)
        wrong = any(each.id == "pool-budget" for each in staging.problems())
        assert wrong is refused(pool_size, routes.split(","), many)


def refused(pool_size: int, routes: list[str], many: int) -> bool:
    """Tell whether the start refuses a pool, on a server that gives 97 connections."""
    if not {"direct", "local"} & set(routes):
        return False
    try:
        check_capacity(pool_size, len(routes), many, 97)
    except AdapterMisconfigured:
        return True
    return False


def test_the_fix_of_a_pool_is_the_number_to_write(staging: World) -> None:
    staging.environ |= {"DB_POOL_SIZE": "40", "WEB_WORKERS": "4"}
    assert staging.only().fix == "Set DB_POOL_SIZE=7 or less, or go through the pooler alone"
    staging.environ["DB_POOL_SIZE"] = "7"
    assert staging.problems() == []
    staging.environ["WEB_WORKERS"] = "20"
    fix = next(each.fix for each in staging.problems() if each.id == "pool-budget")
    assert fix == "Run fewer workers or replicas, or go through the pooler alone"


@pytest.mark.parametrize("part", ["all", "app"])
def test_the_certificates_are_there(staging: World, part: Part) -> None:
    """On this machine too: the deployment reads the file here and hands it to the container."""
    path = staging.root / "ca.pem"
    for name in (str(path), "system", str(staging.root), "x" * 300):
        staging.environ["DB_SSLROOTCERT"] = name
        assert staging.found("staging", part=part) == {(E, "root-certificate", "DB_SSLROOTCERT")}
    path.write_text("-----BEGIN CERTIFICATE-----\n")
    staging.environ["DB_SSLROOTCERT"] = str(path)
    assert staging.found("staging", part=part) == set()


def test_certificates_in_a_closed_folder_are_a_problem_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The superuser, who may run the tests, passes every closed door: the refusal is made by hand."""
    path = tmp_path / "ca.pem"
    path.touch()
    assert readable(path)

    def refuse(*_: object, **__: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    assert not readable(path)


def test_the_fix_of_a_window_is_the_number_to_write(world: World) -> None:
    world.environ |= {"HEALTH_RETRIES": "7", "DEPLOY_TIMEOUT": "5"}
    fixes = {problem.id: problem.fix for problem in world.problems("development")}
    assert fixes["monitor-window"] == "Set MONITOR_SECONDS=17 or more"
    assert fixes["deploy-window"] == "Set DEPLOY_TIMEOUT=29 or more"


@pytest.mark.parametrize(
    ("host", "own", "near"),
    [
        ("localhost", True, True),
        ("127.0.0.9", True, True),
        ("::1", True, True),
        ("postgres", False, True),
        ("db.internal", False, False),
        ("10.0.0.1", False, False),
        ("fe80::1", False, False),
        ("", False, False),
    ],
)
def test_which_hosts_are_this_machine_and_its_containers(host: str, own: bool, near: bool) -> None:
    assert loopback(host) is own
    assert nearby(host) is near
