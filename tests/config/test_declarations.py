"""What the declared variables take and refuse, where the kind alone does not say it."""

import re

import pytest

from config.kinds import Hidden
from config.settings import GROUPS
from config.variables import variables_of

VARIABLES = variables_of(GROUPS["all"])

TAKEN = [
    ("REGISTRY", "127.0.0.1:5000", "127.0.0.1:5000"),
    ("REGISTRY", "registry.my-team.internal:5000/a/b_c", "registry.my-team.internal:5000/a/b_c"),
    ("REGISTRY", "r:65535", "r:65535"),
    ("REGISTRY", "r:1/a", "r:1/a"),
    ("REPLICAS", "50", 50),
    ("LIMIT_MEMORY", "64M", "64M"),
    ("LIMIT_MEMORY", "65536k", "65536K"),
    ("LIMIT_MEMORY", "1024G", "1024G"),
    (
        "DB_IDENTITY",
        "postgresql:7571234567890123456/16384/slipway",
        "postgresql:7571234567890123456/16384/slipway",
    ),
    ("IMAGE_NAME", "slipway", "slipway"),
    ("IMAGE_NAME", "my-team/slipway_web.2", "my-team/slipway_web.2"),
    ("STACK_NAME", "0-my_stack", "0-my_stack"),
    ("STACK_NAME", "s" * 63, "s" * 63),
    ("BASE_IMAGE", "debian@sha256:0", "debian@sha256:0"),
    ("DB_APPLICATION_NAME", " ledger ~", " ledger ~"),
    ("DB_APPLICATION_NAME", "l" * 63, "l" * 63),
    ("LOG_LEVEL", "debug", "DEBUG"),
    ("LOG_FORMAT", "JSON", "json"),
    ("SCAN_FAIL_LEVEL", "Critical", "critical"),
]
REFUSED = [
    *[("REGISTRY", text) for text in ("https://r.internal", "R.internal", "r:123456", "r.", "r/", "r/A")],
    *[("REGISTRY", f"r:{port}") for port in ("0", "01", "65536", "99999", "")],
    *[("REPLICAS", text) for text in ("0", "51")],
    *[("LIMIT_MEMORY", text) for text in ("1K", "63M", "65535K", "1025G", f"1{'0' * 10000}M", "1\u0660G")],
    *[
        ("DB_IDENTITY", text)
        for text in ("postgresql:\u0667/1/x", "postgresql:1/\u0661/x", "postgresql:1/1/")
    ],
    *[("IMAGE_NAME", text) for text in ("Slipway", "a//b", "-a", "a-", "a:1")],
    *[("STACK_NAME", text) for text in ("Slipway", "-a", "a.b", "s" * 64)],
    *[("BASE_IMAGE", text) for text in ("a b", "a\n")],
    *[("DB_APPLICATION_NAME", text) for text in ("caf\u00e9", "a\tb", "\x7f", "l" * 64)],
]


@pytest.mark.parametrize(("name", "text", "value"), TAKEN)
def test_what_is_taken(name: str, text: str, value: str) -> None:
    assert VARIABLES[name].kind.read(text) == value


@pytest.mark.parametrize(("name", "text"), REFUSED)
def test_what_is_refused(name: str, text: str) -> None:
    kind = VARIABLES[name].kind
    with pytest.raises(ValueError, match=f"^{re.escape(kind.rule)}$"):
        kind.read(text)


def test_how_strong_each_secret_is_and_which_of_them_rotate() -> None:
    """The bits are those of docs/decisions.md: no generated value has fewer, no pattern has as many."""
    kinds = {name: each.kind for name, each in VARIABLES.items()}
    strength = {
        name: (kind.characters, kind.bits) for name, kind in kinds.items() if isinstance(kind, Hidden)
    }
    assert strength == {
        "DB_PASSWORD": (12, 25),
        "LEDGER_TOKEN": (24, 50),
        "SECRET_KEY": (32, 70),
        "REGISTRY_PASSWORD": (8, 15),
    }
    assert [name for name, each in VARIABLES.items() if each.rotates] == ["DB_PASSWORD", "LEDGER_TOKEN"]
