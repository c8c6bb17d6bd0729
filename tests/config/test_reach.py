"""Every secret that a source holds is found, so that it can be masked: the configuration need not be good."""

from pathlib import Path

import pytest

from config.reach import within_reach
from tests.clone import fresh_clone, invoke
from tests.config.world import World

SENTINEL = "q7Gk2Zr9vT4xLw8Yb3Nc6Md1Ph5Sj0KfUe"


def texts(world: World) -> list[str]:
    return [secret.reveal() for secret in within_reach(world.sources)]


def test_nothing_is_found_where_nothing_is(world: World) -> None:
    assert texts(world.yours("DB_PASSWORD=\nDB_NAME=ledger\nTOKEN=of-another-program\n")) == []


@pytest.mark.parametrize(
    "name",
    ["DB_PASSWORD", "db_password", "DB_PASSWROD", "LEDGER_TOKENS", "SECRET_KEY", "REGISTRY_PASSWORD"],
)
def test_it_is_found_in_every_source_and_under_a_misspelt_name(world: World, name: str) -> None:
    world.environ[name] = "of the process"
    world.yours(f"{name}='of .env'\n{name}=again\nnonsense\nENVIRONMENT=prodution\n")
    world.shared("staging", f"{name}=shared # in git\n")
    assert texts(world) == ["of the process", "of .env", "again", "shared"]


@pytest.mark.parametrize("environment", ["development", "testing", "staging", "production"])
def test_it_is_found_in_the_secrets_of_every_environment(world: World, environment: str) -> None:
    assert texts(world.secret("LEDGER_TOKEN", "weak\n", environment)) == ["weak"]


@pytest.mark.parametrize(
    "name", ["DB_PASSWORD_FILE", "DB_PASSWROD_FILE", "db_password_file", "SECRET_KEY_FILE"]
)
def test_it_is_found_where_a_name_points_to(world: World, name: str) -> None:
    (world.root / "here").write_text("pointed to")
    assert texts(world.yours(f"{name}=here\nDB_NAME_FILE=here\n")) == ["pointed to"]


@pytest.mark.parametrize("name", ["LEDGER_TOKEN_FILE", "LEDGER_TOKN_FILE"])
@pytest.mark.parametrize("value", [SENTINEL, f"/{SENTINEL}/x", "s" * 300, "a\0b"])
def test_what_should_be_a_path_and_leads_nowhere_may_be_the_secret(
    world: World, name: str, value: str
) -> None:
    world.environ[name] = value
    assert texts(world) == [value]


@pytest.mark.parametrize(
    "line",
    ["DB_PASSWORD='{}", "DB_PASSWORD {}", "export DB_PASSWORD: {}\r", 'DB_PASSWROD="{}', "DB_PASSWORD='{}'x"],
)
def test_it_is_found_in_a_line_that_is_broken(world: World, line: str) -> None:
    found = texts(world.yours(f"LOG_LEVEL=INFO\n{line.format(SENTINEL)}\n"))
    assert len(found) == 1
    assert found[0].startswith(SENTINEL)


def test_each_is_found_once(world: World) -> None:
    assert texts(world.with_secrets().yours("DB_PASSWORD=one\nLEDGER_TOKEN=one\n"))[0] == "one"
    assert len(texts(world)) == 4


def test_what_cannot_be_read_hides_nothing_else(world: World) -> None:
    world.secret("DB_PASSWORD", "a\0b").secret("SECRET_KEY", "good")
    (world.root / ".slipway/secrets/staging/LEDGER_TOKEN").mkdir()
    (world.root / ".env").mkdir()
    assert texts(world) == ["good"]
    (world.root / ".env").rmdir()
    assert texts(world.undecodable("DB_NAME=\xff\nDB_PASSWORD=beside it\n")) == ["beside it", "good"]


@pytest.mark.system
def test_a_run_under_a_refused_configuration_prints_no_secret(tmp_path: Path) -> None:
    """The linter quotes the lines that it finds fault with, and there the secrets stand."""
    clone = fresh_clone(tmp_path / "clone")
    world = World(clone).secret("SECRET_KEY", f"1{SENTINEL}").secret("DB_PASSWORD", f"2{SENTINEL}", "testing")
    world.yours(f"ENVIRONMENT=staging\nLEDGER_TOKEN=3{SENTINEL}\nDB_PASSWROD=4{SENTINEL}\n")
    values = [f"{number}{SENTINEL}" for number in range(1, 6)]
    fault = "".join(f'import os; it = "{value}"\n' for value in values)
    (clone / "scripts" / "fault.py").write_text(fault)
    done = invoke(clone, "lint", REGISTRY_PASSWORD=values[4])
    assert done.returncode == 1, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "***" in said
    written = [path for path in clone.glob(".slipway/runs/**/*") if path.is_file()]
    assert any(b"***" in path.read_bytes() for path in written)
    everything = said.encode() + b"".join(path.read_bytes() for path in written)
    assert (clone / "project_state.json").read_bytes() not in (b"", everything)
    assert SENTINEL.encode() not in everything + (clone / "project_state.json").read_bytes()
