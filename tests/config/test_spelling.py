"""The name that somebody meant is found; another program's is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import GROUPS
from config.spelling import distance, nearest, slip
from config.variables import variables_of

OURS = ["ENVIRONMENT", *variables_of(GROUPS["all"])]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DB_HOTS", "DB_HOST"),
        ("DB_HSOT", "DB_HOST"),
        ("BD_HOST", "DB_HOST"),
        ("db_host", "DB_HOST"),
        ("DB-HOST", "DB_HOST"),
        ("DB_PASS", "DB_PASSWORD"),
        ("DB_PASSWORT", "DB_PASSWORD"),
        ("DB_USERNAME", "DB_USER"),
        ("DBHOST", "DB_HOST"),
        ("ENVIROMENT", "ENVIRONMENT"),
        ("ENVIORNMENT", "ENVIRONMENT"),
        ("DEBG", "DEBUG"),
        ("SECRETKEY", "SECRET_KEY"),
        ("SECRET_KYE", "SECRET_KEY"),
        ("LOG_LEVL", "LOG_LEVEL"),
        ("WEB_PROT", "WEB_PORT"),
        ("DB_POLER_HOTS", "DB_POOLER_HOST"),
    ],
)
def test_a_slip_is_understood(name: str, meant: str) -> None:
    assert nearest(name, OURS) == meant


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "HOME",
        "DATABASE_URL",
        "LOGNAME",
        "LOG_DIR",
        "DB_ENGINE",
        "DOCKER_HOST",
        "PGHOST",
        "PGPASSWORD",
        "WEB_CONCURRENCY",
        "WEBHOOK_URL",
        "SECRETS",
        "KUBERNETES_PORT",
        "LEDGER",
        "IMAGE",
        "PORT",
        "DB",
        "LIMITS",
        "ENV",
        "DB_",
        "WATCHMAN_SOCK",
        "SSL_CERT_FILE",
    ],
)
def test_another_programs_variable_is_left_alone(name: str) -> None:
    assert nearest(name, OURS) is None


@pytest.mark.parametrize(
    ("one", "other", "mistakes"),
    [
        ("", "", 0),
        ("a", "", 1),
        ("", "ab", 2),
        ("ab", "ba", 1),
        ("abc", "abc", 0),
        ("kitten", "sitting", 3),
        ("ca", "abc", 3),
    ],
)
def test_mistakes_are_counted(one: str, other: str, mistakes: int) -> None:
    assert distance(one, other) == mistakes


@given(st.text("ABC_", max_size=8), st.text("ABC_", max_size=8))
def test_counting_is_symmetric_and_zero_for_equals_only(one: str, other: str) -> None:
    assert distance(one, other) == distance(other, one)
    assert (distance(one, other) == 0) == (one == other)


def test_the_nearer_of_two_is_chosen() -> None:
    assert nearest("DB_HOSTADR", ["DB_HOST", "DB_HOSTADDR"]) == "DB_HOSTADDR"


def test_the_limits_of_a_slip() -> None:
    assert slip("DB_HXYT", "DB_HOST") == 2
    assert slip("DB_XYZT", "DB_HOST") is None
    assert slip("DEBUGXY", "DEBUG") is None
    assert slip("DB_HOSTNAMEOFSERVER", "DB_HOST") == 3
