"""Fixtures that every test may use."""

pytest_plugins = [
    "tests.scratch",
    "tests.postgres",
    "tests.bouncer",
    "tests.small_disk",
    "tests.database.notes",
    "tests.tcp_proxy",
]
