"""The seam between Invoke and what is ours: one voice for mistakes, one run for one line, exit codes that
hold.
"""

import copy
import difflib
import functools
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit, ParseError
from invoke.parser import Parser
from invoke.program import Program

Body = TypeVar("Body", bound=Callable[..., None])
USAGE = 2
BROKEN_PIPE = 141


@dataclass(frozen=True, kw_only=True)
class Call:
    """One task on the command line, with its arguments."""

    name: str
    arguments: Mapping[str, Any]


class Terminated(BaseException):
    """SIGTERM came: not an Exception, so that no library takes it for an error of its own."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def command(body: Body) -> Body:
    """Make a task's mistakes one message and an exit code, and let SIGTERM end it in order.

    Any exception with an `exit_code` is a user's; everything else is a bug and keeps its traceback.
    """

    @functools.wraps(body)
    def task(context: Context, *arguments: Any, **options: Any) -> None:
        try:
            with terminated():
                body(context, *arguments, **options)
                sys.stdout.flush()
        except Terminated as error:
            raise Exit(code=error.code) from None
        except BrokenPipeError:
            # Whoever read the output has gone; Python would say so once more when it closes it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit(code=BROKEN_PIPE) from None
        except KeyboardInterrupt:
            raise Exit("stopped", code=128 + signal.SIGINT) from None
        except Exception as error:
            code = getattr(error, "exit_code", None)
            if not isinstance(code, int):
                raise
            raise Exit(without_secrets(str(error)), code=code) from None

    return task  # type: ignore[return-value]


def without_secrets(text: str) -> str:
    """Return a message without what the sources of this machine keep secret: an error may repeat it."""
    from config.masking import Masker
    from config.reach import within_reach

    return Masker(secret.reveal() for secret in within_reach()).text(text)


@contextmanager
def terminated() -> Iterator[None]:
    """Turn SIGTERM into an orderly end with exit code 143, so that children and locks are let go."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise Terminated(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def refuse_dry(context: Context) -> None:
    """Refuse `--dry`, which Invoke applies to shell commands only; raises Exit."""
    if context.config.run.dry:
        raise Exit("--dry would still change things here\n  next: invoke plan", code=USAGE)


def invoked(words: Sequence[str]) -> bool:
    """Tell whether these are the words of an `invoke` command line."""
    path = Path(words[0]) if words else Path()
    return path.name in ("invoke", "inv") or path.parts[-2:] == ("invoke", "__main__.py")


def parse(namespace: Collection, words: Sequence[str]) -> list[Call]:
    """Return the tasks that a command line asks for, read by Invoke's own parser; raises ParseError."""
    initial = Program().initial_context
    core = Parser(initial=initial, ignore_unknown=True).parse_argv(list(words[1:]))
    # A copy, because making a parser takes the help texts out of the tasks.
    contexts = copy.deepcopy(namespace).to_contexts()
    found = Parser(initial=initial, contexts=contexts).parse_argv(core.unparsed)
    return [Call(name=each.name, arguments=each.as_kwargs) for each in found if each.name]


def line(namespace: Collection, words: Sequence[str] | None = None) -> list[Call]:
    """Return the tasks on this process's command line; none when it is not Invoke's."""
    given = sys.argv if words is None else words
    return parse(namespace, given) if invoked(given) else []


def check_line(namespace: Collection, words: Sequence[str] | None = None) -> None:
    """Refuse a command line that Invoke would refuse, with the word that was meant and exit code 2.

    Called when the tasks are loaded: Invoke itself would end with exit code 1, which says that a stage
    failed.
    """
    try:
        calls = line(namespace, words)
    except ParseError as error:
        raise Exit(explain(namespace, error), code=USAGE) from None
    except ValueError as error:
        # Invoke shows a traceback for a flag that takes a number and gets something else.
        text = f"a flag of this command takes a number: {error}"
        raise Exit(f"{text}\n  next: invoke --help TASK", code=USAGE) from None
    if calls and blank_environment(sys.argv if words is None else words):
        raise Exit("--env names no environment\n  next: name one, or leave --env out", code=USAGE)


def blank_environment(words: Sequence[str]) -> bool:
    """Tell whether `--env` is there without a name: what `--env=$TARGET` becomes when that is not set."""
    return "--env=" in words or any(flag in ("--env", "-e") and not name for flag, name in pairwise(words))


def explain(namespace: Collection, error: ParseError) -> str:
    """Say what is wrong with a command line and what was probably meant."""
    text = str(error)
    unknown = re.match(r"No idea what '(.*)' is!", text)
    task = error.context.name if error.context else None
    help_line = f"invoke --help {task}" if task else "invoke --list"
    if not unknown:
        return f"{text}\n  next: {help_line}"
    word = unknown.group(1)
    flags = list(error.context.flags) if error.context else []
    known = flags if word.startswith("-") else list(namespace.task_names)
    sort = "flag" if word.startswith("-") else "task"
    near = difflib.get_close_matches(word, known, n=1)
    of = f" of {task}" if sort == "flag" and task else ""
    meant = f"; did you mean {near[0]}?" if near else ""
    return (
        f"there is no {sort} {word!r}{of}{meant}\n  next: {help_line if sort == 'flag' else 'invoke --list'}"
    )
