"""A secret shows itself only to who asks by name."""

import copy
import json
import os
import pickle
from dataclasses import asdict

import pytest

from config.secret import MASK, Secret
from config.service import Security

SENTINEL = "s3ntinel-value-that-nobody-may-see"


@pytest.mark.parametrize(
    "show",
    [str, repr, "{}".format, "{:>20}".format, "%s".__mod__, "%r".__mod__, lambda s: repr([s, {"a": s}])],
)
def test_no_way_of_printing_shows_it(show) -> None:  # type: ignore[no-untyped-def]
    shown = show(Secret(SENTINEL))
    assert SENTINEL not in shown
    assert MASK in shown


def test_a_width_counts_for_what_is_shown() -> None:
    assert f"{Secret(SENTINEL):>12}" == f"{MASK:>12}"


def test_reveal_shows_it() -> None:
    assert Secret(SENTINEL).reveal() == SENTINEL


def test_it_cannot_be_pickled_and_the_refusal_does_not_show_it() -> None:
    with pytest.raises(TypeError, match="cannot be pickled") as caught:
        pickle.dumps(Secret(SENTINEL))
    assert SENTINEL not in str(caught.value)


def test_json_refuses_it_without_showing_it() -> None:
    with pytest.raises(TypeError) as caught:
        json.dumps({"key": Secret(SENTINEL)})
    assert SENTINEL not in str(caught.value)


def test_copies_are_the_secret_itself() -> None:
    secret = Secret(SENTINEL)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret
    assert asdict(Security(secret_key=secret))["secret_key"] is secret


def test_it_has_no_dictionary_to_look_into() -> None:
    with pytest.raises(TypeError):
        vars(Secret(SENTINEL))


def test_secrets_of_bytes_that_are_no_text_are_compared() -> None:
    assert Secret(os.fsdecode(b"\xff")) == Secret(os.fsdecode(b"\xff")) != Secret(os.fsdecode(b"\xfe"))


def test_equal_secrets_are_equal_and_hash_alike() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_a_secret_is_not_equal_to_its_text() -> None:
    assert Secret("a") != "a"


def test_its_length_is_known_and_an_empty_one_is_false() -> None:
    assert len(Secret("four")) == 4
    assert not Secret("")
    assert Secret("x")


def test_secrets_beyond_ascii_compare() -> None:
    assert Secret("schlüssel") == Secret("schlüssel")
