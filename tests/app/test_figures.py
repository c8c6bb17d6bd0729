"""A stage's figures as the run's page spells them."""

import pytest

from app.web.pages import figure


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("bytes", 78_412_345, "78.4 MB"),
        ("bytes_compressed", 24_810_233, "24.8 MB compressed"),
        ("uploaded_bytes", 61_432, "61.4 kB uploaded"),
        ("coverage", 96.13, "96.1 % coverage"),
        ("start_seconds", 0.42, "0.4 s start"),
        ("tests", 1412, "1,412 tests"),
        ("ratio", 1.25, "1.2 ratio"),
    ],
)
def test_a_figure_is_spelled_as_its_name_asks(name: str, value: float, told: str) -> None:
    assert figure(value, name) == told
