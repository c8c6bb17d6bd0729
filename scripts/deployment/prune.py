"""Drop what no kept release needs: records, secrets, configs, jobs that a dead run left, and old images."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.deployment import release
from scripts.deployment.release import KIND, Release
from scripts.deployment.swarm import STACK_LABEL, Json, Swarm


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was dropped, by name."""

    releases: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    images: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Return how many things were dropped."""
        return sum(len(getattr(self, name)) for name in self.__dataclass_fields__)


def kept(releases: list[Release], keep: int) -> list[Release]:
    """Return the releases to keep, of a list with the newest first.

    Kept are the newest `keep` good ones with different contents, and every deployment that is newer than
    the oldest of them: what failed lately is worth reading.
    """
    contents: list[str] = []
    oldest = 0
    for each in releases:
        if each.good and each.fingerprint not in contents:
            if len(contents) == keep:
                break
            contents.append(each.fingerprint)
            oldest = each.number
    if not contents:
        return releases[: 4 * keep]
    lately = [each for each in releases if each.number >= oldest]
    failed = [each.number for each in lately if not each.good][: 3 * keep]
    return [each for each in lately if each.good or each.number in failed]


def old_releases(swarm: Swarm, stack: str, keep: int) -> Pruned:
    """Drop the records beyond the last `keep` releases, then the secrets and configs that only they name."""
    releases = release.all_of(swarm, stack)
    staying = kept(releases, keep)
    names = {each.number for each in staying}
    dropped = [each for each in releases if each.number not in names]
    for each in dropped:
        swarm.remove_config(each.config_id)
    needed = {name for each in staying for name in (*each.secrets.values(), *each.configs.values())}
    # Swarm refuses to remove what a service uses, so a stack that was changed by hand keeps its own.
    secrets = [
        name for name in _names(swarm.secrets(stack)) if name not in needed and swarm.remove_secret(name)
    ]
    configs = [
        config["Spec"]["Name"]
        for config in swarm.configs(stack)
        if _kind(config) == "config"
        and config["Spec"]["Name"] not in needed
        and swarm.remove_config(config["Spec"]["Name"])
    ]
    return Pruned(
        releases=tuple(release.name_of(stack, each.number) for each in dropped),
        secrets=tuple(secrets),
        configs=tuple(configs),
        jobs=tuple(_jobs(swarm, stack)),
    )


def old_images(swarm: Swarm, stack: str, image: str, keep: int) -> list[str]:
    """Remove this engine's copies of the app's image that no kept release names; return their names.

    Images lie on each node; the others drop theirs when `prune` is pointed at them.
    """
    needed = {each.digest for each in kept(release.all_of(swarm, stack), keep)}
    # Another environment on this engine may run, or go back to, a release of the same repository.
    needed |= {
        labels.get(release.DIGEST, "")
        for labels in swarm.release_labels()
        if labels.get(STACK_LABEL) != stack
    }
    removed = []
    for found in swarm.images(image):
        references = [
            reference for reference in found.get("RepoDigests") or [] if reference.startswith(f"{image}@")
        ]
        digests = {reference.partition("@")[2] for reference in references}
        if digests and not digests & needed:
            removed += [reference for reference in references if swarm.remove_image(reference)]
    return removed


def _jobs(swarm: Swarm, stack: str) -> list[str]:
    names = []
    for service in swarm.jobs(stack):
        swarm.remove_service(service["ID"])
        names.append(service["Spec"]["Name"])
    return names


def _names(objects: list[Json]) -> list[str]:
    return [each["Spec"]["Name"] for each in objects]


def _kind(config: Json) -> str:
    return str((config["Spec"].get("Labels") or {}).get(KIND, ""))
