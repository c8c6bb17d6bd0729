"""Take over secrets that were replaced while the service runs."""

from dataclasses import dataclass, replace

from config.origin import Place
from config.secret import Secret
from config.settings import GROUPS, Part, Settings, Sources, load
from config.sources import collect
from config.variables import Variable, variables_of


@dataclass(frozen=True, kw_only=True)
class Reread:
    """The settings after their sources were read again, and what differs from before, by variable."""

    settings: Settings
    taken: tuple[str, ...]
    """Secrets that may rotate, and did: `settings` has the new values."""
    waiting: tuple[str, ...]
    """What else was changed: `settings` has the old values until a restart."""


def reread(settings: Settings, sources: Sources | None = None) -> Reread:
    """Return `settings` with the secrets that may rotate as their sources have them now.

    Everything else keeps the value that the service started with. Raises ConfigurationError when what the
    sources hold now would not start; the service then goes on with what it has.
    """
    fresh = load(settings.environment, sources, part=part_of(settings))
    after, taken, waiting = settings, [], []
    for variable in variables_of(GROUPS[part_of(settings)]).values():
        value = fresh.value(variable)
        if value == settings.value(variable) or (made_up(variable, settings) and made_up(variable, fresh)):
            continue
        if variable.rotates:
            taken.append(variable.name)
            group = replace(getattr(after, variable.group), **{variable.attribute: value})
            after = replace(after, **{variable.group: group})
        else:
            waiting.append(variable.name)
    return Reread(settings=after, taken=tuple(taken), waiting=tuple(waiting))


def replaced(settings: Settings, sources: Sources | None = None) -> bool:
    """Tell whether a secret that may rotate reads differently now, without judging what it reads.

    It costs a fraction of `reread`, so it can be asked before each connect.
    """
    variables = [each for each in variables_of(GROUPS[part_of(settings)]).values() if each.rotates]
    names = [each.name for each in variables]
    layers = collect(settings.environment, sources or Sources(), names, ()).layers
    for each in variables:
        entry = layers.entry(each.name)
        if (entry.text if entry else "") != each.kind.write(settings.value(each)):
            return True
    return False


def part_of(settings: Settings) -> Part:
    """Return what was loaded to make `settings`."""
    return "app" if settings.delivery is None else "all"


def made_up(variable: Variable, settings: Settings) -> bool:
    """Tell whether the value is a secret of one start, another at each."""
    secret = isinstance(settings.value(variable), Secret)
    return secret and settings.origins[variable.name].place is Place.DEFAULT
