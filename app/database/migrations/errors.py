"""What can go wrong with the schema's history, told as what happened, where, and what to do next."""

from app.database.errors import DatabaseError


class MigrationError(DatabaseError):
    """A migration command was refused or failed; the schema is as it was before."""

    exit_code = 1

    def __str__(self) -> str:
        return f"{self.what}\n  where: {self.where}\n  next: {self.next_step}"


class UnknownRevisionError(MigrationError):
    """The revision asked for is not in this code."""

    exit_code = 2


class SchemaAheadError(MigrationError):
    """The database holds a revision that this code does not know: newer code was here."""


class MigrationChangedError(MigrationError):
    """A migration that was applied is not the file that is here now."""


class MigrationLockedError(MigrationError):
    """Somebody else is migrating this database and did not finish in time."""


class MigrationRefusedError(MigrationError):
    """A migration would break the release that is running, or lose rows, and nobody said that it may."""


class MigrationFailedError(MigrationError):
    """A migration raised; everything of this command was rolled back."""


class BrokenHistoryError(MigrationError):
    """The migration files do not form one line from the first to the last."""
