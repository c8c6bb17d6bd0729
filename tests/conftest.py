"""Fixtures that every test may use."""

pytest_plugins = ["tests.postgres", "tests.tcp_proxy"]
