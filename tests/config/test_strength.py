"""A secret is random and long; a placeholder, a word or a pattern is none."""

from secrets import token_hex, token_urlsafe

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.strength import entropy, is_placeholder, repeat_at, run_at, surprises, walk_at


@pytest.mark.parametrize(
    "text",
    [
        "changeme",
        "change-me",
        "CHANGE_THIS_NOW",
        "replace-me",
        "your-secret-key",
        "your_own_token",
        "placeholder",
        "example-key",
        "django-insecure-8ah2k3",
        "secret",
        "password",
        "x",
        "xxx",
        "xxxxxxxx",
        "TODO",
        "fix-todo-later",
        "dummy",
        "<secret>",
        "{{ lookup(\n'vault') }}",
        "${SECRET_KEY}",
        "$(pass)",
        "{{secret_key}}",
        "%SECRET%",
        "[fill]",
        "not-a-secret",
        "default-password",
        "to-be-set",
        "supersecret",
        "slipway",
        "SECRET_KEY",
        "secret-key",
        "secret123",
        "dev",
        "admin",
        "FILL_ME_IN",
        "fill-in-the-key",
        "REPLACE-WITH-REAL-ONE",
        "insert this",
        "tbd",
        "-TBD-1",
    ],
)
def test_a_placeholder_is_known(text: str) -> None:
    assert is_placeholder(text, "SECRET_KEY")


@pytest.mark.parametrize(
    "text", ["", "   ", "12345", "kV9-todoX", "Xpassword9", "<a><b>", "tests-are-fine-here"]
)
def test_what_is_no_placeholder(text: str) -> None:
    assert not is_placeholder(text, "SECRET_KEY")


def test_the_variables_own_name_is_a_placeholder() -> None:
    assert is_placeholder("ledger-token", "LEDGER_TOKEN")
    assert not is_placeholder("ledger-tokens", "LEDGER_TOKEN")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a" * 64,
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "9876543210987654321098765432109876543210",
        "abc" * 20,
        "hunter2hunter2hunter2hunter2hunter2",
        "passwordpasswordpasswordpassword12345",
        "qwertyuiopasdfghjklzxcvbnm1234567890",
        "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
        "POIUYTREWQlkjhgfdsamnbvcxz",
    ],
)
def test_a_pattern_is_easy_to_guess_however_long(text: str) -> None:
    assert entropy(text) < 70


@pytest.mark.parametrize("attempt", range(50))
def test_generated_values_are_strong(attempt: int) -> None:
    assert entropy(token_urlsafe(32)) > 150
    assert entropy(token_hex(16)) > 70
    assert not is_placeholder(token_urlsafe(32), "SECRET_KEY")


@pytest.mark.parametrize(
    "text",
    [
        "Summer2026!!",
        "letmein12345",
        "P@ssw0rd2024!",
        "Welcome-1999",
        "aaaaaaaa",
        "12345678",
        "dragonMaster1",
        "January01",
    ],
)
def test_a_word_that_everybody_tries_first_is_easy_to_guess(text: str) -> None:
    assert entropy(text) < 15


@pytest.mark.parametrize(
    "text", ["correct-horse-battery", "q7Gk2Zr9vT4x", "Kx9-Summer-2Zr9vT4", "hQ4-jump-Tz81"]
)
def test_a_word_does_not_spoil_what_is_hard_to_guess(text: str) -> None:
    assert entropy(text) > 25


@pytest.mark.parametrize(
    ("text", "length"),
    [("", 0), ("qwe", 0), ("qwer", 4), ("QWERT", 5), ("fdsa", 4), ("0987", 4), ("qwex", 0), ("1qaz2", 4)],
)
def test_the_length_of_a_walk_over_the_keyboard(text: str, length: int) -> None:
    assert walk_at(text, 0) == length


@given(st.text(max_size=80))
def test_the_estimate_is_never_negative_and_never_more_than_the_text_can_hold(text: str) -> None:
    assert 0 <= entropy(text) <= 8.01 * max(1, len(text))


@given(st.text(max_size=40), st.integers(2, 6))
def test_repeating_a_text_adds_next_to_nothing(text: str, times: int) -> None:
    assert surprises(text * times) <= surprises(text) + len(text) // 2 + times


def test_a_long_text_is_judged_by_its_beginning() -> None:
    assert entropy("x" * 256 + token_urlsafe(64)) == 0


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("", 0),
        ("a", 0),
        ("ab", 0),
        ("abc", 3),
        ("321", 3),
        ("aaaa", 4),
        ("abd", 0),
        ("abcx", 3),
        ("ace", 0),
        ("aab", 0),
    ],
)
def test_the_length_of_a_run(text: str, length: int) -> None:
    assert run_at(text, 0) == length


@pytest.mark.parametrize(
    ("text", "start", "length"),
    [("abcabc", 3, 3), ("abxab", 3, 0), ("aaaa", 1, 3), ("abcdeabcdx", 5, 4), ("abc", 3, 0)],
)
def test_the_length_of_a_repeat(text: str, start: int, length: int) -> None:
    assert repeat_at(text, start) == length


@pytest.mark.parametrize(
    ("text", "count"), [("", 0), ("k", 1), ("kx", 2), ("abcabc", 2), ("qwxqwx", 4), ("kmonkey1999x", 3)]
)
def test_surprises_are_counted(text: str, count: int) -> None:
    assert surprises(text) == count
