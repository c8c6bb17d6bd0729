"""Everything that is wrong is found at once, with where it stands."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.check import check
from config.dotenv import LARGEST
from config.environments import ENVIRONMENTS, Staging
from config.errors import ConfigurationError, Level
from config.settings import Database, Sources, load
from config.sources import Reader
from tests.config.world import World

LOOP = os.strerror(errno.ELOOP)
E, W = "error", "warning"


def test_each_source_wins_over_the_ones_below(staging: World) -> None:
    seen = []
    staging.shared("staging", "DB_HOST=db.internal\nDB_NAME=shared\n")
    seen.append(str(staging.check().readings["DB_NAME"].origin))
    staging.yours("DB_NAME=yours\n")
    seen.append(str(staging.check().readings["DB_NAME"].origin))
    staging.secret("DB_NAME", "file")
    seen.append(str(staging.check().readings["DB_NAME"].origin))
    staging.environ["DB_NAME"] = "process"
    reading = staging.check().readings["DB_NAME"]
    assert [*seen, str(reading.origin)] == [
        "config/.env.staging:2",
        ".env:1",
        ".slipway/secrets/staging/DB_NAME",
        "process environment",
    ]
    assert reading.value == "process"


def test_the_default_of_the_environment_wins_over_that_of_the_class(world: World) -> None:
    readings = world.check("testing").readings
    assert (readings["LOG_LEVEL"].value, str(readings["LOG_LEVEL"].origin)) == (
        "WARNING",
        "default of testing",
    )
    assert (readings["LOG_FORMAT"].value, str(readings["LOG_FORMAT"].origin)) == ("text", "default")


def test_reading_is_a_function_of_the_sources(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """decouple would look into os.environ first."""
    monkeypatch.setenv("DB_NAME", "from_the_test_process")
    monkeypatch.setenv("DB_PORT", "broken")
    assert world.check("development").readings["DB_NAME"].value == "slipway"
    assert world.found("development") == set()


def test_this_process_on_this_machine_is_the_default_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_APPLICATION_NAME", "this-process")
    assert check("testing").readings["DB_APPLICATION_NAME"].value == "this-process"
    assert Sources().environ is os.environ
    assert (Sources().root / "config" / "settings.py").is_file()


@pytest.mark.parametrize("text", ["ture", "2", "enabled"])
def test_a_boolean_that_is_none_is_never_false(world: World, text: str) -> None:
    world.environ["DEBUG"] = text
    assert world.found("development") == {(E, "value", "DEBUG")}


def test_a_cast_error_names_the_variable_the_place_and_the_rule(world: World) -> None:
    world.shared("development", "\n# comment\nDB_PORT=fivefourthreetwo\n")
    problem = world.only("development")
    assert (problem.id, problem.variable, problem.source) == ("value", "DB_PORT", "config/.env.development:3")
    assert problem.rule == "it is a whole number from 1 to 65535"
    assert problem.fix == "Write a whole number from 1 to 65535"


@pytest.mark.parametrize(
    "name", ["DB_PORT", "DEBUG", "DB_NAME", "DB_SQLITE_PATH", "DB_ADAPTER_ORDER", "LIMIT_MEMORY", "LOG_LEVEL"]
)
def test_an_empty_value_is_refused_where_it_means_nothing(world: World, name: str) -> None:
    world.environ[name] = ""
    problem = world.only("development")
    assert (problem.id, problem.variable, problem.fix) == (
        "empty",
        name,
        "Give it a value, or delete it to use the default",
    )
    assert problem.rule.endswith(", not empty")


@pytest.mark.parametrize(
    "name", ["DB_HOST", "DB_SSLROOTCERT", "LEDGER_URL", "TARGET_DOCKER_HOST", "DB_PASSWORD"]
)
def test_an_empty_value_is_none_where_that_means_something(world: World, name: str) -> None:
    world.environ[name] = ""
    assert world.found("development") == set()


@pytest.mark.parametrize("environment", ["development", "staging"])
def test_an_empty_required_secret_is_missing(staging: World, environment: str) -> None:
    staging.environ["SECRET_KEY"] = ""
    problem = next(each for each in staging.problems(environment) if each.variable == "SECRET_KEY")
    assert (problem.level, problem.id, problem.source) == (E, "missing", "process environment")


def test_every_broken_line_and_value_of_every_file_is_reported_at_once(staging: World) -> None:
    staging.shared("staging", "DB_HOST=db.internal\nDB_PORT=x\nDB_PORT=5\nbroken\nWEB_PORT='open\n")
    staging.yours("DEBUG=ture\n=\n").environ["REPLICAS"] = "0"
    found = {(each.id, each.variable, each.source) for each in staging.problems()}
    assert found == {
        ("broken-line", "", "config/.env.staging:3"),
        ("broken-line", "", "config/.env.staging:4"),
        ("broken-line", "", "config/.env.staging:5"),
        ("value", "DB_PORT", "config/.env.staging:2"),
        ("broken-line", "", ".env:2"),
        ("value", "DEBUG", ".env:1"),
        ("value", "REPLICAS", "process environment"),
    }


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda path: path.write_bytes(b"A=\xff\n"), "an env file is UTF-8 text"),
        (lambda path: path.mkdir(), "an env file is a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "an env file is a regular file"),
        (
            lambda path: path.symlink_to(path.name),
            "an env file can be read (Too many levels of symbolic links)",
        ),
        (
            lambda path: path.write_text(f"DB_NAME={'x' * LARGEST}"),
            f"an env file has at most {LARGEST} bytes",
        ),
    ],
)
def test_an_env_file_that_cannot_be_read_is_reported(world: World, make: Any, rule: str) -> None:
    make(world.root / ".env")
    for environment in (None, "development"):
        problem = world.only(environment)
        assert (problem.id, problem.variable, problem.source, problem.rule) == (
            "unreadable",
            "",
            ".env",
            rule,
        )


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("prodution", "Did you mean production"),
        ("prod", "Did you mean production"),
        ("PRODUCTION", "Did you mean production"),
        ("dev", "Did you mean development"),
        ("stagin", "Did you mean staging"),
        (" staging ", "Did you mean staging"),
        ("live", "Write one of these names"),
        ("", "Write one of these names"),
        ("p", "Write one of these names"),
    ],
)
@pytest.mark.parametrize("place", ["command line", "process environment", ".env:1"])
def test_an_unknown_environment_is_refused(world: World, name: str, fix: str, place: str) -> None:
    if place == "process environment":
        world.environ["ENVIRONMENT"] = name
    elif place == ".env:1":
        world.yours(f"ENVIRONMENT='{name}'\n")
    report = world.check(name if place == "command line" else None)
    problem = report.problems[0]
    assert (report.environment, report.settings, len(report.problems)) == ("", None, 1)
    assert report.readings == {}
    assert (problem.id, problem.variable, problem.source) == ("unknown-environment", "ENVIRONMENT", place)
    assert problem.rule == "the environment is one of development, testing, staging, production"
    assert problem.fix == fix


def test_a_service_that_is_told_no_environment_is_refused(world: World) -> None:
    def found() -> list[tuple[str, str, str]]:
        report = check(None, world.sources, part="app", unnamed=None)
        assert (report.settings is None) == bool(report.problems)
        return [(each.id, str(each), report.environment) for each in report.problems]

    text = (
        "error [missing] ENVIRONMENT (not set): a service is told which environment it serves. "
        "Set ENVIRONMENT to one of development, testing, staging, production."
    )
    assert found() == [("missing", text, "")]
    world.environ["ENVIROMENT"] = "testing"
    assert [id_ for id_, _, _ in found()] == ["unknown-name"]
    world.environ["ENVIRONMENT"] = "testing"
    assert check(None, world.sources, part="app", unnamed=None).environment == "testing"


def test_the_environment_is_what_is_asked_for_then_the_process_then_env_then_development(
    world: World,
) -> None:
    assert world.check(None).environment == "development"
    world.yours("ENVIRONMENT=testing\n")
    assert world.check(None).environment == "testing"
    world.environ["ENVIRONMENT"] = "staging"
    assert world.check(None).environment == "staging"
    assert world.check("production").environment == "production"


@pytest.mark.parametrize(
    "name",
    [
        "ENVIROMENT",
        "ENVIRONMENTS",
        "environment",
        "ENVIROMENTS",
        "ENVIROMNT",
        "ENVIRONMENT_NAME",
        "ENVIRONMENT_FILE",
    ],
)
@pytest.mark.parametrize("place", ["process", "yours"])
def test_a_misspelt_chooser_does_not_start_development(world: World, name: str, place: str) -> None:
    if place == "process":
        world.environ[name] = "production"
    else:
        world.yours(f"{name}=production\n")
    report = world.check(None)
    assert report.settings is None
    assert [(each.id, each.variable, each.fix) for each in report.problems] == [
        ("unknown-name", name, "Did you mean ENVIRONMENT")
    ]


@pytest.mark.parametrize(("lines", "listed", "more"), [(20, 20, ""), (21, 21, "1 more"), (9000, 21, "8980")])
def test_a_file_of_broken_lines_is_reported_by_its_first_ones(
    world: World, lines: int, listed: int, more: str
) -> None:
    """An open quote can spoil thousands."""
    problems = world.yours('DB_HOST="' + "x\n" * lines).problems("development")
    assert {each.id for each in problems} == {"broken-line"}
    assert (len(problems), problems[0].source, problems[19].source) == (listed, ".env:1", ".env:20")
    assert problems[-1].rule.startswith(more)


@pytest.mark.parametrize(
    ("text", "id_"),
    [
        ("ENVIRONMENT='production\n", "broken-line"),
        ("ENVIRONMENT production\n", "broken-line"),
        ("ENVIRONMENT='production'x\n", "broken-line"),
        ("ENVIRONMENT=testing\nENVIRONMENT=production\n", "broken-line"),
        ("x\n" * 30 + "ENVIRONMENT='production\n", "broken-line"),
        ("ENVIRONMENT=production\n\0", "unreadable"),
    ],
)
def test_a_choice_that_cannot_be_read_is_not_guessed(world: World, text: str, id_: str) -> None:
    report = world.yours(text).check(None)
    assert (report.environment, report.settings) == ("", None)
    assert id_ in {each.id for each in report.problems if each.level is Level.ERROR}
    world.environ["ENVIRONMENT"] = "testing"
    assert world.check(None).environment == "testing"


def test_another_broken_line_does_not_hide_the_choice(world: World) -> None:
    assert world.yours("ENVIRONMENT=testing\nbroken\n").check(None).environment == "testing"
    assert world.yours("broken\n").check(None).environment == "development"


def test_a_choice_in_utf_16_is_not_guessed(world: World) -> None:
    """PowerShell's `>` writes it."""
    for encoding in ("utf-16", "utf-16-le"):
        (world.root / ".env").write_bytes("ENVIRONMENT=production\r\n".encode(encoding))
        report = world.check(None)
        assert (report.environment, [each.id for each in report.problems]) == ("", ["unreadable"])


@pytest.mark.parametrize("name", ["DB_NAME", "SECRET_KEY", "DB_SSLROOTCERT", "PUBLIC_URL"])
@pytest.mark.parametrize("text", ["caf\udce9", "a\0b"])
def test_what_is_not_utf_8_text_is_refused(world: World, name: str, text: str) -> None:
    world.environ[name] = text
    problem = world.only("development")
    assert (problem.level, problem.id, problem.variable) == (E, "value", name)
    assert problem.rule == "it is UTF-8 text without NUL"


def test_a_name_that_is_not_utf_8_can_be_printed(world: World) -> None:
    world.environ["DB_HOS\udce9"] = "x"
    assert [str(each).encode() for each in world.problems("development")]


def test_a_file_of_one_environment_does_not_choose(world: World) -> None:
    world.shared("development", "ENVIRONMENT=production\n")
    problem = world.only("development")
    assert (problem.level, problem.id, problem.fix) == (E, "unknown-name", "Delete the line")
    assert (problem.variable, problem.source) == ("ENVIRONMENT", "config/.env.development:1")


@pytest.mark.parametrize(
    ("place", "name", "level"),
    [
        ("process", "DB_HSOT", E),
        ("process", "DB_HSOT_FILE", E),
        ("process", "DB_PASWORD", E),
        ("process", "DB_USERNAME", W),
        ("process", "DB_PASSWORDS", W),
        ("process", "DB_PASSWROT", W),
        ("process", "DB_POST", W),
        *[("process", name, W) for name in ("DB_SSL", "DB_MAX", "DB_LOCAL")],
        *[
            ("process", name, None)
            for name in ("DB_TEST", "DB_POOL", "DB_HOME", "DB_ROOT", "WEB_ROOT", "LOG_PATHS")
        ],
        ("process", "REPLICA", W),
        ("process", "debug", W),
        ("process", "DATABASE_URL", None),
        ("process", "PGPASSWORD", None),
        ("yours", "DB_HSOT", E),
        ("yours", "REPLICA", E),
        ("yours", "DB_TEST", E),
        ("yours", "ENVIRONMENT_FILE", E),
        ("shared", "ENVIRONMENT_FILE", E),
        ("process", "ENVIRONMENT_FILE", None),
        ("process", "ENVIRONMENT_NAME", None),
        ("yours", "COMPOSE_PROJECT_NAME", None),
        ("shared", "DB_HSOT", E),
        ("secret", "SECRET_KYE", E),
        ("secret", "postgres-backup", None),
    ],
)
def test_a_name_that_is_none(world: World, place: str, name: str, level: str | None) -> None:
    if place == "process":
        world.environ[name] = "x"
    elif place == "yours":
        world.yours(f"{name}=x\n")
    elif place == "shared":
        world.shared("development", f"{name}=x\n")
    else:
        world.secret(name, environment="development")
    assert world.found("development") == ({(level, "unknown-name", name)} if level else set())


def test_an_unknown_name_in_a_file_of_the_project_is_placed_and_not_repeated(world: World) -> None:
    """It may be the end of a secret of several lines that was not quoted."""
    world.shared("development", "\nCOMPOSE_PROJECT_NAME=x\n")
    problem = world.only("development")
    assert (problem.level, problem.id, problem.variable) == (E, "unknown-name", "")
    assert problem.source == "config/.env.development:2"


def test_a_misspelt_name_that_has_swallowed_its_value_is_not_repeated(world: World) -> None:
    world.yours("DB_PASSWORDq7Gk2Zr9vT4xLw8Yb3Nc6Md==\n")
    problem = world.only("development")
    assert (problem.variable, problem.source, problem.fix) == ("", ".env:1", "Did you mean DB_PASSWORD")


def test_did_you_mean_keeps_the_suffix(world: World) -> None:
    world.environ["DB_PASWORD_FILE"] = "/x"
    assert world.only("development").fix == "Did you mean DB_PASSWORD_FILE"


def test_errors_come_before_warnings(staging: World) -> None:
    staging.environ |= {"DEBUG": "true", "MONITOR_SECONDS": "0", "LOG_LEVEL": "DEBUG", "DB_PORT": "x"}
    levels = [problem.level for problem in staging.problems()]
    assert levels == sorted(levels)
    assert levels.count(Level.ERROR) == 2
    assert levels.count(Level.WARNING) == 2


def test_fail_levels(staging: World) -> None:
    assert not staging.check().failed(Level.WARNING)
    staging.environ["DEBUG"] = "true"
    report = staging.check()
    assert report.settings is not None
    assert report.settings.warnings == report.problems
    assert report.failed(Level.WARNING)
    assert not report.failed()
    staging.environ["DB_PORT"] = "x"
    assert staging.check().failed()


def test_a_container_is_not_asked_for_deliverys_settings(staging: World) -> None:
    staging.environ |= {"LIMIT_PIDS": "none", "PUBLIC_URL": "none"}
    settings = load("staging", staging.sources, part="app")
    assert settings.delivery is None
    assert "LIMIT_PIDS" not in settings.public_values("all")
    with pytest.raises(ConfigurationError) as caught:
        load("staging", staging.sources)
    assert caught.value.environment == "staging"
    assert {problem.variable for problem in caught.value.problems} == {"LIMIT_PIDS", "PUBLIC_URL"}


def test_defaults_that_follow_from_others(world: World) -> None:
    world.environ["PUBLIC_PORT"] = "9999"
    settings = load("development", world.sources)
    assert settings.delivery is not None
    assert settings.delivery.public_url == "http://127.0.0.1:9999"
    assert settings.delivery.stack_name == "slipway-development"
    assert settings.ledger.url == "http://127.0.0.1:9999"
    world.environ |= {"PUBLIC_URL": "http://laptop:9999", "STACK_NAME": "mine", "LEDGER_URL": ""}
    settings = load("development", world.sources)
    assert settings.delivery is not None
    assert settings.delivery.stack_name == "mine"
    assert settings.ledger.url == ""
    del world.environ["LEDGER_URL"]
    assert load("development", world.sources).ledger.url == "http://laptop:9999"
    assert load("testing", world.sources).ledger.url == ""


def test_a_broken_port_leaves_what_follows_from_it_unknown(world: World) -> None:
    world.environ["PUBLIC_PORT"] = "x"
    report = world.check("development")
    assert [problem.variable for problem in report.problems] == ["PUBLIC_PORT"]
    assert not report.readings["PUBLIC_URL"].known


def test_a_laptops_key_is_made_up_for_each_start(world: World) -> None:
    keys = {load("development", world.sources).security.secret_key.reveal() for _ in range(3)}
    assert len(keys) == 3
    assert str(world.check("development").readings["SECRET_KEY"].origin) == "made up for this start"


def test_an_environment_of_ones_own_is_a_class(world: World) -> None:
    class Preview(Staging):
        """A staging for each branch."""

        name = "preview"
        requires = (*Staging.requires, "PUBLIC_URL")
        defaults: ClassVar[Mapping[str, Any]] = {**Staging.defaults, "REPLICAS": 1}

    world.with_secrets("preview").shared("preview", "DB_HOST=db.internal\n")
    report = check("preview", world.sources, environments=(*ENVIRONMENTS, Preview))
    assert report.readings["REPLICAS"].value == 1
    assert [(each.id, each.variable, each.fix) for each in report.problems] == [
        ("missing", "PUBLIC_URL", "Set it in config/.env.preview")
    ]
    assert world.check("preview").environment == ""


def test_what_a_deployment_hands_over(staging: World) -> None:
    staging.environ["DB_POOL_SIZE"] = "7"
    settings = load("staging", staging.sources)
    public, secret = settings.public_values("app"), settings.secret_values("app")
    assert public["DB_POOL_SIZE"] == "7"
    assert public["DB_ADAPTER_ORDER"] == "direct"
    assert "LIMIT_PIDS" not in public
    assert settings.public_values()["LIMIT_PIDS"] == "128"
    assert set(secret) == {"SECRET_KEY", "LEDGER_TOKEN", "DB_PASSWORD"}
    assert not set(public) & set(secret)
    assert settings.secrets() == tuple(secret.values())


def test_what_is_handed_over_loads_again_to_the_same(staging: World) -> None:
    before = load("staging", staging.sources)
    handed = World(staging.root / "container", dict(before.public_values("app")))
    for name, value in before.secret_values("app").items():
        handed.secret(name, value.reveal())
    after = load("staging", handed.sources, part="app")
    for group in ("web", "database", "ledger", "logging", "security"):
        assert getattr(after, group) == getattr(before, group)


def test_settings_cannot_be_changed(world: World) -> None:
    settings = load("development", world.sources)
    with pytest.raises(AttributeError):
        settings.web.port = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        settings.environment = "production"  # type: ignore[misc]


def test_a_group_can_be_made_by_hand(tmp_path: Path) -> None:
    assert Database(sqlite_path=tmp_path / "x").adapter_order == ("sqlite",)


def test_the_reader_is_decouples_with_its_own_defaults(world: World) -> None:
    import decouple

    reader = Reader(decouple.RepositoryEmpty())
    assert reader.get("NOT_SET_ANYWHERE", default=3) == 3
    with pytest.raises(decouple.UndefinedValueError, match="NOT_SET_ANYWHERE"):
        reader.get("NOT_SET_ANYWHERE")


NAMES = st.sampled_from(
    ["DB_PORT", "DB_HOST", "DEBUG", "DB_SSLMODE", "SECRET_KEY", "REPLICAS", "ENVIRONMENT", "DB_HSOT"]
)


@given(st.dictionaries(NAMES, st.text(st.characters(), max_size=12)))
def test_no_process_environment_makes_the_check_crash(environ: dict[str, str]) -> None:
    sources = Sources(environ=environ, root=Path("/nonexistent"), secrets=())
    report = check(None, sources)
    assert (report.settings is None) == report.failed()
