"""A wall clock that is wrong for one process; the machine's own and the monotonic one are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest


def wrong_clock() -> dict[str, str]:
    """Return what preloads Debian's libfaketime into a process; FAKETIME, say `+3h`, says how wrong it is."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        pytest.skip("needs Debian's package libfaketime")
    return {"LD_PRELOAD": str(found[0]), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
