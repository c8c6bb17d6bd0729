"""The adapter layer: transactions on one database by whichever route works.

`ConnectionManager.from_settings(settings.database)` is the way in; the errors say what happened.
"""

from app.database.bulk import Loaded, Upsert
from app.database.errors import (
    AdapterMisconfigured,
    ConstraintBroken,
    DatabaseError,
    FeatureRefused,
    NoRoute,
    NotSent,
    OutcomeUnknown,
    PoolTimeout,
    QueueFull,
    RolledBack,
    RouteDown,
    WrongDatabase,
)
from app.database.manager import ConnectionManager
from app.database.options import Limits
from app.database.outcome import Outcome
from app.database.transactions import Transaction

__all__ = [
    "AdapterMisconfigured",
    "ConnectionManager",
    "ConstraintBroken",
    "DatabaseError",
    "FeatureRefused",
    "Limits",
    "Loaded",
    "NoRoute",
    "NotSent",
    "Outcome",
    "OutcomeUnknown",
    "PoolTimeout",
    "QueueFull",
    "RolledBack",
    "RouteDown",
    "Transaction",
    "Upsert",
    "WrongDatabase",
]
