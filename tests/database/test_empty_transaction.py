"""A transaction in which nothing was run leaves its connection as it found it."""

from app.database import ConnectionManager


def test_a_tracked_transaction_without_statements_leaves_nothing_open(manager: ConnectionManager) -> None:
    manager.run(lambda _tx: None)
    with manager.transaction(read_only=True) as tx:
        assert tx.scalar("SELECT 1") == 1
