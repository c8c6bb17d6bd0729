"""A database that encodes and sorts text like another one on its server: what a restore fills."""

from typing import TYPE_CHECKING

from scripts.database.backup.postgresql import command, quoted, snapshot

if TYPE_CHECKING:
    from app.database.adapters.postgresql import PostgreSQL

LOCALE = """
SELECT pg_encoding_to_char(encoding), datcollate, datctype, to_jsonb(pg_database)
FROM pg_database WHERE datname = current_database()
"""
PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


def create_alike(maintenance: "PostgreSQL", name: str) -> None:
    """Make an empty database that encodes and sorts text like the one that `maintenance` leads to.

    Raises BackupError when the role may not do it.
    """
    with snapshot(maintenance) as cursor:
        cursor.execute(LOCALE)
        encoding, collate, ctype, row = cursor.fetchone()
    options = {"ENCODING": encoding, "LC_COLLATE": collate, "LC_CTYPE": ctype, **provider(row)}
    texts = " ".join("{} '{}'".format(key, text.replace("'", "''")) for key, text in options.items())
    command(maintenance, f"CREATE DATABASE {quoted(name)} TEMPLATE template0 {texts}")


def provider(row: dict[str, str]) -> dict[str, str]:
    """Return the options for who sorts, from a row of pg_database, which says more with every version."""
    if "datlocprovider" not in row:
        return {}
    name = PROVIDERS[row["datlocprovider"]]
    given = {
        f"{name}_LOCALE": row.get("datlocale") or row.get("daticulocale"),
        "ICU_RULES": row.get("daticurules"),
    }
    return {"LOCALE_PROVIDER": name, **{key: text for key, text in given.items() if text}}
