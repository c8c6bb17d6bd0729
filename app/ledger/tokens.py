"""Bearer tokens: only their SHA-256 is stored, with the scopes that they open.

A token is long and random, so a fast hash is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.database import Transaction

EVENTS_WRITE = "events:write"
ALL_SCOPES = (EVENTS_WRITE,)


def hashed(text: str) -> str:
    """Return what is stored of the token `text`, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def ensure(tx: Transaction, name: str, text: str, scopes: Iterable[str] = ALL_SCOPES) -> None:
    """Let the token `text` be the one token called `name`: add or renew it, revoke what it replaces.

    Idempotent, and safe from several processes at once.
    """
    from sqlalchemy import update

    from . import models

    if tx.dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]

    column, now, digest = models.token.c, datetime.now(UTC), hashed(text)
    replaced = (column.name == name) & (column.hash != digest) & column.revoked.is_(None)
    tx.execute(update(models.token).where(replaced).values(revoked=now))
    row = {"hash": digest, "name": name, "scopes": sorted(scopes), "created": now, "revoked": None}
    statement = insert(models.token).values(row)
    tx.execute(
        statement.on_conflict_do_update(
            index_elements=["hash"],
            set_={"name": name, "scopes": row["scopes"], "revoked": None},
        )
    )


def scopes_of(tx: Transaction, text: str) -> frozenset[str] | None:
    """Return the scopes of the token `text`, or None when there is no such token or it is revoked."""
    from sqlalchemy import select

    from . import models

    digest = hashed(text)
    query = select(models.token).where(models.token.c.hash == digest, models.token.c.revoked.is_(None))
    row = tx.execute(query).mappings().one_or_none()
    if row is None or not hmac.compare_digest(row["hash"], digest):
        return None
    return frozenset(row["scopes"])
