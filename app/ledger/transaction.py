"""What the ledger asks of a transaction; the database layer's own fits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sqlalchemy import CursorResult, Executable


class Transaction(Protocol):
    """An open transaction on one back end."""

    @property
    def dialect(self) -> str:
        """Return `sqlite` or `postgresql`."""
        ...

    def execute(
        self, statement: Executable, parameters: Sequence[Mapping[str, Any]] | None = None, /
    ) -> CursorResult[Any]:
        """Run one statement, once for each mapping when there are parameters."""
        ...
