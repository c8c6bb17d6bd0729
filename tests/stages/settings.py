"""Settings for a stage's test, from nothing but what the test gives."""

from pathlib import Path

from config.settings import Settings, load
from config.sources import Sources


def settings(root: Path, environment: str = "development", **variables: str) -> Settings:
    """Load an environment's settings with these variables alone."""
    given = {"SECRET_KEY": "vZ3p9QxT7mKc2LrWf8HyNb4JdGsAe6Uq0MtRoXiE", **variables}
    return load(environment, Sources(environ=given, root=root, secrets=()))
