"""Who watches a run: one view in front, by what the output is, and those that write behind it."""

import getpass
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TextIO

from scripts.pipeline.events import RunFinished, View
from scripts.views.ledger import Ledger, LedgerView
from scripts.views.listener import Listener
from scripts.views.plain import Plain
from scripts.views.report import Report, as_json
from scripts.views.state import State


class Front(View, Protocol):
    """The view that the reader looks at."""

    def note(self, text: str) -> None:
        """Show what another view has to say."""


class Record(Listener):
    """Write the run's record to standard output for `--json`, and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def run_finished(self, event: RunFinished) -> None:
        """Write the record as JSON."""
        self._stream.write(as_json(event.record))
        self._stream.flush()


def front(stream: TextIO, *, root: Path, variables: Mapping[str, str]) -> Front:
    """Return the view for `stream`: GitHub's, a terminal's, or plain lines where nothing can be repainted."""
    if variables.get("GITHUB_ACTIONS") == "true":
        from scripts.views.github import GitHub

        return GitHub(stream, root=root, variables=variables)
    if stream.isatty() and variables.get("TERM", "dumb") not in ("dumb", "unknown", ""):
        from scripts.views.terminal import Terminal

        return Terminal(stream)
    return Plain(stream)


def audience(
    root: Path,
    *,
    out: TextIO,
    err: TextIO,
    variables: Mapping[str, str],
    json: bool = False,
    ledger_url: str = "",
    ledger_token: Callable[[], str | None] = lambda: None,
    hide: Callable[[str], str] = str,
) -> tuple[View, ...]:
    """Return every view of a run in the tree at `root`, the one in front first.

    With `json` standard output carries the record alone and the reader looks at standard error.
    `ledger_token` is asked when events are delivered, because a deployment may have made the token. What the
    views behind say passes `hide`: it is no event, and an error's text may hold a secret.
    """
    leading = front(err if json else out, root=root, variables=variables)

    def tell(text: str) -> None:
        leading.note(hide(text))

    kept = keepers(root, tell=tell, variables=variables, ledger_url=ledger_url, ledger_token=ledger_token)
    report = Report(root / ".slipway/runs", warn=tell)
    return (leading, report, *kept, *((Record(out),) if json else ()))


def keepers(
    root: Path,
    *,
    tell: Callable[[str], None],
    variables: Mapping[str, str],
    ledger_url: str = "",
    ledger_token: Callable[[], str | None] = lambda: None,
) -> tuple[View, ...]:
    """Return the views that remember what is true after a run: project_state.json and the ledgers."""
    folder = root / ".slipway"

    def embedded() -> Ledger:
        from scripts.views.embedded import EmbeddedLedger

        return EmbeddedLedger(folder)

    def shared() -> Ledger:
        from scripts.views.shared import SharedLedger

        return SharedLedger(ledger_url, ledger_token)

    ledger = LedgerView(
        folder,
        actor=actor(variables),
        embedded=embedded,
        shared=shared if ledger_url else None,
        tell=tell,
    )
    return (State(root, warn=tell), ledger)


def actor(variables: Mapping[str, str]) -> str:
    """Return who runs the pipeline: the GitHub account under Actions, else user and host."""
    if variables.get("GITHUB_ACTIONS") == "true" and variables.get("GITHUB_ACTOR"):
        return variables["GITHUB_ACTOR"]
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        user = "unknown"
    return f"{user}@{os.uname().nodename}"
