"""Take over secrets that were replaced while the service runs."""

from dataclasses import replace

from config.settings import GROUPS, Part, Settings, Sources, load
from config.variables import variables_of


def reread(settings: Settings, sources: Sources | None = None) -> Settings:
    """Return `settings` with the secrets that may rotate as their sources have them now.

    Everything else keeps the value that the service started with. Raises ConfigurationError when what the
    sources hold now would not start; the service then goes on with what it has.
    """
    part: Part = "app" if settings.delivery is None else "all"
    fresh = load(settings.environment, sources, part=part)
    for variable in variables_of(GROUPS[part]).values():
        if variable.rotates:
            group = replace(getattr(settings, variable.group), **{variable.attribute: fresh.value(variable)})
            settings = replace(settings, **{variable.group: group})
    return settings
