"""A migrated database on each back end, and the service on top of it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.database import ConnectionManager
from config.secret import Secret
from config.settings import Settings, Sources, load
from tests import postgres as pg

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient

TOKEN = "a-token-that-is-long-and-random-7c1d"


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file at head, to be copied."""
    from app.database.migrations import runner

    path = tmp_path_factory.mktemp("template") / "ledger.sqlite3"
    with ConnectionManager.from_settings(pg.Settings(sqlite_path=path)) as manager:
        runner.upgrade(manager)
        with manager.transaction() as tx:
            tx.scalar("SELECT 1")
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture(scope="session")
def migrated_database(postgres: pg.Server) -> str:
    """The name of a PostgreSQL database at head, to be used as a template."""
    from app.database.migrations import runner

    name = f"template_{uuid.uuid4().hex[:12]}"
    postgres.execute(f"CREATE DATABASE {name} STRATEGY = file_copy TEMPLATE template0")
    with ConnectionManager.from_settings(postgres.settings(name)) as manager:
        runner.upgrade(manager)
    return name


@pytest.fixture
def embedded(migrated_file: Path, tmp_path: Path) -> Iterator[ConnectionManager]:
    """A manager on a migrated SQLite file of its own, where the back end does not matter."""
    path = tmp_path / "ledger.sqlite3"
    shutil.copy(migrated_file, path)
    with ConnectionManager.from_settings(pg.Settings(sqlite_path=path)) as manager:
        yield manager


@pytest.fixture
def served(postgres: pg.Server, migrated_database: str) -> Iterator[ConnectionManager]:
    """A manager on a migrated PostgreSQL database of its own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    postgres.execute(f"CREATE DATABASE {name} STRATEGY = file_copy TEMPLATE {migrated_database}")
    try:
        with ConnectionManager.from_settings(postgres.settings(name)) as manager:
            yield manager
    finally:
        postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["embedded", "served"])
def ledger(request: pytest.FixtureRequest) -> ConnectionManager:
    """A manager on a migrated database, on SQLite and then on PostgreSQL."""
    manager: ConnectionManager = request.getfixturevalue(request.param)
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

    return create_app(settings, ledger)


@pytest.fixture
def client(application: Flask) -> FlaskClient:
    """A client of the service on each back end."""
    return application.test_client()


@pytest.fixture
def visitor(embedded: ConnectionManager, settings: Settings) -> FlaskClient:
    """A client of the service on SQLite, for what does not depend on the back end."""
    from app.web import create_app

    return create_app(settings, embedded).test_client()


@pytest.fixture
def token() -> dict[str, str]:
    """Headers that open writing."""
    return {"Authorization": f"Bearer {TOKEN}"}
