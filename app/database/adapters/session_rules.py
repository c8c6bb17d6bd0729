"""Which statements need a session, and so cannot go through a transaction pooler.

Source: PgBouncer's feature table, https://www.pgbouncer.org/features.html. What a function or a DO block does
inside is not seen.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from app.database.errors import FeatureRefused

_COMMENT: Final = r"--[^\n]*|/\*(?:/\*.*?\*/|.)*?\*/"
_TEXT: Final = (
    r"\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\""
    r"|(?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$"
)
_NOISE: Final = re.compile(f"(?P<comment>{_COMMENT})|{_TEXT}", re.DOTALL)

_RULES: Final = (
    (
        r"^SET\s+(?!LOCAL\b|TRANSACTION\b|CONSTRAINTS\b)",
        "SET",
        "Use SET LOCAL, which ends with the transaction",
    ),
    (r"^(RESET|DISCARD)\b", "RESET and DISCARD", "Use SET LOCAL, which needs no reset"),
    (r"^(LISTEN|UNLISTEN)\b", "LISTEN", "Listen on a connection of the direct adapter"),
    (
        r"\bpg_(try_)?advisory_(unlock\w*|lock(_shared)?)\s*\(",
        "a session-level advisory lock",
        "Use pg_advisory_xact_lock, which ends with the transaction",
    ),
    (
        r"^CREATE\s+(LOCAL\s+|GLOBAL\s+)?(TEMP|TEMPORARY)\s+(?!.*\bON\s+COMMIT\s+DROP\b)",
        "a temporary table that outlives its transaction",
        "Add ON COMMIT DROP",
    ),
    (
        r"^SELECT\b.*\bINTO\s+(LOCAL\s+|GLOBAL\s+)?(TEMP|TEMPORARY)\s",
        "SELECT INTO a temporary table",
        "Use CREATE TEMPORARY TABLE ... ON COMMIT DROP AS",
    ),
    (r"^(PREPARE\s+(?!TRANSACTION\b)|EXECUTE\b|DEALLOCATE\b)", "PREPARE", "Send the statement itself"),
    (r"^DECLARE\b.*\bWITH\s+HOLD\b", "a cursor WITH HOLD", "Read it within the transaction"),
    (r"^LOAD\b", "LOAD", "Set shared_preload_libraries on the server"),
)
_COMPILED: Final = tuple(
    (re.compile(rule, re.IGNORECASE | re.DOTALL), what, instead) for rule, what, instead in _RULES
)
_INNERMOST: Final = re.compile(r"(?P<set>\bset_config\s*)?\((?P<inside>[^()]*)\)", re.IGNORECASE)


@lru_cache(maxsize=1024)
def refuse_session_features(statement: str) -> None:
    """Raise FeatureRefused when `statement` leaves something behind in its session."""
    bare = _NOISE.sub(lambda found: " " if found["comment"] else " '' ", statement)
    if "set_config" in bare.lower():
        _refuse_set_config(bare)
    for part in bare.split(";"):
        words = part.strip()
        for rule, what, instead in _COMPILED:
            if rule.search(words):
                raise _refusal(what, instead)


def _refuse_set_config(bare: str) -> None:
    """Refuse each call but those whose last argument is the word `true`; the innermost ones go first."""

    def judge(call: re.Match[str]) -> str:
        if call["set"] and call["inside"].rpartition(",")[2].strip().lower() != "true":
            raise _refusal(
                "set_config without a plain `true`", "Pass it, and the value ends with the transaction"
            )
        return " "

    left = 1
    while left:
        bare, left = _INNERMOST.subn(judge, bare)


def _refusal(what: str, instead: str) -> FeatureRefused:
    return FeatureRefused(
        f"The pooler adapter cannot run {what}: the next transaction may get another server session.",
        where="route pooler (PgBouncer in transaction mode)",
        next_step=f"{instead}, or use the direct or the local adapter.",
    )
