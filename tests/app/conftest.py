"""A migrated database on each back end, and the service on top of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.database import ConnectionManager
from config.secret import Secret
from config.settings import Settings, Sources, load

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient

TOKEN = "a-token-that-is-long-and-random-7c1d"


@pytest.fixture
def ledger(manager: ConnectionManager) -> ConnectionManager:
    """A manager on a database that is migrated to head."""
    from app.database.migrations import runner

    runner.upgrade(manager)
    return manager


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Development settings that read nothing of this machine."""
    sources = Sources(environ={}, root=tmp_path, secrets=())
    loaded = load("development", sources, part="app")
    return replace(loaded, ledger=replace(loaded.ledger, token=Secret(TOKEN)))


@pytest.fixture
def application(ledger: ConnectionManager, settings: Settings) -> Flask:
    from app.web import create_app

    made = create_app(settings, ledger)
    made.testing = False
    return made


@pytest.fixture
def client(application: Flask) -> FlaskClient:
    return application.test_client()


@pytest.fixture
def token() -> dict[str, str]:
    """Headers that open writing."""
    return {"Authorization": f"Bearer {TOKEN}"}
