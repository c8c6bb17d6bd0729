"""A secret is set, strong, used once, and kept where only its owner reads it."""

from secrets import token_hex

import pytest

from tests.config.world import World

E, W = "error", "warning"


def test_a_database_server_asks_for_a_password(staging: World) -> None:
    (staging.root / ".slipway/secrets/staging/DB_PASSWORD").unlink()
    problem = staging.only()
    assert (problem.level, problem.id, problem.variable, problem.source) == (
        E,
        "missing",
        "DB_PASSWORD",
        "not set",
    )
    assert ".slipway/secrets/staging/DB_PASSWORD" in problem.fix


@pytest.mark.parametrize(
    ("environ", "needed"),
    [
        ({"DB_ADAPTER_ORDER": "pooler", "DB_POOLER_HOST": "p.internal"}, True),
        ({"DB_ADAPTER_ORDER": "local", "DB_LOCAL_HOST": "/run"}, False),
        ({"DB_ADAPTER_ORDER": "sqlite"}, False),
    ],
)
def test_only_a_server_on_the_network_needs_a_password(
    staging: World, environ: dict[str, str], needed: bool
) -> None:
    (staging.root / ".slipway/secrets/staging/DB_PASSWORD").unlink()
    staging.environ |= environ
    assert ((E, "missing", "DB_PASSWORD") in staging.found()) is needed


def test_a_laptop_may_use_a_server_without_a_password(world: World) -> None:
    world.environ |= {"DB_ADAPTER_ORDER": "direct", "DB_HOST": "postgres"}
    assert world.found("development") == set()


@pytest.mark.parametrize("environment", ["staging", "production"])
@pytest.mark.parametrize(
    ("name", "text", "id_"),
    [
        ("SECRET_KEY", "changeme-changeme-changeme-changeme", "placeholder"),
        ("SECRET_KEY", "x", "placeholder"),
        ("SECRET_KEY", "k7", "weak-secret"),
        ("SECRET_KEY", "q7Gk2Zr9vT4xLw8Yb3Nc6Md1Ph5Sj0K", "weak-secret"),
        ("SECRET_KEY", "a" * 64, "weak-secret"),
        ("LEDGER_TOKEN", "q7Gk2Zr9vT4xLw8Yb3Nc6Md", "weak-secret"),
        ("DB_PASSWORD", "q7Gk2Zr9vT4", "weak-secret"),
        ("DB_PASSWORD", "Summer2026!!", "weak-secret"),
        ("DB_PASSWORD", "letmein12345", "weak-secret"),
        ("DB_PASSWORD", "FILL_ME_IN_NOW", "placeholder"),
        ("SECRET_KEY", "qwertyuiopasdfghjklzxcvbnm1234567890", "weak-secret"),
        ("REGISTRY_PASSWORD", "aaaaaaaa", "weak-secret"),
        ("REGISTRY_PASSWORD", "12345678", "weak-secret"),
        ("REGISTRY_PASSWORD", "q7Gk2Zr", "weak-secret"),
    ],
)
def test_a_weak_secret_is_refused(
    staging: World, production: World, environment: str, name: str, text: str, id_: str
) -> None:
    staging.secret(name, text, environment)
    assert staging.found(environment) == {(E, id_, name)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SECRET_KEY", "q7Gk2Zr9vT4xLw8Yb3Nc6Md1Ph5Sj0Kf"),
        ("LEDGER_TOKEN", "q7Gk2Zr9vT4xLw8Yb3Nc6Md1"),
        ("DB_PASSWORD", "q7Gk2Zr9vT4x"),
        ("REGISTRY_PASSWORD", "q7Gk2Zr9"),
    ],
)
def test_a_secret_that_is_just_long_enough_is_taken(staging: World, name: str, text: str) -> None:
    assert staging.secret(name, text).found() == set()


def test_a_weak_secret_on_a_laptop_is_warned_of(world: World) -> None:
    world.secret("SECRET_KEY", "changeme", "development").secret("LEDGER_TOKEN", "k7", "development")
    assert world.found("development") == {
        (W, "placeholder", "SECRET_KEY"),
        (W, "weak-secret", "LEDGER_TOKEN"),
    }


@pytest.mark.parametrize("text", [" {}", "{} ", "{}\n\n", "\t{}"])
def test_a_blank_around_a_secret_is_warned_of(staging: World, text: str) -> None:
    staging.secret("SECRET_KEY", text.format(token_hex(24)))
    assert staging.found() == {(W, "secret-blank", "SECRET_KEY")}


def test_one_value_in_two_places_is_refused(staging: World) -> None:
    value = token_hex(24)
    staging.secret("SECRET_KEY", value).secret("LEDGER_TOKEN", value)
    problem = staging.only()
    assert (problem.level, problem.id, problem.variable) == (E, "reused-secret", "SECRET_KEY")
    assert problem.rule == "a secret is used once; LEDGER_TOKEN has the same value"
    assert problem.fix == "Run `invoke config.secret new SECRET_KEY --env=staging`"


@pytest.mark.parametrize("text", ["changeme", "k7"])
def test_who_has_a_weak_secret_is_told_how_to_make_a_strong_one(staging: World, text: str) -> None:
    advice = "Run `invoke config.secret new LEDGER_TOKEN --env=staging`"
    assert staging.secret("LEDGER_TOKEN", text).only().fix == advice


def test_one_value_in_two_places_on_a_laptop_is_warned_of(world: World) -> None:
    value = token_hex(24)
    world.secret("SECRET_KEY", value, "development").secret("LEDGER_TOKEN", value, "development")
    assert world.found("development") == {(W, "reused-secret", "SECRET_KEY")}


def test_one_value_in_two_places_of_production_is_refused(production: World) -> None:
    value = token_hex(24)
    production.secret("SECRET_KEY", value, "production").secret("LEDGER_TOKEN", value, "production")
    assert production.found("production") == {(E, "reused-secret", "SECRET_KEY")}


def test_only_secrets_of_another_environment_are_compared(staging: World) -> None:
    value = token_hex(24)
    staging.secret("SECRET_KEY", value).secret("NOTES", value, "production")
    assert staging.found("staging") == set()


def test_one_value_in_two_environments_is_refused(staging: World, production: World) -> None:
    value = token_hex(24)
    staging.secret("SECRET_KEY", value).secret("SECRET_KEY", value, "production")
    for environment, other in (("staging", "production"), ("production", "staging")):
        problem = staging.only(environment)
        assert (problem.level, problem.id) == (E, "reused-secret")
        assert (
            problem.rule == f"a secret is used in one environment; SECRET_KEY of {other} has the same value"
        )


def test_a_broken_secret_of_another_environment_is_its_own_problem(staging: World) -> None:
    value = token_hex(24)
    staging.secret("DB_PASSWORD", "x", "production").secret("SECRET_KEY", value, "production")
    (staging.root / ".slipway/secrets/production/DB_PASSWORD").write_bytes(b"\xff")
    assert staging.found() == set()
    staging.secret("SECRET_KEY", value)
    assert staging.found() == {(E, "reused-secret", "SECRET_KEY")}


@pytest.mark.parametrize("name", ["SECRET_KEY", "LEDGER_TOKEN", "DB_PASSWORD"])
def test_a_secret_in_env_is_every_environments(staging: World, production: World, name: str) -> None:
    for environment in ("staging", "production"):
        (staging.root / ".slipway/secrets" / environment / name).unlink()
    staging.yours(f"{name}={token_hex(24)}\n")
    assert staging.found("staging") == {(W, "reused-secret", name)}
    assert staging.found("production") == {(E, "reused-secret", name)}
    assert staging.found("development") == set()
    problem = staging.only("staging")
    assert (problem.source, problem.rule) == (
        ".env:1",
        "a secret is used in one environment; .env is read for each of them",
    )
    assert problem.fix.startswith(f"Write it to .slipway/secrets/staging/{name}")


@pytest.mark.parametrize(
    ("name", "user"), [("DB_PASSWORD", "DB_USER"), ("REGISTRY_PASSWORD", "REGISTRY_USER")]
)
def test_a_password_is_not_the_name_of_its_user(staging: World, name: str, user: str) -> None:
    staging.secret(name, "q7Gk2Zr9vT4x").environ[user] = "Q7gk2Zr9vT4x"
    problem = staging.only()
    assert (problem.level, problem.id, problem.variable) == (E, "weak-secret", name)
    assert problem.rule == f"a password differs from {user}"
    staging.environ[user] = "deployer"
    assert staging.problems() == []


def test_development_and_testing_may_share(world: World) -> None:
    value = token_hex(24)
    world.secret("SECRET_KEY", value, "development").secret("SECRET_KEY", value, "testing")
    assert world.found("development") == {(W, "reused-secret", "SECRET_KEY")}


@pytest.mark.parametrize("environment", ["development", "testing", "staging", "production"])
def test_a_secret_in_a_file_that_git_tracks_is_refused_everywhere(world: World, environment: str) -> None:
    world.shared(environment, f"SECRET_KEY={token_hex(24)}\n")
    problem = next(each for each in world.problems(environment) if each.id == "secret-in-git")
    assert (problem.level, problem.variable, problem.source) == (
        E,
        "SECRET_KEY",
        f"config/.env.{environment}:1",
    )


def test_a_secret_in_the_process_environment_is_warned_of_in_production(
    staging: World, production: World
) -> None:
    staging.environ["SECRET_KEY"] = token_hex(24)
    assert staging.found("staging") == set()
    assert staging.found("production") == {(W, "secret-in-process", "SECRET_KEY")}


def test_what_only_this_machine_has_is_warned_of_in_production(staging: World, production: World) -> None:
    staging.yours("LOG_LEVEL=WARNING\nENVIRONMENT=production\n")
    assert staging.found("staging") == set()
    problem = staging.only(None)
    assert (problem.level, problem.id, problem.variable, problem.source) == (
        W,
        "local-override",
        "LOG_LEVEL",
        ".env:1",
    )
