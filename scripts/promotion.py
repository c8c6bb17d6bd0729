"""Find a release to promote: its digest, and the proofs that it brings along, here or in the registry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from scripts.image import attestation, repository
from scripts.pipeline.errors import UsageError
from scripts.pipeline.fingerprint import STATE
from scripts.pipeline.proofs import Proof, Proofs, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from config.settings import Settings
    from scripts.image.registry import Registry

AGAIN = "invoke push at its commit, which proves it again"
OF_THE_TREE = ("lint", "test", "build")
"""Stages whose proofs a release brings along. The others are decided for the target: the scan looks with the
target's policy at what is known today, push and deploy look at the target itself."""


def proofs_of(
    release: str, names: Sequence[str], settings: Settings, root: Path, registry: Registry | None = None
) -> Mapping[str, Proof]:
    """Return the proofs of a release, named by its digest or by the commit that it was built from.

    Raises UsageError when there is no such release or a proof is missing, RegistryUnreachable when the
    registry would have to tell and does not answer.
    """
    if settings.delivery is None:
        raise ValueError("a promotion needs the settings of the delivery")
    host, name = repository.place(settings.delivery.registry, settings.delivery.image_name)
    registry = registry or repository.client(host)
    digest = _digest(release, registry, name)
    where = f"{root / STATE / 'releases'} and {host}/{name}"
    wanted = [stage for stage in OF_THE_TREE if stage in names]
    found = Proofs(root / STATE / "proofs").for_release(digest)
    if not set(wanted) <= set(found):
        known = attestation.read(registry, name, digest)
        found = {**_parsed(known, digest, where), **found} if known else found
    missing = [stage for stage in wanted if stage not in found]
    if missing:
        raise UsageError(
            f"{digest} has no proof of {', '.join(missing)}, so it is not promoted",
            where=where,
            next_step=AGAIN,
        )
    if "build" in wanted:
        _require_same(found["build"], digest, where)
    return {stage: found[stage] for stage in wanted}


def _parsed(known: Mapping[str, Any], digest: str, where: str) -> Mapping[str, Proof]:
    try:
        return {stage: parse(proof) for stage, proof in known["proofs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"the proofs of {digest} cannot be read", where=where, next_step=AGAIN) from error


def _require_same(build: Proof, digest: str, where: str) -> None:
    """Refuse a build's proof that speaks of another image, or of a file elsewhere; it comes from outside."""
    archive = f".slipway/images/{digest.removeprefix('sha256:')}.tar"
    if build.outputs.get("digest") != digest or build.outputs.get("archive") != archive:
        raise UsageError(f"the build's proof is not that of {digest}", where=where, next_step=AGAIN)


def _digest(release: str, registry: Registry, name: str) -> str:
    if re.fullmatch(r"sha256:[0-9a-f]{64}", release):
        return release
    if not re.fullmatch(r"[0-9a-f]{40}", release):
        raise UsageError(
            f"{release!r} names no release",
            where="--release",
            next_step="give a digest (sha256:, then 64 hexadecimal digits) or a whole commit hash",
        )
    digest = attestation.find(registry, name, release)
    if digest is None:
        raise UsageError(
            f"no release was pushed for commit {release}",
            where=f"{registry.host}/{name}",
            next_step="invoke push at that commit",
        )
    return digest
