"""JUnit XML, one file or a folder of them: each case an event, each suite a run with its figures.

A case is `dev.slipway.test.finished`; a suite is `dev.slipway.run.finished` with one stage, `test`, so that
imported runs stand beside our own. The format has no standard; we read what pytest, Maven and Gradle write.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.parsers import expat

from scripts.database.populate.steps import Record, Step, printable

CHUNK = 65536
LONGEST_MESSAGE = 500  # characters of a failure's message; the report keeps the rest
APART = ("timestamp", "content")  # one of them tells the runs of a suite apart
VERDICTS = {"failure": "failed", "error": "error", "skipped": "skipped"}


def steps(path: Path) -> tuple[Step, ...]:
    """Return the steps of the report or of every report below a folder."""
    return (
        Step(
            name="cases",
            summary="every test case",
            records=lambda: records(path, "case"),
            event=case_event,
            total=lambda: sum(file.stat().st_size for file in files(path)),
        ),
        Step(
            name="suites",
            summary="every suite as a run, with its figures",
            needs=("cases",),
            records=lambda: records(path, "suite"),
            event=suite_event,
            total=lambda: sum(file.stat().st_size for file in files(path)),
        ),
    )


def files(path: Path) -> list[Path]:
    """Return the reports, in order of their names."""
    return sorted(file for file in path.rglob("*.xml") if file.is_file()) if path.is_dir() else [path]


def records(path: Path, wanted: str) -> Iterator[Record]:
    """Yield the cases or the suites of every report, each as JSON."""
    before = 0
    for file in files(path):
        reader = Reader(file)
        for kind, line, content in reader.read():
            if kind in (wanted, "problem"):
                raw = json.dumps(content, sort_keys=True).encode()
                problem = str(content["problem"]) if kind == "problem" else None
                yield Record(
                    line=line, raw=raw, done=before + reader.position, file=str(file), problem=problem
                )
        before += file.stat().st_size


class Reader:
    """Reads one report in pieces, so that a large one does not fill the memory."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.position = 0
        self._found: list[tuple[str, int, dict[str, Any]]] = []
        self._suites: list[dict[str, Any]] = []
        self._case: dict[str, Any] | None = None
        self._content = ""
        self._untimed = 0
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def read(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Yield (case, suite or problem; line; content) in the order of the file."""
        with self.file.open("rb") as stream:
            while True:
                piece = stream.read(CHUNK)
                self.position += len(piece)
                try:
                    self._parser.Parse(piece, not piece)
                except expat.ExpatError as error:
                    reason = f"{self.file.name} is not XML: {expat.errors.messages[error.code]}"
                    self._found.append(("problem", error.lineno, {"problem": reason}))
                    piece = b""
                yield from self._found
                self._found.clear()
                if not piece:
                    return

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "testsuite":
            self._suites.append(
                {
                    "suite": attributes.get("name") or printable(Path(self.file.stem)),
                    **self._told_apart(attributes.get("timestamp")),
                    "line": self._parser.CurrentLineNumber,
                    "seconds": attributes.get("time") or "0",
                    "cases": 0,
                    "passed": 0,
                    "failed": 0,
                    "error": 0,
                    "skipped": 0,
                }
            )
        elif name == "testcase" and self._suites:
            suite = self._suites[-1]
            suite["cases"] += 1
            self._case = {
                "suite": suite["suite"],
                **{name: suite[name] for name in APART if name in suite},
                "number": suite["cases"],
                "class": attributes.get("classname", ""),
                "name": attributes.get("name", ""),
                "seconds": attributes.get("time") or "0",
                "result": "passed",
                "message": None,
            }
        elif name in VERDICTS and self._case is not None and self._case["result"] == "passed":
            self._case["result"] = VERDICTS[name]
            self._case["message"] = attributes.get("message", "")[:LONGEST_MESSAGE]

    def _end(self, name: str) -> None:
        line = self._parser.CurrentLineNumber
        if name == "testcase" and self._case is not None:
            self._suites[-1][self._case["result"]] += 1
            self._found.append(("case", line, self._case))
            self._case = None
        elif name == "testsuite" and self._suites:
            suite = self._suites.pop()
            line = suite.pop("line")
            if suite["cases"]:
                self._found.append(("suite", line, suite))

    def _told_apart(self, timestamp: str | None) -> dict[str, str]:
        """Return what tells this suite's runs apart: its time, or else what the whole report says."""
        if timestamp:
            return {"timestamp": timestamp}
        if not self._content:
            with self.file.open("rb") as stream:
                self._content = hashlib.file_digest(stream, "sha256").hexdigest()
        self._untimed += 1
        return {"content": f"{self._content}/{self._untimed}"}


def key(content: Mapping[str, Any]) -> str:
    """Return what tells the runs of one suite apart."""
    return str(content.get("timestamp") or content["content"])


def happened(record: Record, content: Mapping[str, Any]) -> str:
    """Return when a suite ran: as it says, or else when the report was written; raises ValueError."""
    if "timestamp" in content:
        return moment(content["timestamp"])
    return datetime.fromtimestamp(Path(record.file).stat().st_mtime, UTC).isoformat()


def case_event(record: Record) -> Mapping[str, Any]:
    """Return the event of one test case; raises ValueError for a time or duration that is none."""
    case = json.loads(record.raw)
    return {
        "specversion": "1.0",
        "id": digest(case["suite"], key(case), case["class"], case["name"], case["number"]),
        "source": f"urn:slipway:junit:{quote(case['suite'], safe='')[:900]}",
        "type": "dev.slipway.test.finished",
        "time": happened(record, case),
        "subject": ".".join(part for part in (case["class"], case["name"]) if part)[:1024] or None,
        "data": {
            "run": run_name(case),
            "suite": case["suite"],
            "class": case["class"],
            "name": case["name"],
            "result": case["result"],
            "seconds": seconds(case["seconds"]),
            "message": case["message"],
        },
    }


def suite_event(record: Record) -> Mapping[str, Any]:
    """Return the event of one suite, as the run of a stage `test`."""
    suite = json.loads(record.raw)
    bad = suite["failed"] + suite["error"]
    result = "failure" if bad else "success"
    figures = {"tests": suite["cases"], "failed": bad, "skipped": suite["skipped"]}
    stage = {"name": "test", "kind": "check", "result": result, "reason": "imported from JUnit XML"}
    return {
        "specversion": "1.0",
        "id": digest(suite["suite"], key(suite)),
        "source": f"urn:slipway:junit:{quote(suite['suite'], safe='')[:900]}",
        "type": "dev.slipway.run.finished",
        "time": happened(record, suite),
        "subject": suite["suite"][:1024],
        "data": {
            "run": run_name(suite),
            "command": "test",
            "result": result,
            "started": happened(record, suite),
            "seconds": seconds(suite["seconds"]),
            "stages": [{**stage, "seconds": seconds(suite["seconds"]), "figures": figures}],
        },
    }


def run_name(content: Mapping[str, Any]) -> str:
    """Return the name of the run that a suite stands for: the same for each of its cases."""
    return f"junit-{digest(content['suite'], key(content))[:16]}"


def digest(*parts: object) -> str:
    """Return a short hash of what makes a record the same one in another copy of the file."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]


def moment(text: str) -> str:
    """Return a report's time as RFC 3339; one without a zone is taken as UTC. Raises ValueError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"timestamp: {text[:40]!r} is not a time") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


def seconds(text: str) -> float:
    """Return a duration, which some writers group with commas; raises ValueError."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        raise ValueError(f"time: {text[:40]!r} is not a number of seconds") from None
