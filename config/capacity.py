"""How many connections a configuration may open: one arithmetic for the check and for the start."""

RESERVED_CONNECTIONS = 3
"""superuser_reserved_connections, PostgreSQL's default."""


def processes(workers: int, replicas: int) -> int:
    """Return how many processes share the server while an update runs one replica more."""
    return workers * (replicas + 1)


def connections(pool_size: int, routes: int, processes: int) -> int:
    """Return the most connections of all processes: one pool in full each, and one a route for its probes."""
    return (pool_size + routes) * processes


def largest_pool(limit: int, routes: int, processes: int) -> int:
    """Return the largest pool with which all processes stay within `limit`; below 1 when none does."""
    return limit // processes - routes
