"""Make the image of the release as an OCI archive."""

from __future__ import annotations

import configparser
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.image import context
from scripts.pipeline.stage import Kind, Outcome, Stage, StageContext

if TYPE_CHECKING:
    from config.settings import Settings

IMAGES = Path(".slipway/images")
INPUTS = (
    *context.PARTS,
    ".dockerignore",
    "scripts/image",
    "scripts/stages/build.py",
)


def stage(settings: Settings, root: Path) -> Stage:
    """Return the stage; it runs again when what goes into the image or how it is made has changed."""
    delivery = settings.delivery
    if delivery is None:
        raise ValueError("the build stage needs the settings of the delivery")
    reference = f"{delivery.registry}/{delivery.image_name}"
    base_image, keep = delivery.base_image, delivery.keep_releases
    revision = context.revision(root)

    def action(work: StageContext) -> Outcome:
        from scripts.image import builder, engine

        # The image is made here, wherever the environment runs.
        client = engine.connect()
        try:
            built = builder.build(
                client,
                root,
                root / IMAGES,
                console=work,
                base_image=base_image,
                labels={"COMMIT": revision, **described(root)},
                keep=keep,
            )
        finally:
            client.close()
        work.say(
            f"{built.digest}: {built.compressed / 1e6:.1f} MB compressed, {built.size / 1e6:.1f} MB on disk"
        )
        return Outcome(
            outputs={
                "digest": built.digest,
                "archive": str(built.archive.relative_to(root)),
                "image": reference,
                "bytes": str(built.size),
                "bytes_compressed": str(built.compressed),
            },
            figures={
                "bytes": built.size,
                "bytes_compressed": built.compressed,
                "seconds": round(built.seconds, 3),
            },
        )

    return Stage(
        name="build",
        kind=Kind.CHECK,
        summary="Make the image as an OCI archive whose digest is then fixed",
        inputs=INPUTS,
        parameters={
            "image": reference,
            "base": base_image,
            "commit": revision,
            "platform": platform.machine(),
        },
        action=action,
        artifacts=archives,
    )


def archives(outputs: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the file without which a proof of this stage is worth nothing."""
    return (Path(outputs["archive"]),)


def described(root: Path) -> dict[str, str]:
    """Return version and source of the project, from setup.cfg, as the Dockerfile's arguments."""
    configuration = configparser.ConfigParser(interpolation=None)
    configuration.read(root / "setup.cfg", encoding="utf-8")
    return {
        "VERSION": configuration.get("metadata", "version", fallback="0"),
        "SOURCE": configuration.get("metadata", "url", fallback=""),
    }
