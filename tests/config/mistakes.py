"""Twenty configurations of production with one mistake each, for any program that reads configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SENTINEL = "q7Gk2Zr9vT4xLw8Yb3Nc6Md1Ph5Sj0KfUe"
"""A secret: a message in which it turns up has given it away."""
OTHER = "Wn3Rb8Kq5Zt1Vx7Mc2Lp9Hd4Gs6Yf0JaTi"
THIRD = "Bz6Tn1Xw8Cq4Rk9Vm3Jp7Ld2Hs5Gy0FuEo"


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One mistake: what is different from a configuration that starts."""

    title: str
    about: str
    """The name that a good message has in it."""
    environ: Mapping[str, str | None] = field(default_factory=dict)
    """Variables of the process that differ; None takes one away."""
    lines: str = ""
    """What stands in `.env`."""
    secrets: Mapping[str, str | None] = field(default_factory=dict)
    mode: int = 0o600


ENVIRON = {"ENVIRONMENT": "production", "DB_HOST": "db.internal", "PUBLIC_URL": "https://slipway.internal"}
SECRETS = {"SECRET_KEY": SENTINEL, "DB_PASSWORD": OTHER, "LEDGER_TOKEN": THIRD}

MISTAKES = (
    Mistake(title="the environment is misspelt", about="ENVIRONMENT", environ={"ENVIRONMENT": "prodution"}),
    Mistake(
        title="the name ENVIRONMENT is misspelt",
        about="ENVIROMENT",
        environ={"ENVIRONMENT": None, "ENVIROMENT": "production"},
    ),
    Mistake(title="`DEBUG=ture`", about="DEBUG", environ={"DEBUG": "ture"}),
    Mistake(title="`DEBUG=` (empty)", about="DEBUG", environ={"DEBUG": ""}),
    Mistake(title="`DEBUG=true` in production", about="DEBUG", environ={"DEBUG": "true"}),
    Mistake(title="`DB_PORT=fivefour` in .env", about="DB_PORT", lines="# database\nDB_PORT=fivefour\n"),
    Mistake(title="`DB_PORT=70000`", about="DB_PORT", environ={"DB_PORT": "70000"}),
    Mistake(title="a password pasted into DB_PORT", about="DB_PORT", environ={"DB_PORT": SENTINEL}),
    Mistake(
        title="`DB_HSOT=...` in .env",
        about="DB_HSOT",
        environ={"DB_HOST": None},
        lines="DB_HSOT=db.internal\n",
    ),
    Mistake(title="one name twice in .env", about=".env", lines="DB_PORT=5432\nDB_PORT=5433\n"),
    Mistake(
        title="a line of .env without `=`", about=".env", lines=f"DB_PORT=5432\nLEDGER_TOKEN {SENTINEL}\n"
    ),
    Mistake(title="a quote in .env that does not close", about=".env", lines=f"LEDGER_TOKEN='{THIRD}\n"),
    Mistake(title="SECRET_KEY is missing", about="SECRET_KEY", secrets={"SECRET_KEY": None}),
    Mistake(title="`SECRET_KEY=changeme`", about="SECRET_KEY", secrets={"SECRET_KEY": "changeme"}),
    Mistake(
        title="SECRET_KEY and DB_PASSWORD are equal", about="SECRET_KEY", secrets={"DB_PASSWORD": SENTINEL}
    ),
    Mistake(
        title="SECRET_KEY_FILE names no file",
        about="SECRET_KEY",
        environ={"SECRET_KEY_FILE": "/nowhere/key"},
        secrets={"SECRET_KEY": None},
    ),
    Mistake(title="everybody may read the secret files", about="SECRET_KEY", mode=0o644),
    Mistake(
        title="`DB_SSLMODE=disable` in production", about="DB_SSLMODE", environ={"DB_SSLMODE": "disable"}
    ),
    Mistake(title="a pool larger than the server", about="DB_POOL_SIZE", environ={"DB_POOL_SIZE": "200"}),
    Mistake(
        title="a password inside LEDGER_URL",
        about="LEDGER_URL",
        environ={"LEDGER_URL": f"https://user:{SENTINEL}@ledger.internal"},
    ),
)


def lay_out(mistake: Mistake, folder: Path) -> dict[str, str]:
    """Write the files of `mistake` below `folder`; return the process environment."""
    secrets = folder / "secrets"
    secrets.mkdir(parents=True)
    for name, text in {**SECRETS, **mistake.secrets}.items():
        if text is not None:
            (secrets / name).write_text(f"{text}\n", encoding="utf-8")
            (secrets / name).chmod(mistake.mode)
    (folder / ".env").write_text(mistake.lines, encoding="utf-8")
    (folder / ".env").chmod(0o600)
    return {name: text for name, text in {**ENVIRON, **mistake.environ}.items() if text is not None}
