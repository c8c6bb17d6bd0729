"""What can go wrong with the jobs on a database."""

from scripts.pipeline.errors import SlipwayError, UsageError

__all__ = [
    "BackupError",
    "BusyError",
    "IncompleteError",
    "RejectedError",
    "RestoreRefusedError",
    "SourceError",
    "UsageError",
]


class RejectedError(SlipwayError):
    """A row was refused and `--strict` allows none; its batch was rolled back."""


class BusyError(SlipwayError):
    """Another process does the same work; nothing was changed."""


class SourceError(SlipwayError):
    """What is to be put into the database cannot be read to its end."""


class IncompleteError(SlipwayError):
    """The database does not hold what was put into it."""


class BackupError(SlipwayError):
    """A backup could not be made, or the file is not a good one; no partial file is left."""


class RestoreRefusedError(SlipwayError):
    """The database to restore into is in use, not empty, or of another engine."""
