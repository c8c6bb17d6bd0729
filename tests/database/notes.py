"""A database with one small table, for tests that need no other."""

from __future__ import annotations

import pytest

from app.database import ConnectionManager


@pytest.fixture
def notes(manager: ConnectionManager) -> ConnectionManager:
    """A manager on a database with one table."""
    with manager.transaction() as tx:
        tx.execute("CREATE TABLE note (id integer PRIMARY KEY, text varchar(80) NOT NULL, number integer)")
    return manager


def ids(manager: ConnectionManager) -> list[int]:
    with manager.transaction(read_only=True) as tx:
        return [row["id"] for row in tx.all("SELECT id FROM note ORDER BY id")]
