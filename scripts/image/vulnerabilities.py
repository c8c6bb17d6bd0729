"""Judge an image by the known weaknesses of what is in it.

Debian's packages are held against the security archive: an installed version that is older than the archive's
is a finding. Python's are held against OSV data where there is any. What is accepted is listed in
docker/vulnerabilities.ini, each with a reason and a last day.
"""

from __future__ import annotations

import configparser
import datetime as dt
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from scripts.image.advisories import Finding
from scripts.pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from scripts.image.sbom import Package

EXCEPTIONS = "docker/vulnerabilities.ini"
ORDER = ("low", "medium", "high", "critical")
UNRATED = "high"
"""What a finding counts as that nobody has rated."""
STRICT = ("staging", "production")


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A finding that is accepted until a day, that day included."""

    id: str
    package: str
    reason: str
    until: dt.date


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the findings amount to: "passed", "warning" or "failed", with the sentences that say why."""

    result: str
    reasons: tuple[str, ...] = ()
    stopping: tuple[Finding, ...] = field(default=())


def outdated(packages: Iterable[Package], available: Mapping[str, str]) -> list[Finding]:
    """Return a finding for each Debian package that the security archive has a newer version of.

    Versions are ordered as Debian Policy 5.6.12 orders them.
    """
    from debian.debian_support import Version

    findings = []
    for package in packages:
        offered = available.get(package.name)
        if package.kind == "deb" and offered and Version(package.version) < Version(offered):
            findings.append(
                Finding(
                    id=f"{package.name} < {offered}",
                    package=package.name,
                    version=package.version,
                    kind="deb",
                    summary="Debian's security archive holds a newer version",
                    fixed=offered,
                )
            )
    return findings


def exceptions(path: Path) -> list[Accepted]:
    """Read what is accepted, nothing when there is no file; raises UsageError (exit 2)."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=path.name)
        return [_exception(parser[name]) for name in parser.sections()]
    except FileNotFoundError:
        return []
    except (configparser.Error, KeyError, ValueError) as error:
        raise UsageError(
            f"An accepted vulnerability is not complete: {error}",
            str(path),
            "give each [ID] a package, a reason and an until (a day as 2026-12-31)",
        ) from error


def _exception(section: configparser.SectionProxy) -> Accepted:
    values = {}
    for name in ("package", "reason", "until"):
        values[name] = section.get(name, "").strip()
        if not values[name]:
            raise ValueError(f"[{section.name}] has no {name}")
    return Accepted(
        id=section.name,
        package=values["package"],
        reason=values["reason"],
        until=dt.date.fromisoformat(values["until"]),
    )


def accept(findings: Iterable[Finding], allowed: Sequence[Accepted], today: dt.date) -> list[Finding]:
    """Mark the findings that an exception still covers with its reason."""
    marked = []
    for finding in findings:
        names = {finding.id, *finding.aliases}
        reason = next(
            (
                f"{each.reason} (until {each.until})"
                for each in allowed
                if each.id in names and each.package == finding.package and today <= each.until
            ),
            "",
        )
        marked.append(replace(finding, accepted=reason) if reason else finding)
    return marked


def judge(
    findings: Iterable[Finding], *, fail_level: str, environment: str, unchecked: Sequence[str] = ()
) -> Verdict:
    """Decide on a release; `unchecked` says what could not be looked at, which staging and production refuse.

    A finding that nobody has rated counts as "high".
    """
    stopping = tuple(
        finding for finding in findings if not finding.accepted and _stops(finding.severity, fail_level)
    )
    reasons = [describe(finding) for finding in stopping]
    if stopping or (unchecked and environment in STRICT):
        return Verdict(result="failed", reasons=(*reasons, *unchecked), stopping=stopping)
    return Verdict(result="warning" if unchecked else "passed", reasons=tuple(unchecked))


def _stops(severity: str, fail_level: str) -> bool:
    return fail_level != "none" and ORDER.index(severity or UNRATED) >= ORDER.index(fail_level)


def describe(finding: Finding) -> str:
    """Return a finding as one line."""
    rating = finding.severity or f"unrated, counts as {UNRATED}"
    if finding.score is not None:
        rating += f" {finding.score}"
    fixed = f"; fixed in {finding.fixed}" if finding.fixed else "; no fix known"
    return f"{finding.package} {finding.version}: {finding.id} ({rating}){fixed}. {finding.summary}".rstrip(
        ". "
    )
