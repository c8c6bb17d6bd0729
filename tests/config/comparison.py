"""Write docs/configuration_comparison.md: what five ways of reading configuration say to the same mistakes.

Run with `python -m tests.config.comparison`. The other libraries go into a virtual environment that is thrown
away, pinned here, so that they are no dependency of the project.
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from config.check import check
from config.errors import Level
from config.sources import PROJECT, Sources
from tests.config.mistakes import MISTAKES, SENTINEL, Mistake, lay_out

PINS = {
    "pydantic-settings": "2.16.3",
    "dynaconf": "3.3.5",
    "environs": "15.2.0",
    "python-decouple": "3.8",
}
OURS = "Slipway"
STARTS = "**starts**"
LONGEST = 200
PAGE = """\
# The same twenty mistakes, side by side

Written by `python -m tests.config.comparison`, which runs each library on the same files; nothing here is
typed by hand. Each configuration would start production but for one mistake. Each library is set up as its
own documents show, with every type, range and choice that it can declare, and no validator written by hand
([contenders.py](../tests/config/contenders.py)); the mistakes are in
[mistakes.py](../tests/config/mistakes.py). Versions: {versions}.

What a cell says: **starts** (nothing is noticed), **refuses** or **warns**; then what the message has in it:
the *name* of the variable or file that is meant, the *place* (file, line, or which source), and, as it
should never be, the *secret's value*.

{table}

{totals}

A validator of one's own can be written for many of these in each library, as config/rules.py is here, and
pydantic-settings can be told to leave inputs out of its messages (`hide_input_in_errors`). What a validator
cannot know is where a value came from, what in an env file could not be read, and which name was misspelt.

## What each says

The first {longest} characters, with the sentinel that stands for a secret written as `«secret»`.

{details}
"""


@dataclass(frozen=True)
class Verdict:
    """What one library made of one mistake."""

    outcome: str
    said: str
    named: bool
    placed: bool
    leaked: bool

    def __str__(self) -> str:
        facts = [word for word, holds in (("name", self.named), ("place", self.placed)) if holds]
        if self.leaked:
            facts.append("**the secret**")
        return f"{self.outcome}: {', '.join(facts)}" if facts else self.outcome


def judge(mistake: Mistake, outcome: str, said: str) -> Verdict:
    """Return the verdict on what was said."""
    if outcome == STARTS:
        return Verdict(outcome, "", named=False, placed=False, leaked=False)
    names = [mistake.about] if mistake.about.startswith(".") else [mistake.about, mistake.about.lower()]
    placed = re.search(r"\.env:\d|process environment|command line|secrets?/|/nowhere|\bline \d", said)
    return Verdict(outcome, said, any(name in said for name in names), bool(placed), SENTINEL in said)


def ours(mistake: Mistake, folder: Path) -> Verdict:
    """Return what this project says."""
    environ = lay_out(mistake, folder)
    report = check(None, Sources(environ=environ, root=folder, secrets=(folder / "secrets",)))
    said = "\n".join(map(str, report.problems))
    outcome = "refuses" if report.failed() else "warns" if report.failed(Level.WARNING) else STARTS
    return judge(mistake, outcome, said)


def theirs(mistake: Mistake, folder: Path, python: Path, library: str) -> Verdict:
    """Return what another library says."""
    environ = lay_out(mistake, folder)
    program = Path(__file__).with_name("contenders.py")
    done = subprocess.run(
        [str(python), str(program), library],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    outcome = "refuses" if done.returncode else "warns" if done.stderr.strip() else STARTS
    return judge(mistake, outcome, done.stderr.strip())


def environment(folder: Path) -> Path:
    """Make the virtual environment with the other libraries; return its interpreter."""
    pins = [f"{name}=={version}" for name, version in PINS.items()]
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *pins], check=True)
    return python


def page(verdicts: Mapping[str, list[Verdict]]) -> str:
    """Return the whole page."""
    names = list(verdicts)
    lines = [f"| mistake | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    details = []
    for number, mistake in enumerate(MISTAKES):
        cells = [verdicts[name][number] for name in names]
        lines.append(f"| {mistake.title} | {' | '.join(map(str, cells))} |")
        details.append(f"### {number + 1}. {mistake.title}\n")
        details += [f"- {name}: {quoted(cell)}" for name, cell in zip(names, cells, strict=True)]
        details.append("")
    totals = []
    for name, cells in verdicts.items():
        noticed = sum(cell.outcome != STARTS for cell in cells)
        placed, leaked = sum(cell.placed for cell in cells), sum(cell.leaked for cell in cells)
        text = f"notices {noticed} of {len(cells)}, says the place of {placed}, shows a secret in {leaked}"
        totals.append(f"- {name}: {text}")
    versions = ", ".join(f"{name} {version}" for name, version in PINS.items())
    return PAGE.format(
        versions=versions,
        table="\n".join(lines),
        totals="\n".join(totals),
        longest=LONGEST,
        details="\n".join(details).strip(),
    )


def quoted(verdict: Verdict) -> str:
    """Return what was said in one line of Markdown."""
    if not verdict.said:
        return "nothing; it starts"
    text = " ".join(verdict.said.replace(SENTINEL, "«secret»").replace("`", "'").split())
    return f"`{text[:LONGEST]}{'…' if len(text) > LONGEST else ''}`"


def compare(folder: Path) -> dict[str, list[Verdict]]:
    """Run everything below `folder`; return the verdicts by library."""
    python = environment(folder / "venv")
    sound = Mistake(title="none", about="")
    for name in PINS:
        verdict = theirs(sound, folder / name / "sound", python, name)
        if verdict.outcome != STARTS:
            raise RuntimeError(f"{name} refuses a configuration without a mistake: {verdict.said}")
    verdicts = {OURS: [ours(each, folder / OURS / str(n)) for n, each in enumerate(MISTAKES)]}
    for name in PINS:
        verdicts[name] = [
            theirs(each, folder / name / str(n), python, name) for n, each in enumerate(MISTAKES)
        ]
    return verdicts


def main() -> int:
    """Write the page."""
    with TemporaryDirectory() as folder:
        text = page(compare(Path(folder)))
    (PROJECT / "docs" / "configuration_comparison.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
