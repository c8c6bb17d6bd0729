"""What must hold of secrets: each is set, strong, used once, and kept where only its owner reads it."""

from collections.abc import Iterator

from config.errors import Problem
from config.kinds import Hidden
from config.origin import Place
from config.rules import ERROR, WARNING, Rule, Values
from config.secret import Secret
from config.strength import entropy, is_placeholder


def secrets_of(values: Values) -> Iterator[tuple[str, Secret, Hidden]]:
    """Yield the secrets that are set, with what makes each a strong one."""
    for name, reading in values.readings.items():
        kind = reading.variable.kind
        if isinstance(kind, Hidden) and isinstance(reading.value, Secret):
            yield name, reading.value, kind


def new_one(name: str, values: Values) -> str:
    """Return the advice to make a new secret."""
    return f"Run `invoke config.secret new {name} --env={values.environment.name}`"


def database_password(values: Values) -> Iterator[Problem]:
    """A server that others depend on asks for a password."""
    order = values["DB_ADAPTER_ORDER"]
    over_network = {"direct", "pooler"} & set(order) or values["DB_REPLICA_HOST"]
    if over_network and values["DB_PASSWORD"] is None:
        rule = "the role on a database server has a password"
        fix = values.environment.keep("DB_PASSWORD")
        yield from values.problem("missing", "DB_PASSWORD", rule, fix, values.level(None, ERROR, ERROR))


def strong(values: Values) -> Iterator[Problem]:
    """A secret is no placeholder, and long and random enough."""
    for name, secret, kind in secrets_of(values):
        text = secret.reveal()
        if is_placeholder(text, name):
            rule = "a secret is not a placeholder"
            yield from values.problem(
                "placeholder", name, rule, new_one(name, values), values.level(WARNING, ERROR, ERROR)
            )
        elif len(text) < kind.characters or entropy(text) < kind.bits:
            rule = f"it has {kind.characters} characters or more and is hard to guess"
            yield from values.problem(
                "weak-secret", name, rule, new_one(name, values), values.level(WARNING, ERROR, ERROR)
            )
        if text != text.strip():
            rule = "a secret does not begin or end with a blank"
            fix = "Write the value alone, without blanks around it"
            yield from values.problem("secret-blank", name, rule, fix, WARNING)


def not_its_user(values: Values) -> Iterator[Problem]:
    """A password is not the name of the user that it belongs to."""
    for name, user in (("DB_PASSWORD", "DB_USER"), ("REGISTRY_PASSWORD", "REGISTRY_USER")):
        if name in values.readings and values[name] is not None:
            same = values[name].reveal().casefold() == values[user].casefold()
            rule = f"a password differs from {user}"
            level = values.level(WARNING, ERROR, ERROR) if same else None
            yield from values.problem("weak-secret", name, rule, new_one(name, values), level)


def used_once(values: Values) -> Iterator[Problem]:
    """A secret has one use, in one environment: what leaks in one place opens no other."""
    seen: dict[Secret, str] = {}
    for name, secret, _ in secrets_of(values):
        if secret in seen:
            rule = f"a secret is used once; {seen[secret]} has the same value"
            yield from values.problem(
                "reused-secret", name, rule, new_one(name, values), values.level(WARNING, ERROR, ERROR)
            )
        seen.setdefault(secret, name)
        for (environment, other), there in values.elsewhere.items():
            if there == secret:
                rule = f"a secret is used in one environment; {other} of {environment} has the same value"
                yield from values.problem(
                    "reused-secret", name, rule, new_one(name, values), values.level(WARNING, ERROR, ERROR)
                )


def well_kept(values: Values) -> Iterator[Problem]:
    """A secret is not in git, and in production not in the process environment either."""
    for name, _, _ in secrets_of(values):
        place = values.readings[name].origin.place
        if place is Place.SHARED:
            rule = "a file in git holds no secret"
            fix = f"Delete the line and make a new secret: {new_one(name, values)}"
            yield from values.problem("secret-in-git", name, rule, fix)
        elif place is Place.YOURS:
            rule = "a secret is used in one environment; .env is read for each of them"
            fix = values.environment.keep(name)
            level = values.level(None, WARNING, ERROR)
            yield from values.problem("reused-secret", name, rule, fix, level)
        elif place is Place.PROCESS:
            rule = "a secret comes from a file: `docker inspect` shows the process environment"
            fix = f"Point {name}_FILE to a file that holds it"
            yield from values.problem("secret-in-process", name, rule, fix, values.level(None, None, WARNING))


def local_override(values: Values) -> Iterator[Problem]:
    """What production runs with does not depend on whose machine it is started from."""
    for name, reading in values.readings.items():
        if reading.origin.place is Place.YOURS and not reading.variable.secret:
            rule = "production is not configured by a file that only this machine has"
            fix = f"Move the line to config/.env.{values.environment.name}"
            yield from values.problem("local-override", name, rule, fix, values.level(None, None, WARNING))


KEEPING: tuple[Rule, ...] = (database_password, strong, not_its_user, used_once, well_kept, local_override)
