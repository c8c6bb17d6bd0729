"""Secrets that were replaced are taken over while the service runs; nothing else is."""

from secrets import token_urlsafe

import pytest

from config.errors import ConfigurationError
from config.rotation import replaced, reread
from config.settings import Part, load
from tests.config.world import World


def test_new_secrets_are_taken_over_and_nothing_else(staging: World) -> None:
    before = load("staging", staging.sources, part="app")
    password, token = token_urlsafe(32), token_urlsafe(32)
    staging.secret("DB_PASSWORD", password).secret("LEDGER_TOKEN", token).secret("SECRET_KEY")
    staging.environ["WEB_PORT"] = "9999"
    found = reread(before, staging.sources)
    assert (found.taken, found.waiting) == (("DB_PASSWORD", "LEDGER_TOKEN"), ("WEB_PORT", "SECRET_KEY"))
    after = found.settings
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
    found = reread(before, staging.sources)
    assert found.settings is before
    assert (found.taken, found.waiting) == ((), ())


def test_a_secret_that_is_made_up_at_each_start_did_not_change(world: World) -> None:
    before = load("development", world.sources)
    assert reread(before, world.sources).waiting == ()
    world.secret("SECRET_KEY", environment="development")
    given = reread(before, world.sources)
    assert given.waiting == ("SECRET_KEY",)


@pytest.mark.parametrize("part", ["app", "all"])
def test_whether_a_secret_was_replaced_is_known_without_judging_it(staging: World, part: Part) -> None:
    before = load("staging", staging.sources, part=part)
    assert not replaced(before, staging.sources)
    staging.secret("SECRET_KEY").environ["WEB_PORT"] = "none"
    assert not replaced(before, staging.sources), "these do not rotate"
    staging.secret("LEDGER_TOKEN", "x")
    assert replaced(before, staging.sources)


def test_a_secret_that_is_gone_was_replaced_and_one_that_never_was_is_not(world: World) -> None:
    world.secret("LEDGER_TOKEN", environment="development")
    before = load("development", world.sources)
    assert not replaced(before, world.sources)
    (world.root / ".slipway/secrets/development/LEDGER_TOKEN").unlink()
    assert replaced(before, world.sources)


def test_only_what_was_loaded_is_checked_again(staging: World) -> None:
    """A container is not stopped from rotating by a setting of the pipeline, and the pipeline is."""
    app, everything = load("staging", staging.sources, part="app"), load("staging", staging.sources)
    staging.environ["LIMIT_PIDS"] = "none"
    assert reread(app, staging.sources).settings == app
    with pytest.raises(ConfigurationError, match="LIMIT_PIDS"):
        reread(everything, staging.sources)


def test_a_bad_replacement_is_refused_and_the_settings_stay(staging: World) -> None:
    before = load("staging", staging.sources, part="app")
    staging.secret("LEDGER_TOKEN", "changeme")
    with pytest.raises(ConfigurationError, match="LEDGER_TOKEN"):
        reread(before, staging.sources)
    assert before.ledger.token is not None
    assert before.ledger.token.reveal() != "changeme"
