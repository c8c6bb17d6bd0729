"""The manager: transactions that commit, routes that fail over, and errors that say what happened."""

from __future__ import annotations

import pytest

from app.database import ConnectionManager, ConstraintBroken
from tests.postgres import Database


def test_a_write_with_returning_is_committed(manager: ConnectionManager) -> None:
    with manager.transaction() as tx:
        tx.execute("CREATE TABLE note (id integer PRIMARY KEY, text varchar NOT NULL)")
    with manager.transaction() as tx:
        assert tx.scalar("INSERT INTO note VALUES (1, 'kept') RETURNING id") == 1
    with manager.transaction(read_only=True) as tx:
        assert tx.all("SELECT id, text FROM note") == [{"id": 1, "text": "kept"}]
    with pytest.raises(ConstraintBroken), manager.transaction() as tx:
        tx.execute("INSERT INTO note VALUES (1, 'twice')")
    with manager.transaction() as tx:
        tx.execute("INSERT INTO note VALUES (:id, :text)", [{"id": 2, "text": "b"}, {"id": 3, "text": "c"}])
    assert manager.run(lambda tx: tx.scalar("SELECT count(*) FROM note")) == 3
    assert [status.writable for status in manager.probe()] == [True]


def test_the_direct_route(database: Database) -> None:
    with database.manager(adapter_order=("direct", "local")) as manager:
        with manager.transaction() as tx:
            assert tx.route == "direct"
        assert all(status.reachable for status in manager.probe())
