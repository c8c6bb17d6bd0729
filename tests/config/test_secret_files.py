"""Secrets come as files, laid out as Docker, Kubernetes and people do."""

import os
from pathlib import Path

import pytest

from config.origin import Place
from config.secret_files import LARGEST, names_in, read_secret
from tests.config.world import World


def write(tmp_path: Path, content: bytes, mode: int = 0o600) -> Path:
    """Write a secret file."""
    path = tmp_path / "SECRET"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"value", "value"),
        (b"value\n", "value"),
        (b"value\r\n", "value"),
        (b"value\n\n", "value\n"),
        (b"one\ntwo\n", "one\ntwo"),
        (b"\xef\xbb\xbfvalue\n", "value"),
        (b" value ", " value "),
        (b"", ""),
    ],
)
def test_one_line_break_at_the_end_is_not_part_of_the_secret(
    tmp_path: Path, content: bytes, text: str
) -> None:
    assert read_secret(write(tmp_path, content)).text == text


@pytest.mark.parametrize(
    ("content", "rule"),
    [(b"\xff\xfe", "UTF-8"), (b"a\0b", "NUL"), (b"x" * (LARGEST + 1), "at most 65536 bytes")],
)
def test_what_is_no_secret_is_refused(tmp_path: Path, content: bytes, rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as caught:
        read_secret(write(tmp_path, content))
    assert caught.value.__cause__ is None


def test_the_largest_secret_is_read(tmp_path: Path) -> None:
    assert len(read_secret(write(tmp_path, b"x" * LARGEST)).text) == LARGEST


def test_a_folder_is_no_secret(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="regular file"):
        read_secret(tmp_path)


@pytest.mark.parametrize(
    ("mode", "exposed"),
    [(0o400, False), (0o600, False), (0o640, True), (0o604, True), (0o601, True), (0o610, True)],
)
def test_a_file_that_others_may_use_is_exposed(tmp_path: Path, mode: int, exposed: bool) -> None:
    assert read_secret(write(tmp_path, b"x", mode)).exposed is exposed


def test_a_secret_file_does_not_show_its_text(tmp_path: Path) -> None:
    assert "s3ntinel" not in repr(read_secret(write(tmp_path, b"s3ntinel")))


def test_a_missing_folder_has_no_names(tmp_path: Path) -> None:
    assert names_in(tmp_path / "nowhere") == frozenset()


def test_hidden_files_and_folders_are_no_secrets(tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "SECRET_KEY").touch()
    assert names_in(tmp_path) == {"SECRET_KEY"}


def test_kubernetes_layout_is_read_through_its_links(staging: World) -> None:
    folder = staging.root / "run" / "secrets"
    data = folder / "..2026_11_23"
    data.mkdir(parents=True)
    (data / "SECRET_KEY").write_text("kubernetes-has-put-this-value-here-42\n")
    (data / "SECRET_KEY").chmod(0o400)
    (folder / "..data").symlink_to(data.name)
    (folder / "SECRET_KEY").symlink_to("..data/SECRET_KEY")
    assert names_in(folder) == {"SECRET_KEY"}
    settings = staging.check().settings
    assert settings is not None
    assert settings.security.secret_key.reveal() == "kubernetes-has-put-this-value-here-42"
    assert str(settings.origins["SECRET_KEY"]) == "run/secrets/SECRET_KEY"


def test_the_first_folder_with_the_file_wins(staging: World) -> None:
    (staging.root / "run" / "secrets").mkdir(parents=True)
    first = staging.root / "run" / "secrets" / "DB_PASSWORD"
    first.write_text("first-folder-wins-8d1f")
    first.chmod(0o600)
    assert staging.check().readings["DB_PASSWORD"].value.reveal() == "first-folder-wins-8d1f"


def test_name_file_points_to_a_secret_and_wins_over_the_folder(staging: World) -> None:
    (staging.root / "elsewhere").write_text("named-by-a-variable-77aa\n")
    (staging.root / "elsewhere").chmod(0o600)
    staging.environ["DB_PASSWORD_FILE"] = "elsewhere"
    reading = staging.check().readings["DB_PASSWORD"]
    assert reading.value.reveal() == "named-by-a-variable-77aa"
    assert str(reading.origin) == "elsewhere"
    assert staging.problems() == []


@pytest.mark.parametrize("place", ["process", "yours", "shared"])
def test_name_file_works_from_every_source(staging: World, place: str) -> None:
    (staging.root / "elsewhere").write_text("named-by-a-variable-77aa\n")
    (staging.root / "elsewhere").chmod(0o600)
    line = f"DB_PASSWORD_FILE={staging.root / 'elsewhere'}\n"
    if place == "process":
        staging.environ["DB_PASSWORD_FILE"] = str(staging.root / "elsewhere")
    elif place == "yours":
        staging.yours(line)
    else:
        staging.shared("staging", f"DB_HOST=db.internal\n{line}")
    assert staging.check().readings["DB_PASSWORD"].value.reveal() == "named-by-a-variable-77aa"


def test_an_empty_name_file_means_nothing(staging: World) -> None:
    staging.environ["DB_PASSWORD_FILE"] = ""
    assert staging.problems() == []


@pytest.mark.parametrize(
    "text", ["/nowhere/password", "q7Gk2Zr9vT4xLw8Yb3Nc6Md1", "/q7Gk/2Zr9vT", "x" * 300, "a\0b"]
)
def test_what_a_name_points_to_and_is_not_there_is_not_repeated(staging: World, text: str) -> None:
    """It may be the secret itself, pasted into the wrong variable."""
    staging.environ["DB_PASSWORD_FILE"] = text
    problem = next(each for each in staging.problems() if each.id == "secret-file")
    assert (problem.variable, problem.source) == ("DB_PASSWORD", "DB_PASSWORD_FILE in process environment")
    assert problem.rule == "the variable names a file that is there"
    assert problem.fix == "Write the path of the secret file"


def test_what_a_name_points_to_and_is_no_secret_file_is_named(staging: World) -> None:
    staging.environ["DB_PASSWORD_FILE"] = ".slipway/secrets"
    problem = next(each for each in staging.problems() if each.id == "secret-file")
    assert problem.source == ".slipway/secrets, DB_PASSWORD_FILE in process environment"
    assert problem.rule == "a secret file is a regular file"


def test_a_path_that_is_not_utf_8_can_be_printed(staging: World) -> None:
    name = os.fsdecode(b"caf\xe9")
    (staging.root / name).write_text("short")
    staging.environ["DB_PASSWORD_FILE"] = name
    for problem in staging.problems():
        assert str(problem).encode()


def test_a_broken_secret_file_in_the_folder_is_reported(staging: World) -> None:
    (staging.root / ".slipway/secrets/staging/SECRET_KEY").write_bytes(b"\xff\xff")
    problem = next(each for each in staging.problems() if each.id == "secret-file")
    assert (problem.variable, problem.source, problem.rule) == (
        "SECRET_KEY",
        ".slipway/secrets/staging/SECRET_KEY",
        "a secret file is UTF-8 text",
    )


def test_both_a_value_and_a_file_are_refused(staging: World) -> None:
    (staging.root / "elsewhere").write_text("named-by-a-variable-77aa\n")
    staging.environ |= {"DB_PASSWORD_FILE": "elsewhere", "DB_PASSWORD": "process-wins-but-refused-31"}
    problem = next(each for each in staging.problems() if each.id == "set-twice")
    assert (problem.level.value, problem.variable, problem.source, problem.rule) == (
        "error",
        "DB_PASSWORD",
        "process environment",
        "only one of DB_PASSWORD and DB_PASSWORD_FILE is set",
    )


def test_both_in_one_env_file_are_refused(staging: World) -> None:
    (staging.root / "elsewhere").write_text("named-by-a-variable-77aa\n")
    staging.yours("DB_PASSWORD=typed-in-here-993\nDB_PASSWORD_FILE=elsewhere\n")
    assert ("error", "set-twice", "DB_PASSWORD") in staging.found()


def test_both_in_one_file_of_the_environment_are_refused(staging: World) -> None:
    (staging.root / "elsewhere").write_text("named-by-a-variable-77aa\n")
    staging.shared("staging", "DB_HOST=db.internal\nDB_NAME=typed\nDB_NAME_FILE=elsewhere\n")
    problem = next(each for each in staging.problems() if each.id == "set-twice")
    assert (problem.variable, problem.source) == ("DB_NAME", "config/.env.staging:3")


def test_a_value_in_a_lower_source_is_no_second_setting(staging: World) -> None:
    """The process environment may override what `.env` says in another way."""
    (staging.root / "elsewhere").write_text("named-by-a-variable-77aa\n")
    (staging.root / "elsewhere").chmod(0o600)
    staging.yours("DB_PASSWORD=typed-in-here-993\n").environ["DB_PASSWORD_FILE"] = "elsewhere"
    assert staging.problems() == []


def test_an_exposed_secret_file_is_warned_of(staging: World) -> None:
    path = staging.root / ".slipway/secrets/staging/DB_PASSWORD"
    path.chmod(0o644)
    problem = staging.only()
    assert (problem.level, problem.id, problem.variable) == ("warning", "exposed-file", "DB_PASSWORD")
    assert problem.source == ".slipway/secrets/staging/DB_PASSWORD"
    assert problem.fix == "Run `chmod 600 .slipway/secrets/staging/DB_PASSWORD`"
    assert staging.check().readings["DB_PASSWORD"].origin.place is Place.SECRET_FILE


def test_an_exposed_env_file_is_warned_of_when_a_secret_is_in_it(staging: World) -> None:
    staging.yours("DB_PASSWORD=typed-in-here-993\n")
    (staging.root / ".env").chmod(0o644)
    problem = next(each for each in staging.problems() if each.id == "exposed-file")
    assert (problem.level, problem.id, problem.variable) == ("warning", "exposed-file", "DB_PASSWORD")
    assert (problem.source, problem.fix) == (".env:1", "Run `chmod 600 .env`")
    staging.yours("LOG_LEVEL=WARNING\n")
    (staging.root / ".env").chmod(0o644)
    assert staging.problems() == []


def test_a_secret_file_behind_what_is_no_folder_is_reported(staging: World) -> None:
    staging.environ["DB_PASSWORD_FILE"] = ".slipway/secrets/staging/DB_PASSWORD/below"
    problem = next(each for each in staging.problems() if each.id == "secret-file")
    assert problem.rule == "the variable names a file that is there"


def test_a_folder_of_secrets_that_cannot_be_read_is_warned_of(staging: World) -> None:
    """It may be another program's `/run/secrets`; where it was ours, the missing secrets are errors."""
    (staging.root / "run").mkdir()
    (staging.root / "run/secrets").write_text("no folder")
    problem = staging.only()
    assert (problem.level, problem.id, problem.variable, problem.source, problem.rule) == (
        "warning",
        "unreadable",
        "",
        "run/secrets",
        "a folder of secret files can be read (Not a directory)",
    )
    assert staging.check().settings is not None


def test_a_folder_of_another_environment_that_cannot_be_read_is_its_own_problem(staging: World) -> None:
    (staging.root / ".slipway/secrets/production").write_text("no folder")
    assert staging.problems() == []
