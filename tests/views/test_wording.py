"""Durations, sizes and figures, spelled for people."""

import pytest

from scripts.views.wording import count, duration, figures, short_digest, size


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3_599.6, "1 h 00 min"),
        (7_384, "2 h 03 min"),
    ],
)
def test_a_duration_has_the_digits_that_tell(seconds: float, told: str) -> None:
    assert duration(seconds) == told


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_500, "1.5 kB"),
        (24_810_233, "24.8 MB"),
        (250e6, "250 MB"),
        (5e12, "5000 GB"),
    ],
)
def test_a_size_is_in_decimal_units(number: float, told: str) -> None:
    assert size(number) == told


def test_figures_say_what_they_count() -> None:
    values = {
        "tests": 1412,
        "warnings": 1,
        "losses": 2,
        "coverage": 96.13,
        "bytes": 78_412_345,
        "bytes_compressed": 24_810_233,
        "uploaded_bytes": 61_432,
        "start_seconds": 0.42,
        "seconds": 12.0,
        "ratio": 1.25,
    }
    assert figures(values) == [
        "1,412 tests",
        "1 warning",
        "2 losses",
        "96.1 % coverage",
        "78.4 MB",
        "24.8 MB compressed",
        "61.4 kB uploaded",
        "0.4 s start",
        "1.2 ratio",
    ]


def test_one_and_many() -> None:
    assert [count(1, "run"), count(2, "run"), count(0, "entry", "entries")] == [
        "1 run",
        "2 runs",
        "0 entries",
    ]


def test_a_digest_is_cut_to_what_a_person_compares() -> None:
    assert short_digest("sha256:" + "ab" * 32) == "sha256:abababababab"
    assert short_digest("the release") == "the release"
