"""What was deployed, kept on the target itself so that any machine can roll back.

Each deployment is a swarm config named `<stack>.release.<number>`: its data, which never changes, is the
whole stack and who put it there; its labels, which may change, say what became of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from scripts.deployment.errors import DeploymentError
from scripts.deployment.swarm import STACK_LABEL, Json, Swarm, decoded

DEPLOYING = "deploying"
SUCCEEDED = "succeeded"
FAILED = "failed"
ROLLED_BACK = "rolled_back"
CANCELLED = "cancelled"
LOST = "lost"

KIND = "dev.slipway.kind"
STATE = "dev.slipway.state"
FINGERPRINT = "dev.slipway.fingerprint"
DIGEST = "dev.slipway.digest"
SERVICES = "dev.slipway.services"
NUMBER = "dev.slipway.number"


@dataclass(frozen=True, kw_only=True)
class Release:
    """One deployment of one digest, as the target remembers it. `created` is RFC 3339 in UTC."""

    number: int
    digest: str
    fingerprint: str
    state: str
    commit: str = ""
    run: str = ""
    owner: str = ""
    created: str = ""
    schema: str = ""
    """The database's schema revision after this release's migrations; empty when unknown."""
    copy_of: int = 0
    """The release that a rollback went back to; 0 for a release of its own."""
    values: Mapping[str, str]
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    configs: Mapping[str, str]
    text: str
    """The whole stack as one compose file."""
    services: str = ""
    """A hash of the service specifications as the swarm took them; empty until the roll-out is over."""
    config_id: str = ""

    @property
    def good(self) -> bool:
        """Tell whether this release came up and was not turned back."""
        return self.state == SUCCEEDED

    def __str__(self) -> str:
        return f"release {self.number} ({self.digest[7:19]}, commit {self.commit[:12] or 'unknown'})"


LABELLED = ("state", "services", "schema", "config_id")


def name_of(stack: str, number: int) -> str:
    """Return the name of the config that records a release."""
    return f"{stack}.release.{number}"


def all_of(swarm: Swarm, stack: str) -> list[Release]:
    """Return the stack's releases, the newest first."""
    return parse(swarm.configs(stack))


def parse(configs: Iterable[Json]) -> list[Release]:
    """Return the releases among a stack's configs, the newest first; one that cannot be read is left out."""
    releases = []
    for config in configs:
        labels = config["Spec"].get("Labels") or {}
        if labels.get(KIND) != "release":
            continue
        try:
            facts: dict[str, Any] = json.loads(decoded(config))
            known = {name: facts[name] for name in (field.name for field in fields(Release)) if name in facts}
            known |= {
                "state": labels.get(STATE, LOST),
                "services": labels.get(SERVICES, ""),
                "schema": labels.get("dev.slipway.schema", ""),
                "config_id": config["ID"],
            }
            releases.append(Release(**known))
        except (ValueError, TypeError):
            continue
    return sorted(releases, key=lambda release: release.number, reverse=True)


def current(releases: Iterable[Release]) -> Release | None:
    """Return what should be serving: the newest release that came up."""
    return next((release for release in releases if release.good), None)


def record(swarm: Swarm, stack: str, release: Release, known: Iterable[Release]) -> Release:
    """Write a new release under the next free number; raise `DeploymentError` when it is too large."""
    number = max((each.number for each in known), default=0) + 1
    while True:
        numbered = replace(release, number=number)
        facts = {name: value for name, value in asdict(numbered).items() if name not in LABELLED}
        data = json.dumps(facts, sort_keys=True).encode()
        if len(data) > 900_000:  # a swarm config holds at most 1,000 KiB
            raise DeploymentError(
                f"The record of the release has {len(data)} bytes, more than a swarm config holds.",
                "docker/stack.yml",
                "Make the stack smaller.",
            )
        created = swarm.create_config(name_of(stack, number), data, _labels(stack, numbered))
        if created:
            return replace(numbered, config_id=created)
        number += 1


def mark(swarm: Swarm, stack: str, release: Release, **changes: str) -> Release:
    """Change what is said of a release (`state`, `services`, `schema`) and return it."""
    changed = replace(release, **changes)  # type: ignore[arg-type]
    config = swarm.config(release.config_id)
    if config is not None:
        swarm.label_config(config, _labels(stack, changed))
    return changed


def _labels(stack: str, release: Release) -> dict[str, str]:
    return {
        STACK_LABEL: stack,
        KIND: "release",
        NUMBER: str(release.number),
        STATE: release.state,
        DIGEST: release.digest,
        FINGERPRINT: release.fingerprint,
        SERVICES: release.services,
        "dev.slipway.schema": release.schema,
    }


def services_hash(services: Iterable[Json]) -> str:
    """Return a hash of service specifications as the swarm holds them: any change by hand changes it."""
    specs = sorted((service["Spec"] for service in services), key=lambda spec: str(spec["Name"]))
    return hashlib.sha256(json.dumps(specs, sort_keys=True).encode()).hexdigest()[:16]
