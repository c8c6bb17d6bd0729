"""A secret's value comes out nowhere: not in messages, not in tables, not in a traceback with its variables.

One sentinel is put wherever a secret, or what was meant to be one, can stand; everything that the layer can
say is then searched for it.
"""

import contextlib
import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.errors import ConfigurationError
from config.report import as_json, as_text
from config.rotation import reread
from config.settings import load
from config.sources import collect
from scripts import configuration
from scripts.pipeline.errors import SlipwayError
from tests.config.world import World

SENTINEL = "q7Gk2Zr9vT4xLw8Yb3Nc6Md1Ph5Sj0KfUe"
SECRETS = ("SECRET_KEY", "LEDGER_TOKEN", "DB_PASSWORD", "REGISTRY_PASSWORD")
ENVIRONMENTS = ("staging", "production", None, "staging")
LINES = f"{SENTINEL}==\nx{SENTINEL}=\n{SENTINEL}\n"
PIECE = 12
"""Characters of a secret that come out together: fewer say next to nothing, and may be there by chance."""
LETTERS = 6
"""Different ones that a piece has to have: dashes and blanks are in every table."""


@contextlib.contextmanager
def everything_logged() -> Iterator[StringIO]:
    """Collect what any logger says at any level."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.NOTSET)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def everything_said(world: World, environment: str | None) -> str:
    """Return all that the layer says about a configuration, by every way there is."""
    said = []

    def tell(way: Callable[[], object]) -> None:
        try:
            said.append(str(way()))
        except (ConfigurationError, SlipwayError) as error:
            said.extend([str(error), repr(error), repr(error.args)])
            said.extend(traceback.TracebackException.from_exception(error, capture_locals=True).format())
            said.append(repr(error.__cause__))

    sources = world.sources
    with everything_logged() as log:
        report = world.check(environment)
        said += [repr(report), as_text(report), as_text(report, 72), as_json(report)]
        said += [repr(report.readings), repr(report.settings), repr(sources), f"{report.settings}"]
        for part in ("all", "app"):
            tell(lambda part=part: load(environment, sources, part=part))
        if report.settings is not None:
            settings = report.settings
            said += [
                repr(asdict(settings.security)),
                repr(settings.secrets()),
                repr(settings.public_values()),
            ]
            said += [repr(settings.secret_values()), repr(replace(settings, environment="x"))]
            tell(lambda: reread(settings, sources))
        tell(lambda: configuration.check_command(environment, sources, as_json_=False, fail_level="error"))
        tell(lambda: configuration.check_command(environment, sources, as_json_=True, fail_level="warning"))
        tell(lambda: configuration.show(environment, sources, as_json_=False))
        tell(lambda: configuration.show(environment, sources, as_json_=True))
        tell(lambda: configuration.diff("staging", "production", sources))
        tell(lambda: configuration.diff(environment or "development", "testing", sources))
        tell(lambda: configuration.secret("new", "SECRET_KEY", environment, sources))
        tell(lambda: configuration.use("staging", sources, yes=False))
    return "\n".join([*said, log.getvalue()])


def given_away(secret: str, said: str) -> list[str]:
    """Return the pieces of `secret` that stand in `said`, as they are or as JSON and Python write them."""
    forms = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
    }
    pieces = {form[at : at + PIECE] for form in forms for at in range(max(1, len(form) - PIECE + 1))}
    said = said.casefold()
    return [each for each in pieces if len(set(each.strip())) >= LETTERS and each.casefold() in said]


def process(world: World, **environ: str) -> None:
    """Set variables of the process environment."""
    world.environ |= environ


PLACES: dict[str, Callable[[World, str], object]] = {
    "secret file": lambda w, name: w.secret(name, SENTINEL),
    "secret file, broken": lambda w, name: w.secret(name, f"{SENTINEL}\0"),
    "secret file, blank": lambda w, name: w.secret(name, f" {SENTINEL}\n\n"),
    "process": lambda w, name: process(w, **{name: SENTINEL}),
    "process, in a url": lambda w, name: process(w, LEDGER_URL=f"https://u:{SENTINEL}@host"),
    "process, in an endpoint": lambda w, name: process(w, TARGET_DOCKER_HOST=f"ssh://u:{SENTINEL}@h"),
    "process, misspelt": lambda w, name: process(w, **{f"{name}S": SENTINEL, "DB_PASS": SENTINEL}),
    "process, in a number": lambda w, name: process(w, DB_PORT=SENTINEL, DEBUG=SENTINEL),
    "process, in a choice": lambda w, name: process(w, DB_SSLMODE=SENTINEL, LOG_LEVEL=SENTINEL),
    "process, in a host": lambda w, name: process(w, DB_HOST=f"user:{SENTINEL}@host"),
    "process, as the environment": lambda w, name: process(w, ENVIRONMENT=SENTINEL),
    ".env": lambda w, name: w.yours(f"{name}={SENTINEL}\n"),
    ".env, twice": lambda w, name: w.yours(f"{name}={SENTINEL}\n{name}='{SENTINEL}'\n"),
    ".env, without =": lambda w, name: w.yours(f"{name} {SENTINEL}\nexport {name}:{SENTINEL}\n"),
    ".env, open quote": lambda w, name: w.yours(f"{name}='{SENTINEL}\n"),
    ".env, behind a quote": lambda w, name: w.yours(f"{name}='a'{SENTINEL}\n"),
    ".env, of several lines": lambda w, name: w.yours(f"{name}='{SENTINEL}\n{SENTINEL}'\n"),
    ".env, not text": lambda w, name: w.undecodable(f"{name}={SENTINEL}\n\xff"),
    "shared": lambda w, name: w.shared("staging", f"{name}={SENTINEL}\nX_{name}={SENTINEL}\n"),
    "another environment": lambda w, name: w.secret(name, SENTINEL).secret(name, SENTINEL, "testing"),
    "two places": lambda w, name: [w.secret(each, SENTINEL) for each in SECRETS],
    "name of a file": lambda w, name: process(w, **{f"{name}_FILE": SENTINEL}),
    "name of a file, absolute": lambda w, name: process(w, **{f"{name}_FILE": f"/{SENTINEL}/x"}),
    "name of a file, in .env": lambda w, name: w.yours(f"{name}_FILE={SENTINEL}\n"),
    "name of a file, shared": lambda w, name: w.shared("staging", f"{name}_FILE={SENTINEL * 9}\n"),
    "name of a file, misspelt": lambda w, name: process(w, **{f"{name}S_FILE": SENTINEL}),
    "name of a file, NUL": lambda w, name: process(w, **{f"{name}_FILE": f"{SENTINEL}\0"}),
    ".env, lines without quotes": lambda w, name: w.yours(f"{name}=abc\n{LINES}"),
    "shared, lines without quotes": lambda w, name: w.shared("staging", f"{name}=abc\n{LINES}"),
    ".env, the name runs into it": lambda w, name: w.yours(f"{name}{SENTINEL}=\nDB_HOST{SENTINEL}=\n"),
    ".env, twice behind a quote": lambda w, name: w.yours(f"{name}='abc\n{SENTINEL}=\n{SENTINEL}=\n"),
    ".env, in the choice": lambda w, name: w.yours(f"ENVIRONMENT='{SENTINEL}\nENVIRONMENT {SENTINEL}\n"),
    "both": lambda w, name: process(w, **{name: SENTINEL, f"{name}_FILE": "x"}),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("name", "environment"),
    list(zip(SECRETS, ENVIRONMENTS, strict=True)),
)
def test_the_sentinel_comes_out_nowhere(world: World, name: str, place: str, environment: str | None) -> None:
    world.with_secrets("production").shared("production", "DB_HOST=db.internal\n")
    PLACES[place](world, name)
    said = everything_said(world, environment)
    assert given_away(SENTINEL, said) == []


def test_the_search_would_find_it(world: World) -> None:
    """The test above can fail: what is no secret is shown, and a piece of it is enough."""
    world.environ["DB_NAME"] = SENTINEL[5:20].lower()
    assert len(given_away(SENTINEL, everything_said(world, "development"))) == 4


TEXT = st.text(
    st.one_of(
        st.characters(codec="utf-8", categories=("L", "N", "P", "S")),
        st.sampled_from("\n\r\t\x00\x1b\x7f\x85\u2028 =#'\"\\"),
    ),
    min_size=12,
    max_size=60,
)
WAYS: dict[str, Callable[[World, str, str], object]] = {
    "file": lambda w, name, value: w.secret(name, value),
    "yours": lambda w, name, value: w.yours(f"{name}={value}\n"),
    "quoted": lambda w, name, value: w.yours(f"{name}='{value}'\n"),
    "shared": lambda w, name, value: w.shared("staging", f"{name}={value}\n"),
    "process": lambda w, name, value: process(w, **{name: value}),
    "name of a file": lambda w, name, value: process(w, **{f"{name}_FILE": value}),
}


@settings(deadline=None, max_examples=100)
@given(value=TEXT, name=st.sampled_from(SECRETS), way=st.sampled_from(sorted(WAYS)))
def test_no_value_comes_out(value: str, name: str, way: str) -> None:
    """A mark in each piece of it keeps out the words that every message has, and that Hypothesis tries."""
    value = "Zq7".join(value[at : at + 5] for at in range(0, len(value), 5))
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        WAYS[way](world, name, value)
        said = everything_said(world, "staging")
    assert given_away(value, said) == []


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_holds_secrets_in_plain_text_is_not_pickled(world: World, protocol: int) -> None:
    world.yours(f"DB_PASSWORD={SENTINEL}\n").environ["SECRET_KEY"] = SENTINEL
    collected = collect("staging", world.sources, ["DB_PASSWORD"], ["DB_PASSWORD"])
    entry = collected.layers.entry("DB_PASSWORD")
    for each in (world.sources, collected, collected.layers, entry):
        with pytest.raises(TypeError, match="holds secrets and cannot be pickled"):
            pickle.dumps(each, protocol)
