"""Match Python packages against advisories in the OSV schema (https://ossf.github.io/osv-schema/).

The data is a folder or a zip of one JSON file a record, as OSV publishes it for each ecosystem.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scripts.pipeline.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from packaging.version import Version

TIMEOUT = 30.0
"""Seconds of silence after which fetching is given up."""
Record = Mapping[str, Any]
WORDS = {"LOW": "low", "MODERATE": "medium", "MEDIUM": "medium", "HIGH": "high", "CRITICAL": "critical"}
BOUNDS = ((9.0, "critical"), (7.0, "high"), (4.0, "medium"), (0.1, "low"))


class AdvisoriesUnreachable(UnreachableError):
    """The place that the advisories come from does not answer."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A known weakness of an installed package; `severity` is empty where nobody has rated it."""

    id: str
    package: str
    version: str
    kind: str
    severity: str = ""
    score: float | None = None
    summary: str = ""
    fixed: str = ""
    aliases: tuple[str, ...] = ()
    accepted: str = ""


def load(source: Path, names: set[str]) -> list[Record]:
    """Return the records that speak of any of these PyPI packages; withdrawn ones are left out.

    Raises UsageError (exit 2) when the data is missing, damaged or holds no record.
    """
    wanted = {normal(name) for name in names}
    records = 0
    found: list[Record] = []
    for name, content in _files(source):
        try:
            record = json.loads(content)
        except ValueError as error:
            raise _unreadable(source, f"{name} is not JSON") from error
        if not isinstance(record, dict) or "id" not in record:
            raise _unreadable(source, f"{name} is not an OSV record")
        records += 1
        if not record.get("withdrawn") and any(package in wanted for package in _packages(record)):
            found.append(record)
    if not records:
        raise _unreadable(source, "it holds no advisory")
    return found


def fetched(address: str, folder: Path, day: str) -> Path:
    """Return a day's advisories as a file below `folder`, fetched once; files of other days are removed.

    Raises AdvisoriesUnreachable.
    """
    import urllib.error
    import urllib.request

    path = folder / f"{day}.zip"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{day}.{os.getpid()}.part"
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as answer, draft.open("wb") as file:  # noqa: S310 - the address is the operator's own setting
            shutil.copyfileobj(answer, file)
        draft.replace(path)
    except (OSError, urllib.error.URLError) as error:
        raise AdvisoriesUnreachable(
            f"The advisories cannot be fetched ({getattr(error, 'reason', error)})",
            address,
            "check ADVISORIES_URL and the network, or name a file in ADVISORIES",
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    for old in folder.glob("*.zip"):
        if old != path:
            old.unlink(missing_ok=True)
    return path


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    try:
        if source.is_dir():
            for path in sorted(source.rglob("*.json")):
                yield path.name, path.read_bytes()
        else:
            with zipfile.ZipFile(source) as archive:
                for name in archive.namelist():
                    if name.endswith(".json"):
                        yield name, archive.read(name)
    except (OSError, zipfile.BadZipFile) as error:
        raise _unreadable(source, str(error)) from error


def _unreadable(source: Path, why: str) -> UsageError:
    return UsageError(
        f"The advisories cannot be read: {why}",
        f"ADVISORIES={source}",
        "name a folder or zip in OSV's layout, such as PyPI's all.zip from OSV, or leave ADVISORIES empty",
    )


def _packages(record: Record) -> Iterator[str]:
    for affected in record.get("affected") or ():
        package = affected.get("package") or {}
        if package.get("ecosystem") == "PyPI":
            yield normal(str(package.get("name", "")))


def match(records: list[Record], packages: Mapping[str, str]) -> list[Finding]:
    """Return the findings for packages (name to version), one a weakness however many records tell of it."""
    findings = []
    for record in records:
        for name, version in packages.items():
            entries = [entry for entry in record.get("affected") or () if _concerns(entry, name)]
            if any(is_affected(entry, version) for entry in entries):
                severity, score = rate(record, entries)
                findings.append(
                    Finding(
                        id=str(record["id"]),
                        package=name,
                        version=version,
                        kind="python",
                        severity=severity,
                        score=score,
                        summary=_summary(record),
                        fixed=", ".join(_fixes(entries)),
                        aliases=tuple(sorted(record.get("aliases") or ())),
                    )
                )
    return merge(findings)


def _concerns(entry: Mapping[str, Any], name: str) -> bool:
    package = entry.get("package") or {}
    return package.get("ecosystem") == "PyPI" and normal(str(package.get("name", ""))) == normal(name)


def is_affected(entry: Mapping[str, Any], version: str) -> bool:
    """Tell whether an `affected` entry covers a version, by the schema's evaluation algorithm."""
    installed = _version(version)
    if installed is None:
        return version in (entry.get("versions") or ())
    if any(_version(listed) == installed for listed in entry.get("versions") or ()):
        return True
    return any(
        _in_range(span.get("events") or (), installed)
        for span in entry.get("ranges") or ()
        if span.get("type") in ("ECOSYSTEM", "SEMVER")
    )


def _in_range(events: Any, installed: Version) -> bool:
    """Walk the events in the order of their versions; the last one that applies decides."""
    ordered = []
    for event in events:
        for word, text in event.items():
            version = None if text == "0" else _version(str(text))
            if version is not None or text == "0":
                ordered.append((version, word))
    # A version that is introduced sorts behind one fixed at the same place: it opens the next range.
    ordered.sort(key=lambda item: (item[0] is not None, item[0] or installed, item[1] == "introduced"))
    affected = False
    for version, word in ordered:
        if word == "introduced" and (version is None or installed >= version):
            affected = True
        elif version is not None and (
            (word == "fixed" and installed >= version) or (word == "last_affected" and installed > version)
        ):
            affected = False
    return affected


def _version(text: str) -> Version | None:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(text)
    except InvalidVersion:
        return None


def rate(record: Record, entries: list[Mapping[str, Any]]) -> tuple[str, float | None]:
    """Return severity and CVSS base score; an empty severity where the record has none."""
    given = [*(record.get("severity") or ())]
    for entry in entries:
        given += entry.get("severity") or ()
    scores = [score for each in given if (score := _score(str(each.get("score", "")))) is not None]
    if scores:
        highest = max(scores)
        return next((word for bound, word in BOUNDS if highest >= bound), "low"), highest
    word = str((record.get("database_specific") or {}).get("severity", "")).upper()
    return WORDS.get(word, ""), None


def _score(vector: str) -> float | None:
    """Return the base score of a CVSS vector, version 2, 3 or 4; None for one that is not valid."""
    from cvss import CVSS2, CVSS3, CVSS4
    from cvss.exceptions import CVSSError

    kind = CVSS4 if vector.startswith("CVSS:4") else CVSS3 if vector.startswith("CVSS:3") else CVSS2
    try:
        return float(kind(vector).base_score)
    except (CVSSError, ValueError):
        return None


def _summary(record: Record) -> str:
    text = str(record.get("summary") or record.get("details") or "").strip()
    line = text.splitlines()[0] if text else ""
    return line if len(line) <= 160 else line[:159] + "…"


def _fixes(entries: list[Mapping[str, Any]]) -> list[str]:
    fixed = {
        str(event["fixed"])
        for entry in entries
        for span in entry.get("ranges") or ()
        if span.get("type") in ("ECOSYSTEM", "SEMVER")
        for event in span.get("events") or ()
        if "fixed" in event
    }
    return sorted(fixed)


def merge(findings: list[Finding]) -> list[Finding]:
    """Join findings of one package that are aliases of each other, keeping the worst rating."""
    merged: list[Finding] = []
    for finding in sorted(findings, key=lambda each: each.id):
        names = {finding.id, *finding.aliases}
        for place, other in enumerate(merged):
            if other.package == finding.package and names & {other.id, *other.aliases}:
                worse = max(other, finding, key=lambda each: (each.score or 0.0, each.severity != ""))
                merged[place] = replace(
                    other,
                    severity=worse.severity,
                    score=worse.score,
                    fixed=other.fixed or finding.fixed,
                    aliases=tuple(sorted({*other.aliases, *names} - {other.id})),
                )
                break
        else:
            merged.append(finding)
    return merged


def normal(name: str) -> str:
    """Return a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
