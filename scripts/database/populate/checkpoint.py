"""How far a step came, kept in the database and written in the same transaction as the rows.

So a checkpoint is neither ahead of the rows nor behind them, a fresh or restored database has the one
that fits it, and a process that was killed goes on where its last commit was. A checkpoint holds a hash of
all content before it: an input that was changed there is noticed.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.database.populate.steps import printable

if TYPE_CHECKING:
    from app.database import Transaction

TABLE = "population_checkpoint"
CREATE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    source TEXT NOT NULL,
    step TEXT NOT NULL,
    position BIGINT NOT NULL,
    content TEXT NOT NULL,
    accepted BIGINT NOT NULL,
    duplicates BIGINT NOT NULL,
    rejected BIGINT NOT NULL,
    rejects_bytes BIGINT NOT NULL,
    PRIMARY KEY (source, step)
)
"""
LOAD = f"""
SELECT position, content, accepted, duplicates, rejected, rejects_bytes
FROM {TABLE} WHERE source = :source AND step = :step
"""  # noqa: S608 - a constant
SAVE = f"""
INSERT INTO {TABLE} (source, step, position, content, accepted, duplicates, rejected, rejects_bytes)
VALUES (:source, :step, :position, :content, :accepted, :duplicates, :rejected, :rejects_bytes)
ON CONFLICT (source, step) DO UPDATE SET
    position = excluded.position, content = excluded.content, accepted = excluded.accepted,
    duplicates = excluded.duplicates, rejected = excluded.rejected, rejects_bytes = excluded.rejects_bytes
"""  # noqa: S608 - a constant


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """How many records of a step are done, the hash of their content, and what became of them."""

    position: int = 0
    content: str = ""
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    rejects_bytes: int = 0


class Content:
    """The running hash of the records seen so far, after the head that all of them depend on."""

    def __init__(self, head: bytes) -> None:
        self._hash = hashlib.sha256(head)

    def add(self, raw: bytes) -> None:
        """Take in one record; its length goes in too, so that moving a boundary is a change."""
        self._hash.update(len(raw).to_bytes(8, "big"))
        self._hash.update(raw)

    def digest(self) -> str:
        """Return the hash in hex."""
        return self._hash.hexdigest()


def key(source: str, path: Path) -> str:
    """Return the name under which the checkpoints of a source are kept."""
    return f"{source}:{printable(path.resolve())}"


def prepare(tx: "Transaction") -> None:
    """Make the table when it is missing."""
    tx.execute(CREATE)


def load(tx: "Transaction", source: str, step: str) -> Checkpoint:
    """Return where the step stands; an empty checkpoint when it has not begun."""
    rows = tx.all(LOAD, source=source, step=step)
    return Checkpoint(**rows[0]) if rows else Checkpoint()


def save(tx: "Transaction", source: str, step: str, checkpoint: Checkpoint) -> None:
    """Write where the step stands, as part of `tx`."""
    tx.execute(SAVE, {"source": source, "step": step, **asdict(checkpoint)})
