"""Text becomes a value of its kind or is refused with the rule; the text itself is never repeated."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.kinds import (
    Address,
    Boolean,
    Choice,
    Endpoint,
    File,
    Hidden,
    Host,
    Identity,
    Integer,
    Memory,
    Name,
    Names,
    Number,
    Text,
    Url,
)
from config.secret import Secret
from config.settings import GROUPS
from config.variables import variable, variables_of

LEVEL = Choice(choices=("DEBUG", "INFO"), fold=True)
MODE = Choice(choices=("disable", "verify-full"))
ROUTES = Names(choices=("sqlite", "direct", "pooler"))
WEB = Url(schemes=("https", "http"))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Text(), "any thing", "any thing"),
        (Text(), "", ""),
        (Text(pattern="[a-z]+", rule="letters"), "", ""),
        (Name(), "slipway", "slipway"),
        (Integer(minimum=1, maximum=9), "1", 1),
        (Integer(minimum=1, maximum=9), "9", 9),
        (Integer(minimum=1, maximum=9), "+5", 5),
        (Integer(minimum=-3, maximum=9), "-3", -3),
        (Number(minimum=0.5, maximum=2), "0.5", 0.5),
        (Number(minimum=0.5, maximum=2), "2", 2.0),
        (Boolean(), "true", True),
        (Boolean(), "YES", True),
        (Boolean(), "1", True),
        (Boolean(), "off", False),
        (Boolean(), "No", False),
        (LEVEL, "debug", "DEBUG"),
        (MODE, "disable", "disable"),
        (ROUTES, "pooler,direct", ("pooler", "direct")),
        (ROUTES, " pooler , direct ", ("pooler", "direct")),
        (ROUTES, "pooler,direct,sqlite", ("pooler", "direct", "sqlite")),
        (File(), "/a/b", Path("/a/b")),
        (File(), "", None),
        (Host(), "db.internal", "db.internal"),
        (Host(), "db.internal.", "db.internal."),
        (Host(), "my_db-1", "my_db-1"),
        (Host(), "10.0.0.1", "10.0.0.1"),
        (Host(), "::1", "::1"),
        (Host(), "", ""),
        (Host(folder=True), "/var/run/postgresql", "/var/run/postgresql"),
        (Address(), "fe80::1", "fe80::1"),
        (Address(), "", ""),
        (WEB, "https://a.b:8443/c/", "https://a.b:8443/c"),
        (WEB, "http://[::1]:80", "http://[::1]:80"),
        (WEB, "", ""),
        (Endpoint(), "", ""),
        (Endpoint(), "unix:///run/docker.sock", "unix:///run/docker.sock"),
        (Endpoint(), "ssh://deploy@host", "ssh://deploy@host"),
        (Endpoint(), "tcp://10.0.0.1:2376", "tcp://10.0.0.1:2376"),
        (Memory(), "256m", "256M"),
        (Memory(), "1G", "1G"),
        (Hidden(), "text", Secret("text")),
        (Hidden(), "", None),
    ],
)
def test_what_is_read(kind: Text, text: str, value: Any) -> None:
    assert kind.read(text) == value


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (Text(pattern="[a-z]+", rule="letters"), ["A", "a1", "a\n"]),
        (Name(), ["two words", "tab\t"]),
        (
            Integer(minimum=1, maximum=9),
            ["0", "10", "", "1.0", "1e0", "٣", " 1", "1_0", "0x1", "9" * 40, "1\n"],
        ),
        (
            Number(minimum=0.5, maximum=2),
            ["0.49", "2.01", "nan", "inf", "1e0", ".5", "1.", "", "-1", "1,5", "1\n"],
        ),
        (Boolean(), ["ture", "2", "", "enabled", "10"]),
        (LEVEL, ["TRACE", "", "debu"]),
        (MODE, ["DISABLE", "verify_full"]),
        (ROUTES, ["direct,direct", "", ",", "direct,other", "'direct", "direct pooler"]),
        (File(), ["a\0b", "a\nb"]),
        (
            Host(),
            ["http://db", "db:5432", "user@db", "a b", "-db", "db-", "a..b", "/run", "x" * 64, "ä", "db\n"],
        ),
        (Address(), ["localhost", "1.2.3", "1.2.3.4/24", "fe80::1%eth0"]),
        (Host(), ["fe80::1%eth0", "::1%evil x"]),
        (
            WEB,
            [
                "ftp://a",
                "a.b",
                "https://",
                "https://u@a",
                "https://u:p@a",
                "https://:p@a",
                "http://a:x",
                "http://a:0",
                " http://a",
                "http://a\n",
                "http://a/\x1b[31m",
                "http://a/b c",
                "http://[fe80::1%25eth0]",
                "http://a/\udce9",
            ],
        ),
        (WEB, ["http://a:99999", "http://[::1", "http://a b", "https://-a"]),
        (
            Endpoint(),
            [
                "host",
                "unix://run/x",
                "ssh://",
                "tcp://host",
                "tcp://host:0",
                "ssh://host:0",
                "ssh://h\n",
                " ssh://h",
                "http://a:1",
                "ssh://u:p@host",
                "tcp://h:x",
            ],
        ),
        (Endpoint(), ["unix:", "tcp://:2376"]),
        (Memory(), ["256", "0M", "1.5G", "M", "", "-1G", "1T", "256MB", "63M", "1025G", "9" * 10]),
    ],
)
def test_what_is_refused_with_the_rule_and_nothing_else(kind: Text, texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(ValueError, match=f"^{re.escape(kind.rule)}$") as caught:
            kind.read(text)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("kind", "text", "advice"),
    [
        (Boolean(), "ture", "Did you mean true"),
        (Boolean(), "fasle", "Did you mean false"),
        (Boolean(), "maybe", "Write true or false (also yes, no, on, off, 1, 0)"),
        (LEVEL, "DEBGU", "Did you mean DEBUG"),
        (LEVEL, "loud", "Write one of DEBUG, INFO"),
        (MODE, "Disable", "Did you mean disable"),
        (Integer(minimum=1, maximum=9), "ten", "Write a whole number from 1 to 9"),
        (Number(maximum=9), "ten", "Write a number from 0 to 9, in seconds"),
        (Number(maximum=9, unit=""), "ten", "Write a number from 0 to 9"),
    ],
)
def test_the_advice_names_what_was_meant(kind: Text, text: str, advice: str) -> None:
    assert kind.advice(text) == advice


@pytest.mark.parametrize("variable", variables_of(GROUPS["all"]).values(), ids=lambda each: each.name)
def test_every_default_and_example_reads_back(variable: Any) -> None:
    if variable.name in ("STACK_NAME", "PUBLIC_URL"):
        assert "<" in variable.default
    elif not variable.required and variable.default is not None:
        assert variable.kind.read(variable.kind.write(variable.default)) == variable.default
    if variable.example:
        assert variable.kind.read(variable.example) is not None


@given(st.floats(min_value=0, max_value=86400))
def test_a_number_is_written_so_that_it_reads_back(value: float) -> None:
    kind = Number()
    assert kind.read(kind.write(value)) == pytest.approx(value, abs=1e-9)
    assert "e" not in kind.write(value)


SHAPES: dict[type[Text], str] = {
    Integer: r"[+-]?[0-9]+",
    Number: r"[+-]?[0-9]+(\.[0-9]+)?",
    Boolean: r"(?i)y|yes|t|true|on|1|n|no|f|false|off|0",
    Host: r"[A-Za-z0-9._:-]*",
    Address: r"[0-9A-Fa-f.:]*",
    Url: r"(https?://[!-~]+)?",
    Endpoint: r"((unix|ssh|tcp)://[!-~]+)?",
    Memory: r"[1-9][0-9]{0,8}[KMGkmg]",
    Identity: r"(postgresql:[0-9]+/[0-9]+/\S+)?",
    File: r"[^\0\n]*",
    Name: r"[ -~]+|\S+",
}
SCHEMES = ("https://", "http://", "unix://", "ssh://", "tcp://", "postgresql:")
HOSTS = ("a", "DB", "::1", "fe80::1%eth0", "1", "0", "443", "65536", "true", "K", "M", "G", "k")
MARKS = ("/", ":", "@", "%", ".", "-", "\u0663", "\n", " ", "\x1b", "\0")
PIECES = st.sampled_from([*SCHEMES, *HOSTS, *MARKS])
LIKELY = st.one_of(st.text(max_size=30), st.lists(PIECES, max_size=6).map("".join))


def read_or_rule(kind: Text, text: str) -> tuple[bool, Any]:
    """Return whether `text` is read, and the value or what is said instead."""
    try:
        return True, kind.read(text)
    except ValueError as error:
        return False, str(error)


@given(LIKELY)
def test_what_is_read_has_the_shape_of_its_kind_and_all_else_is_refused_with_the_rule(text: str) -> None:
    for each in variables_of(GROUPS["all"]).values():
        is_read, value = read_or_rule(each.kind, text)
        if not is_read:
            assert value == each.kind.rule
            continue
        assert each.kind.read(each.kind.write(value)) == value
        for kind, shape in SHAPES.items():
            if isinstance(each.kind, kind) and not getattr(each.kind, "folder", False) and text:
                assert re.fullmatch(shape, text), (each.name, text)
        if isinstance(each.kind, Integer | Number):
            assert each.kind.minimum <= value <= each.kind.maximum


CONTROLS = ("\n", "\r", "\t", " ", "\x1b[31m", "\x7f", "\u2028", "\udce9", "\0")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (WEB, "https://a.internal/b"),
        (Endpoint(), "ssh://deploy@host"),
        (Host(), "db.internal"),
        (Memory(), "256M"),
        (Integer(minimum=1, maximum=9), "5"),
        (Number(), "5.5"),
        (Address(), "fe80::1"),
    ],
)
@given(at=st.integers(0, 30), control=st.sampled_from(CONTROLS))
def test_no_blank_and_no_control_character_hides_in_a_value(
    kind: Text, text: str, at: int, control: str
) -> None:
    assert read_or_rule(kind, text[:at] + control + text[at:]) == (False, kind.rule)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Integer(minimum=1, maximum=9), "a whole number from 1 to 9"),
        (lambda: Number(minimum=0.5, maximum=9, unit="CPUs"), "a number from 0.5 to 9, in CPUs"),
        (lambda: Number(maximum=9, unit=""), "a number from 0 to 9"),
        (lambda: Choice(choices=("a", "b")), "one of a, b"),
        (lambda: Names(choices=("a", "b")), "a comma-separated list of a, b, each at most once"),
        (Host, "a host name or address without scheme, port or user"),
        (
            lambda: Host(folder=True),
            "a host name or address without scheme, port or user, or the absolute folder of a Unix socket",
        ),
        (
            lambda: Url(schemes=("https", "http")),
            "a URL that starts with https:// or http://, with a host and without a password",
        ),
        (lambda: Memory(minimum=1, maximum=2048), "a whole number with K, M or G behind it, from 1M to 2G"),
        (lambda: Hidden(characters=7), "a secret of 7 characters or more"),
    ],
)
def test_the_rule_of_a_kind_says_what_is_allowed(make: Callable[[], Text], rule: str) -> None:
    assert make().rule == rule


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (Number(), 10.0, "10"),
        (Number(), 0.5, "0.5"),
        (Number(), 100.25, "100.25"),
        (Number(), 0.0, "0"),
        (ROUTES, ("pooler", "direct"), "pooler,direct"),
        (Boolean(), True, "true"),
        (Integer(), 5, "5"),
        (File(), Path("/a"), "/a"),
    ],
)
def test_how_a_value_is_written(kind: Text, value: Any, text: str) -> None:
    assert kind.write(value) == text


def test_a_variable_is_declared_with_the_field_that_it_fills() -> None:
    made = dataclasses.make_dataclass(
        "Group",
        [
            ("one", int, variable("A_ONE", "First", Integer(), 1, example="7", rotates=True)),
            ("two", int, variable("A_TWO", "Second", Text())),
        ],
        kw_only=True,
    )
    one, two = variables_of({"group": made}).values()
    assert (one.name, one.attribute, one.group, one.meaning) == ("A_ONE", "one", "group", "First")
    assert (one.default, one.example, one.rotates, one.required, one.secret) == (1, "7", True, False, False)
    assert (two.name, two.example, two.rotates, two.required) == ("A_TWO", "", False, True)
    assert made(two=3).one == 1


def test_none_is_written_as_the_empty_text() -> None:
    assert File().write(None) == ""
    assert Hidden().write(None) == ""
    assert Hidden().write(Secret("x")) == "x"
    assert Boolean().write(False) == "false"
