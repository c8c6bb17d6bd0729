"""Fixtures of the configuration's tests."""

from pathlib import Path

import pytest

from tests.config.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty project folder and an empty process environment."""
    return World(tmp_path)


@pytest.fixture
def staging(world: World) -> World:
    """A staging that starts: its secrets are there and it has a server."""
    return world.with_secrets("staging").shared("staging", "DB_HOST=db.internal\n")


@pytest.fixture
def production(world: World) -> World:
    """A production that starts."""
    text = "DB_HOST=db.internal\nPUBLIC_URL=https://slipway.internal\n"
    return world.with_secrets("production").shared("production", text)
