"""What a deployment would change, in lines that hold no secret."""

from __future__ import annotations

from collections.abc import Mapping

from scripts.deployment.release import Release
from scripts.deployment.stack import Rendering

SHOWN_ELSEWHERE = ("IMAGE", "STACK_NAME", "PROXY_CONFIG")


def difference(before: Release | None, after: Rendering) -> list[str]:
    """Return a line for each thing that would differ from what runs; secrets by name only."""
    if before is None:
        return [f"first deployment of {short(after.digest)}, {after.values['REPLICAS']} replicas"]
    lines = []
    if before.digest != after.digest:
        lines.append(f"image {short(before.digest)} -> {short(after.digest)}")
    lines += _mapping("", _without(before.values), _without(after.values))
    environment = {name: value for name, value in after.environment.items() if name != "RELEASE_DIGEST"}
    earlier = {name: value for name, value in before.environment.items() if name != "RELEASE_DIGEST"}
    lines += _mapping("environment ", earlier, environment)
    lines += _mapping("secret ", _versions(before.secrets), _versions(after.secrets))
    lines += _mapping("config ", _versions(before.configs), _versions(after.configs))
    if not lines and before.fingerprint != after.fingerprint:
        lines.append("docker/stack.yml changed")
    return lines


def drift(before: Release | None, found: str) -> bool:
    """Tell whether services were changed by hand since the release: `found` is the hash of what runs."""
    return before is not None and before.services != found


def short(digest: str) -> str:
    """Return the first twelve hexadecimal digits of a digest."""
    return digest.removeprefix("sha256:")[:12]


def _without(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if name not in SHOWN_ELSEWHERE}


def _versions(names: Mapping[str, str]) -> dict[str, str]:
    return {name: on_swarm.rpartition(".")[2] for name, on_swarm in names.items()}


def _mapping(prefix: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    lines = []
    for name in sorted({*before, *after}):
        if name not in before:
            lines.append(f"{prefix}{name} + {after[name]}")
        elif name not in after:
            lines.append(f"{prefix}{name} - {before[name]}")
        elif before[name] != after[name]:
            lines.append(f"{prefix}{name} {before[name]} -> {after[name]}")
    return lines
