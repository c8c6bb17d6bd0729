import stat
import threading
from pathlib import Path

import pytest

from config.secret import Secret
from config.settings import Sources
from scripts.deployment.secrets import generate, masker, names, prefix, prepare


def test_missing_secrets_are_made_up_strong_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert sorted(generate(folder)) == ["LEDGER_TOKEN", "SECRET_KEY"]
    values = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(values) == {"LEDGER_TOKEN", "SECRET_KEY"}
    assert all(len(value) >= 48 for value in values.values())
    assert values["LEDGER_TOKEN"] != values["SECRET_KEY"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_present_secrets_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "SECRET_KEY").write_text("mine")
    assert generate(tmp_path) == ["LEDGER_TOKEN"]
    assert (tmp_path / "SECRET_KEY").read_text() == "mine"


def test_two_runs_at_once_agree_on_one_value(tmp_path: Path) -> None:
    made: list[str] = []
    start = threading.Barrier(8)

    def run() -> None:
        start.wait()
        made.extend(generate(tmp_path, ["SECRET_KEY"]))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["SECRET_KEY"]
    assert [path.name for path in tmp_path.iterdir()] == ["SECRET_KEY"]


def test_only_development_gets_secrets_made_up(tmp_path: Path) -> None:
    sources = Sources(environ={}, root=tmp_path)
    for environment in ("testing", "staging", "production"):
        prepare(environment, sources)
    assert list(tmp_path.iterdir()) == []
    prepare("development", sources)
    assert (tmp_path / ".slipway/secrets/development/SECRET_KEY").exists()


@pytest.mark.parametrize(
    ("yours", "environ", "made"),
    [
        ("", {}, True),
        ("ENVIRONMENT=production\n", {}, False),
        ("ENVIRONMENT=production\n", {"ENVIRONMENT": "development"}, True),
        ("ENVIRONMENT=development\n", {"ENVIRONMENT": "staging"}, False),
        ("", {"ENVIRONMENT": "prodution"}, False),
    ],
)
def test_secrets_are_made_up_when_development_is_chosen(
    tmp_path: Path, yours: str, environ: dict[str, str], made: bool
) -> None:
    (tmp_path / ".env").write_text(yours)
    prepare(None, Sources(environ=environ, root=tmp_path))
    assert (tmp_path / ".slipway").exists() is made


def test_a_name_tells_versions_apart_and_not_the_value() -> None:
    first, second = Secret("x" * 40), Secret("y" * 40)
    assert names("s", {"A": first}) != names("s", {"A": second})
    assert prefix("s", "A", "v") != prefix("other", "A", "v") != prefix("s", "B", "v")
    assert names("s", {"A": first}) == {"A": f"s.A.{prefix('s', 'A', 'x' * 40)}"}
    assert len(prefix("s", "A", "v")) == 12


def test_masking_hides_a_secret_that_contains_another_and_a_line_of_one() -> None:
    mask = masker([Secret("abcd"), Secret("abcdef"), Secret("first-line/1\nsecond-line/2")])
    assert mask.text("key=abcdef, abcd, second-line/2, first-line%2F1") == "key=***, ***, ***, ***"
