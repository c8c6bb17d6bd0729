"""What `invoke config.*` says, does and refuses."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stat import S_IMODE
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import ConfigurationError
from config.sources import Sources
from scripts import configuration
from scripts.pipeline.errors import UsageError
from tests.config.world import World


def check(
    world: World, environment: str | None = "staging", *, fail_level: str = "error"
) -> configuration.Answer:
    """Ask for a check as text."""
    return configuration.check_command(environment, world.sources, as_json_=False, fail_level=fail_level)


def test_check_ends_with_2_on_an_error_and_at_the_fail_level_on_a_warning(staging: World) -> None:
    assert check(staging).exit_code == 0
    staging.environ["DEBUG"] = "true"
    assert check(staging).exit_code == 0
    assert check(staging, fail_level="warning").exit_code == 2
    staging.environ["DB_PORT"] = "x"
    assert check(staging).exit_code == 2
    answer = configuration.check_command(None, staging.sources, as_json_=True, fail_level="error")
    assert answer.exit_code == 2
    assert json.loads(answer.text)["environment"] == "development"


def test_check_refuses_a_fail_level_that_is_none(staging: World) -> None:
    with pytest.raises(UsageError, match="error, warning"):
        check(staging, fail_level="info")


def test_show_has_value_and_source_of_everything(staging: World) -> None:
    staging.environ["DB_PORT"] = "x"
    lines = configuration.show("staging", staging.sources, as_json_=False).text.splitlines()
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[2:]}
    assert lines[0] == "environment: staging"
    assert len(rows) == 66
    assert rows["DB_HOST"] == "db.internal config/.env.staging:1"
    assert rows["DB_PORT"] == "broken process environment"
    assert rows["SECRET_KEY"] == "set (43 characters) .slipway/secrets/staging/SECRET_KEY"
    assert rows["LEDGER_URL"] == "(empty) default"
    assert rows["WEB_DRAIN_SECONDS"] == "1 default"


def test_show_says_what_is_not_set(world: World) -> None:
    document = json.loads(configuration.show("staging", world.sources, as_json_=True).text)
    assert document["environment"] == "staging"
    assert document["settings"]["SECRET_KEY"] == {"value": "not set", "source": "not set"}
    assert document["settings"]["DB_PASSWORD"] == {"value": "not set", "source": "not set"}
    assert document["settings"]["DB_PORT"] == {"value": "5432", "source": "default"}


def test_show_as_json_of_an_unknown_environment_is_json(world: World) -> None:
    answer = configuration.show("stagin", world.sources, as_json_=True)
    assert answer.exit_code == 2
    document = json.loads(answer.text)
    assert (document["environment"], document["problems"][0]["id"]) == (None, "unknown-environment")


def test_show_refuses_a_choice_that_cannot_be_read(world: World) -> None:
    world.yours("ENVIRONMENT='production\n")
    with pytest.raises(ConfigurationError, match="a quote that is opened is closed"):
        configuration.show(None, world.sources, as_json_=False)


def test_show_and_diff_do_not_show_what_a_secret_has_as_well(staging: World) -> None:
    staging.secret("DB_PASSWORD", "q7Gk2Zr9vT4x").environ["DB_USER"] = "q7Gk2Zr9vT4x"
    text = configuration.show("staging", staging.sources, as_json_=False).text
    assert "q7Gk2Zr9vT4x" not in text
    assert ["DB_USER", "the", "value", "of", "a", "secret", "process", "environment"] in [
        line.split() for line in text.splitlines()
    ]


def test_show_and_diff_refuse_an_unknown_environment(world: World) -> None:
    with pytest.raises(ConfigurationError, match="Did you mean staging"):
        configuration.show("stagin", world.sources, as_json_=False)
    with pytest.raises(ConfigurationError, match="Did you mean production"):
        configuration.diff("staging", "prod", world.sources)


def test_diff_shows_what_differs_and_of_secrets_their_length_only(staging: World, production: World) -> None:
    staging.shared("production", "DB_HOST=db.internal\nREPLICAS=3\n").secret("DB_PASSWORD", "q7Gk2Zr9vT4x")
    text = configuration.diff("staging", "production", staging.sources).text
    rows = [line.split("  ") for line in text.splitlines()]
    found = {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in rows}
    assert found == {
        "VARIABLE": ["STAGING", "PRODUCTION"],
        "REPLICAS": ["2", "3"],
        "STACK_NAME": ["slipway-staging", "slipway-production"],
        "SECRET_KEY": ["set (43 characters)"] * 2,
        "LEDGER_TOKEN": ["set (43 characters)"] * 2,
        "DB_PASSWORD": ["set (12 characters)", "set (43 characters)"],
    }


def test_diff_of_equals_says_so(world: World) -> None:
    """Two keys that are made up at each start do not count as a difference."""
    assert configuration.diff("development", "development", world.sources).text == (
        "development and development do not differ"
    )


def test_use_writes_one_line_and_shows_what_changes(staging: World) -> None:
    answer = configuration.use("staging", staging.sources, yes=False)
    path = staging.root / ".env"
    assert path.read_text() == "ENVIRONMENT=staging\n"
    assert S_IMODE(path.stat().st_mode) == 0o600
    assert answer.text.splitlines()[0] == ".env: ENVIRONMENT=staging"
    rows = [line.split() for line in answer.text.splitlines()[1:]]
    assert ["VARIABLE", "DEVELOPMENT", "STAGING"] in rows
    assert ["DB_HOST", "(empty)", "db.internal"] in rows
    assert staging.check(None).environment == "staging"


def test_use_keeps_every_other_byte_of_the_file(world: World) -> None:
    path = world.root / ".env"
    path.write_bytes(
        b"# caf\xc3\xa9\r\nDB_NAME='a\nb'\n export ENVIRONMENT = staging # x\n"
        b"LOG_LEVEL=INFO\nENVIRONMENT=a\nA=1"
    )
    path.chmod(0o640)
    configuration.use("testing", world.sources, yes=False)
    assert path.read_bytes() == (b"# caf\xc3\xa9\r\nDB_NAME='a\nb'\nENVIRONMENT=testing\nLOG_LEVEL=INFO\nA=1")
    assert S_IMODE(path.stat().st_mode) == 0o640
    assert [each.name for each in world.root.glob(".env*")] == [".env"]


def test_use_adds_its_line_behind_a_last_line_without_end(world: World) -> None:
    world.yours("#ENVIRONMENT=staging\nENVIRONMENTAL=x\nA=1")
    configuration.use("testing", world.sources, yes=False)
    text = (world.root / ".env").read_text()
    assert text == "#ENVIRONMENT=staging\nENVIRONMENTAL=x\nA=1\nENVIRONMENT=testing\n"


def test_use_takes_the_place_of_a_choice_behind_a_byte_order_mark(world: World) -> None:
    path = world.root / ".env"
    path.write_bytes(b"\xef\xbb\xbfENVIRONMENT=testing\r\nLOG_LEVEL=INFO\r\n")
    configuration.use("staging", world.sources, yes=False)
    assert path.read_bytes() == b"\xef\xbb\xbfENVIRONMENT=staging\nLOG_LEVEL=INFO\r\n"
    assert world.check(None).environment == "staging"


def test_use_leaves_what_only_looks_like_a_choice_inside_another_value(world: World) -> None:
    before = "DB_PASSWORD='one\nENVIRONMENT=x\nthree'\n"
    world.yours(before)
    configuration.use("testing", world.sources, yes=False)
    assert (world.root / ".env").read_text() == f"{before}ENVIRONMENT=testing\n"
    assert world.check("testing").readings["DB_PASSWORD"].value.reveal() == "one\nENVIRONMENT=x\nthree"


@pytest.mark.parametrize("line", ["ENVIRONMENT='testing", "ENVIRONMENT testing", "ENVIRONMENT='a'b"])
def test_use_mends_a_choice_that_cannot_be_read(world: World, line: str) -> None:
    world.yours(f"LOG_LEVEL=INFO\n{line}\nDB_NAME=x\n")
    configuration.use("staging", world.sources, yes=False)
    assert (world.root / ".env").read_text() == "LOG_LEVEL=INFO\nENVIRONMENT=staging\nDB_NAME=x\n"


def test_use_writes_through_a_link(world: World) -> None:
    target = world.root / "elsewhere" / "mine"
    target.parent.mkdir()
    target.write_text("LOG_LEVEL=INFO\n")
    (world.root / ".env").symlink_to("elsewhere/mine")
    configuration.use("staging", world.sources, yes=False)
    assert (world.root / ".env").is_symlink()
    assert target.read_text() == "LOG_LEVEL=INFO\nENVIRONMENT=staging\n"


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("ENVIRONMENT=testing\n".encode("utf-16"), "UTF-8 text"),
        ("ENVIRONMENT=testing\n".encode("utf-16-le"), "text without NUL"),
        (b"# caf\xe9\nENVIRONMENT=testing\n", "UTF-8 text"),
        (b"ENVIRONMENT='a\nDB_NAME=b'\n", "entangled"),
    ],
)
def test_use_refuses_a_file_that_it_cannot_change_for_sure(world: World, content: bytes, rule: str) -> None:
    path = world.root / ".env"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"cannot be written: .*{rule}"):
        configuration.use("staging", world.sources, yes=False)
    assert path.read_bytes() == content
    assert [each.name for each in world.root.iterdir()] == [".env"]


LINES = [
    "A=1",
    "A='x",
    "B='y'",
    "ENVIRONMENT=a",
    "ENVIRONMENT='a",
    "ENVIRONMENT=",
    " export ENVIRONMENT = a # b",
    "'",
]


@given(
    st.lists(st.sampled_from([*LINES, "# c", "", "nonsense", 'C="', '"', "ENVIRONMENT"]), max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
def test_use_says_done_only_when_it_is(lines: list[str], ending: str, ended: bool) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / ".env"
        before = (ending.join(lines) + ending * ended).encode()
        path.write_bytes(before)
        others = configuration.meaning(before.decode())[0]
        try:
            configuration.write_choice(path, "staging")
        except ValueError:
            assert path.read_bytes() == before
        else:
            assert configuration.meaning(path.read_bytes().decode()) == (others, ["staging"])
            assert World(Path(folder)).check(None).environment == "staging"


def test_use_of_the_same_shows_no_difference(world: World) -> None:
    assert configuration.use("development", world.sources, yes=False).text == ".env: ENVIRONMENT=development"


def test_use_clears_away_what_a_killed_one_left(world: World) -> None:
    (world.root / ".env.new").write_text("half")
    configuration.use("testing", world.sources, yes=False)
    assert not (world.root / ".env.new").exists()


def test_two_that_choose_at_once_leave_one_choice_and_every_other_line(world: World) -> None:
    names = ["development", "testing", "staging"] * 8
    world.yours("LOG_LEVEL=INFO\nENVIRONMENT=testing\nDB_NAME=ledger\n")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: configuration.write_choice(world.root / ".env", name), names))
    first, choice, last = (world.root / ".env").read_text().splitlines()
    assert (first, last) == ("LOG_LEVEL=INFO", "DB_NAME=ledger")
    assert choice.removeprefix("ENVIRONMENT=") in names
    assert [each.name for each in world.root.iterdir()] == [".env"]


def test_a_choice_that_is_broken_off_leaves_the_file_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C arrives at the worst moment: everything is written beside the file, nothing in it."""
    world.yours("ENVIRONMENT=testing\n")

    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        configuration.use("staging", world.sources, yes=False)
    assert (world.root / ".env").read_text() == "ENVIRONMENT=testing\n"
    assert [each.name for each in world.root.iterdir()] == [".env"]


def test_a_choice_that_cannot_be_written_says_why(world: World) -> None:
    (world.root / ".env").mkdir()
    with pytest.raises(UsageError, match="cannot be written: an env file is a regular file") as caught:
        configuration.use("staging", world.sources, yes=False)
    assert caught.value.where == ".env"


def test_use_wants_a_yes_for_production(world: World) -> None:
    with pytest.raises(UsageError, match="act on production") as caught:
        configuration.use("production", world.sources, yes=False)
    assert "config.use production --yes" in caught.value.next_step
    assert not (world.root / ".env").exists()
    assert configuration.use("production", world.sources, yes=True).exit_code == 0
    assert (world.root / ".env").read_text() == "ENVIRONMENT=production\n"


def test_use_says_when_the_process_environment_wins(world: World) -> None:
    world.environ["ENVIRONMENT"] = "staging"
    assert "wins: unset it" in configuration.use("testing", world.sources, yes=False).text
    world.environ["ENVIRONMENT"] = "testing"
    assert "wins" not in configuration.use("testing", world.sources, yes=False).text


@pytest.mark.parametrize(
    ("name", "meant"), [("prod", "production"), ("stagin", "staging"), ("live", "development")]
)
def test_use_refuses_what_does_not_exist(world: World, name: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        configuration.use(name, world.sources, yes=True)
    assert caught.value.next_step == f"invoke config.use {meant}"
    assert not (world.root / ".env").exists()


def test_use_mends_a_choice_that_does_not_exist(world: World) -> None:
    world.yours("ENVIRONMENT=nowhere\n")
    assert configuration.use("testing", world.sources, yes=False).text == ".env: ENVIRONMENT=testing"
    assert world.check(None).environment == "testing"


def test_a_new_secret_is_strong_and_private_and_not_shown(world: World) -> None:
    answer = configuration.secret("new", "SECRET_KEY", "staging", world.sources)
    path = world.root / ".slipway/secrets/staging/SECRET_KEY"
    value = path.read_text()
    assert len(value) == 64
    assert value not in answer.text
    assert answer.text == ".slipway/secrets/staging/SECRET_KEY: a new value, readable by you only"
    assert S_IMODE(path.stat().st_mode) == 0o600
    assert S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not [each for each in world.problems() if each.variable == "SECRET_KEY"]


def test_a_new_secret_never_replaces_one(world: World) -> None:
    world.secret("SECRET_KEY", "keep me", "development")
    with pytest.raises(UsageError, match="has a value already"):
        configuration.secret("new", "SECRET_KEY", None, world.sources)
    assert (world.root / ".slipway/secrets/development/SECRET_KEY").read_text() == "keep me"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff"])
def test_a_file_without_a_value_is_kept_and_not_called_one(world: World, content: bytes) -> None:
    path = world.root / ".slipway/secrets/development/SECRET_KEY"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(UsageError, match="has a file without a usable value in it; it was kept") as caught:
        configuration.secret("new", "SECRET_KEY", None, world.sources)
    assert caught.value.next_step == "Delete the file first when the value is to be replaced."
    assert path.read_bytes() == content


def test_a_new_secret_that_another_source_overrules_says_so(world: World) -> None:
    world.environ["SECRET_KEY"] = "q7Gk2Zr9vT4xLw8Yb3Nc6Md1Ph5Sj0KfUe"
    text = configuration.secret("new", "SECRET_KEY", "testing", world.sources).text
    assert text == (
        ".slipway/secrets/testing/SECRET_KEY: a new value, readable by you only\n"
        "It is not used: process environment sets SECRET_KEY too and wins; "
        "see `invoke config.check --env=testing`."
    )
    del world.environ["SECRET_KEY"]
    world.environ["LEDGER_TOKEN_FILE"] = "nowhere"
    text = configuration.secret("new", "LEDGER_TOKEN", "testing", world.sources).text
    assert text.splitlines()[1:] == [
        "It is not used: LEDGER_TOKEN is broken; see `invoke config.check --env=testing`."
    ]


def test_of_two_that_make_a_secret_at_once_one_is_told_that_there_is_one(world: World) -> None:
    def make(_number: int) -> str:
        try:
            return configuration.secret("new", "SECRET_KEY", "testing", world.sources).text
        except UsageError as error:
            return error.what

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(make, range(8)))
    assert sum("a new value" in each for each in said) == 1
    assert sum("has a value already" in each for each in said) == 7
    assert [each.name for each in (world.root / ".slipway/secrets/testing").iterdir()] == ["SECRET_KEY"]


@pytest.mark.parametrize("place", [".slipway", ".slipway/secrets", ".slipway/secrets/testing"])
def test_a_secret_that_cannot_be_written_says_why(world: World, place: str) -> None:
    path = world.root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file where a folder should be")
    with pytest.raises(UsageError, match="cannot be written: ") as caught:
        configuration.secret("new", "SECRET_KEY", "testing", world.sources)
    assert caught.value.where == ".slipway/secrets/testing/SECRET_KEY"


def test_a_new_secret_needs_a_name_of_ours(world: World) -> None:
    with pytest.raises(UsageError, match="DB_PASSWORD, LEDGER_TOKEN, SECRET_KEY") as caught:
        configuration.secret("new", "SECRET_KYE", None, world.sources)
    assert caught.value.next_step == "invoke config.secret new SECRET_KEY"
    with pytest.raises(UsageError) as caught:
        configuration.secret("new", "DB_HOST", None, world.sources)
    assert caught.value.next_step.startswith("invoke config.secret new ")
    with pytest.raises(UsageError, match="can be made new"):
        configuration.secret("show", "SECRET_KEY", None, world.sources)
    with pytest.raises(ConfigurationError):
        configuration.secret("new", "SECRET_KEY", "nowhere", world.sources)
    assert not (world.root / ".slipway").exists()


def invoke(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `invoke` in the project of the tests."""
    command = [str(Path(sys.executable).parent / "invoke"), *words]
    inherited = {name: value for name, value in os.environ.items() if name != "ENVIRONMENT"}
    return subprocess.run(
        command,
        cwd=Sources().root,
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_commands_as_a_user_types_them() -> None:
    shown = invoke("config.show", ENVIRONMENT="testing", DB_NAME="typed")
    assert shown.returncode == 0
    assert shown.stdout.startswith("environment: testing\n")
    assert "typed" in shown.stdout
    checked = invoke("config.check", "--env=staging", "--json", DB_PORT="x")
    assert checked.returncode == 2
    assert json.loads(checked.stdout)["errors"] >= 1
    refused = invoke("config.use", "prod")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("There is no environment of that name")
    assert "Traceback" not in refused.stderr
    differing = invoke("config.diff", "staging", "production")
    assert "slipway-production" in differing.stdout
    assert invoke("config.secret", "new", "NAME").returncode == 2
