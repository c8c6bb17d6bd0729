"""Put the image into the registry, by digest, uploading only what it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scripts.pipeline.errors import SlipwayError, StageFailure
from scripts.pipeline.stage import Decision, Kind, Outcome, Outputs, Stage, StageContext

if TYPE_CHECKING:
    from config.settings import Settings
    from scripts.image.registry import Registry


def stage(settings: Settings, root: Path) -> Stage:
    """Return the stage; it does nothing when the registry holds the digest already."""
    delivery = settings.delivery
    if delivery is None:
        raise ValueError("the push stage needs the settings of the delivery")
    host, _, path = delivery.registry.partition("/")
    name = f"{path}/{delivery.image_name}" if path else delivery.image_name
    base_image = delivery.base_image

    def observe(outputs: Outputs) -> Decision:
        digest = outputs.get("build", {}).get("digest", "")
        if not digest:
            return Decision(run=True, reason="the image is not built yet")
        try:
            present = _registry(host).has(name, digest)
        except SlipwayError as problem:
            return Decision(run=True, reason=f"{host}: {problem.what}")
        if not present:
            return Decision(run=True, reason=f"{host} lacks {digest[:19]}")
        return Decision(run=False, reason=f"{host} holds {digest[:19]}", outputs=_outputs(host, name, digest))

    def action(work: StageContext) -> Outcome:
        from scripts.image import engine, local_registry
        from scripts.image.registry import is_loopback

        built = work.outputs["build"]
        if is_loopback(host) and not _registry(host).answers():
            client = engine.connect()
            try:
                local_registry.ensure(client, host, base_image=base_image, root=root, console=work)
            finally:
                client.close()
        work.progress(f"pushing to {host}/{name}")
        pushed = _registry(host, work).push_archive(
            root / built["archive"],
            name,
            lambda done, everything: work.progress(f"pushed {done / 1e6:.1f} of {everything / 1e6:.1f} MB"),
        )
        if pushed.digest != built["digest"]:
            raise StageFailure(
                f"The archive holds {pushed.digest}, the build made {built['digest']}",
                built["archive"],
                'build it again: "invoke build --force"',
            )
        work.say(
            f"{host}/{name}@{pushed.digest}: {pushed.uploaded_bytes / 1e3:.0f} kB uploaded,"
            f" {pushed.skipped_bytes / 1e6:.1f} MB there already"
        )
        return Outcome(
            outputs=_outputs(host, name, pushed.digest),
            figures={"uploaded_bytes": pushed.uploaded_bytes, "skipped_bytes": pushed.skipped_bytes},
        )

    return Stage(
        name="push",
        kind=Kind.EFFECT,
        needs=("lint", "test", "build", "scan"),
        summary="Put the image into the registry, by digest",
        parameters={"image": f"{host}/{name}"},
        action=action,
        observe=observe,
    )


def _outputs(host: str, name: str, digest: str) -> dict[str, str]:
    return {"reference": f"{host}/{name}@{digest}"}


def _registry(host: str, work: StageContext | None = None) -> Registry:
    """Return a client with whatever credentials `docker login` has stored for the registry."""
    from scripts.image.registry import Registry, stored_credentials

    username, password = stored_credentials(host)
    if work is None:
        return Registry(host, username=username, password=password, timeout=5.0)
    return Registry(host, username=username, password=password, check=work.raise_if_cancelled)
