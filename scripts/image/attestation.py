"""Keep a release's proofs beside its image in the registry, so that another machine may promote it.

They are an artifact of the OCI image specification 1.1: a manifest whose `subject` is the image and whose one
layer is the proofs as JSON. It has a tag made from the image's digest, the fallback that the distribution
specification gives for registries without the referrers API. A second tag leads from a commit to the digest
that was built from it. The proofs are as trustworthy as the right to write to the registry: they carry no
signature.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from scripts.image import oci
from scripts.pipeline.errors import StageFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scripts.image.registry import Registry

PROOFS = "application/vnd.slipway.proofs.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"


class AttestationDamaged(StageFailure):
    """What the registry holds as a release's proofs does not belong to the release."""


def publish(
    registry: Registry, name: str, digest: str, proofs: Mapping[str, Mapping[str, Any]], *, commit: str = ""
) -> None:
    """Put the proofs (stage name -> JSON content) of a pushed image beside it; its commit then leads to it.

    Raises RegistryUnreachable or RegistryRefused.
    """
    image = registry.raw_manifest(name, digest)
    layer = registry.put_blob(name, PROOFS, _encoded({"digest": digest, "commit": commit, "proofs": proofs}))
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "artifactType": PROOFS,
        "config": _described(registry.put_blob(name, EMPTY, b"{}")),
        "layers": [_described(layer)],
        "subject": {"mediaType": oci.MANIFEST, "digest": digest, "size": len(image)},
    }
    registry.put_manifest(name, _encoded(manifest), _tag_of(digest))
    if commit:
        registry.put_manifest(name, image, _tag_of_commit(commit))


def add(
    registry: Registry, name: str, digest: str, proofs: Mapping[str, Mapping[str, Any]], *, commit: str = ""
) -> None:
    """Publish proofs beside those that the image has already; what is damaged there is replaced.

    Raises RegistryUnreachable or RegistryRefused.
    """
    try:
        known = read(registry, name, digest) or {}
    except AttestationDamaged:
        known = {}
    publish(
        registry,
        name,
        digest,
        {**known.get("proofs", {}), **proofs},
        commit=commit or str(known.get("commit", "")),
    )


def published(registry: Registry, name: str, digest: str, *, commit: str = "") -> bool:
    """Tell whether an image's proofs are beside it, and its commit leads to it.

    Raises RegistryUnreachable or RegistryRefused.
    """
    return registry.has(name, _tag_of(digest)) and (not commit or find(registry, name, commit) == digest)


def read(registry: Registry, name: str, digest: str) -> dict[str, Any] | None:
    """Return {"digest", "commit", "proofs"} of an image, or None when the registry holds none.

    Raises RegistryUnreachable, RegistryRefused or AttestationDamaged.
    """
    tag = _tag_of(digest)
    if not registry.has(name, tag):
        return None
    try:
        manifest = json.loads(registry.raw_manifest(name, tag))
        content: dict[str, Any] = json.loads(registry.blob(name, manifest["layers"][0]["digest"]))
        fits = manifest["subject"]["digest"] == content["digest"] == digest
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise _damaged(registry, name, tag) from error
    if not fits:
        raise _damaged(registry, name, tag)
    return content


def find(registry: Registry, name: str, commit: str) -> str | None:
    """Return the digest of the image that was pushed for a commit, or None."""
    return registry.digest(name, _tag_of_commit(commit))


def _tag_of(digest: str) -> str:
    return f"{digest.replace(':', '-')}.proofs"


def _tag_of_commit(commit: str) -> str:
    return f"commit-{commit}"


def _encoded(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _described(blob: oci.Blob) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}


def _damaged(registry: Registry, name: str, tag: str) -> AttestationDamaged:
    return AttestationDamaged(
        "The proofs that the registry holds are not this release's",
        f"{registry.host}/{name}:{tag}",
        "invoke push at its commit, which proves it again",
    )
