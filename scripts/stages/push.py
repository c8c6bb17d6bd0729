"""Put the image into the registry, by digest, uploading only what it lacks, and its proofs beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scripts.image import attestation, context, repository
from scripts.pipeline.errors import SlipwayError, StageFailure
from scripts.pipeline.fingerprint import STATE
from scripts.pipeline.proofs import Proofs
from scripts.pipeline.stage import Decision, Kind, Outcome, Outputs, Stage, StageContext

if TYPE_CHECKING:
    from config.settings import Settings


def stage(settings: Settings, root: Path, *, promoted: bool = False) -> Stage:
    """Return the stage; it does nothing when the registry holds the digest and its proofs already.

    A `promoted` release was not built from the commit that is checked out, so that does not lead to it.
    """
    delivery = settings.delivery
    if delivery is None:
        raise ValueError("the push stage needs the settings of the delivery")
    host, name = repository.place(delivery.registry, delivery.image_name)
    base_image = delivery.base_image

    began = "" if promoted else context.head(root)

    def commit() -> str:
        # A commit made while the run went on does not lead to what was built before it.
        return began if began == context.head(root) else ""

    def observe(outputs: Outputs) -> Decision:
        digest = outputs.get("build", {}).get("digest", "")
        if not digest:
            return Decision(run=True, reason="the image is not built yet")
        registry = repository.client(host)
        try:
            if not registry.has(name, digest):
                return Decision(run=True, reason=f"{host} lacks {digest[:19]}")
            if not attestation.published(registry, name, digest, commit=commit()):
                return Decision(run=True, reason=f"{host} lacks the proofs of {digest[:19]} for this commit")
        except SlipwayError as problem:
            return Decision(run=True, reason=f"{host}: {problem.what}")
        return Decision(run=False, reason=f"{host} holds {digest[:19]}", outputs=_outputs(host, name, digest))

    def action(work: StageContext) -> Outcome:
        from scripts.image import engine, local_registry
        from scripts.image.registry import is_loopback

        built = work.outputs["build"]
        if is_loopback(host) and not repository.client(host).answers():
            docker = engine.connect()
            try:
                local_registry.ensure(docker, host, base_image=base_image, root=root, console=work)
            finally:
                docker.close()
        work.progress(f"pushing to {host}/{name}")
        registry = repository.client(host, work)
        pushed = registry.push_archive(
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
        proofs = Proofs(root / STATE / "proofs").for_release(pushed.digest)
        attestation.add(
            registry,
            name,
            pushed.digest,
            {stage: proof.content(whole=False) for stage, proof in proofs.items()},
            commit=commit(),
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
