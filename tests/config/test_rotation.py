"""Secrets that were replaced are taken over while the service runs; nothing else is."""

from secrets import token_urlsafe

import pytest

from config.errors import ConfigurationError
from config.rotation import reread
from config.settings import load
from tests.config.world import World


def test_new_secrets_are_taken_over_and_nothing_else(staging: World) -> None:
    before = load("staging", staging.sources, part="app")
    password, token = token_urlsafe(32), token_urlsafe(32)
    staging.secret("DB_PASSWORD", password).secret("LEDGER_TOKEN", token).secret("SECRET_KEY")
    staging.environ["WEB_PORT"] = "9999"
    after = reread(before, staging.sources)
    assert after.database.password is not None
    assert after.ledger.token is not None
    assert after.database.password.reveal() == password
    assert after.ledger.token.reveal() == token
    assert after.security == before.security
    assert after.web == before.web
    assert after.delivery is None
    assert before.database.password != after.database.password


def test_what_did_not_change_stays_equal(staging: World) -> None:
    before = load("staging", staging.sources)
    assert reread(before, staging.sources) == before


def test_only_what_was_loaded_is_checked_again(staging: World) -> None:
    """A container is not stopped from rotating by a setting of the pipeline, and the pipeline is."""
    app, everything = load("staging", staging.sources, part="app"), load("staging", staging.sources)
    staging.environ["LIMIT_PIDS"] = "none"
    assert reread(app, staging.sources) == app
    with pytest.raises(ConfigurationError, match="LIMIT_PIDS"):
        reread(everything, staging.sources)


def test_a_bad_replacement_is_refused_and_the_settings_stay(staging: World) -> None:
    before = load("staging", staging.sources, part="app")
    staging.secret("LEDGER_TOKEN", "changeme")
    with pytest.raises(ConfigurationError, match="LEDGER_TOKEN"):
        reread(before, staging.sources)
    assert before.ledger.token is not None
    assert before.ledger.token.reveal() != "changeme"
