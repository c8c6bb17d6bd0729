"""From which value on something is worth saying. Chosen so that a quiet, healthy database says nothing."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Times are seconds, sizes bytes, shares between 0 and 1."""

    lag: float = 30.0
    connections_warning: float = 0.8
    connections_critical: float = 0.95
    transaction_warning: float = 60.0
    transaction_critical: float = 900.0
    dead_rows: int = 10_000
    dead_share: float = 0.2
    scanned_rows: int = 10_000
    scans: int = 50
    unused_index: int = 16 << 20
    transaction_age: int = 1_000_000_000  # of about 2.1 billion, where PostgreSQL stops taking writes
    free_pages: int = 2_000
    free_share: float = 0.25
    write_ahead_log: int = 64 << 20
