"""deploy: put the pushed release on its target, or leave what served before serving."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from config.settings import Settings
from scripts.deployment.target import Target
from scripts.pipeline.stage import Decision, Kind, Outcome, Outputs, Stage, StageContext

if TYPE_CHECKING:
    from scripts.deployment.swarm import Swarm

REVISION = "org.opencontainers.image.revision"
SUMMARY = "put the release on its target, or leave what served before serving"
MARGIN_SECONDS = 300.0
"""On top of DEPLOY_TIMEOUT: waiting for the lock, and putting back what served before."""
GRACE_SECONDS = 150.0


def stage(settings: Settings, root: Path) -> Stage:
    """Return the stage for the environment of `settings`."""
    target = Target.from_settings(settings)

    def observe(outputs: Outputs) -> Decision:
        return _observe(target, root, outputs)

    def action(context: StageContext) -> Outcome:
        return _deploy(target, root, context)

    return Stage(
        name="deploy",
        kind=Kind.EFFECT,
        summary=SUMMARY,
        needs=("push",),
        parameters={"environment": settings.environment},
        action=action,
        observe=observe,
        timeout=target.timeout + target.watch + MARGIN_SECONDS,
        grace=GRACE_SECONDS,
    )


def _pushed(target: Target, outputs: Outputs) -> tuple[Target, str]:
    """Return the target with the repository that the release was pushed to, and the release's digest."""
    repository, _, digest = outputs["push"]["reference"].partition("@")
    return replace(target, repository=repository), digest


def _observe(target: Target, root: Path, outputs: Outputs) -> Decision:
    from scripts.deployment.deployment import observed
    from scripts.deployment.swarm import Swarm

    aim, digest = _pushed(target, outputs)
    needed, reason, current = observed(aim, digest, root, Swarm(aim.docker_host))
    if needed or current is None:
        return Decision(run=True, reason=reason)
    told = {"result": "unchanged", "previous": current.digest, "url": aim.public_url, "digest": digest}
    return Decision(run=False, reason=reason, outputs=told)


def _deploy(target: Target, root: Path, context: StageContext) -> Outcome:
    from scripts.deployment import deployment, release, supply
    from scripts.deployment.errors import DeploymentFailed, EngineRefused
    from scripts.deployment.swarm import Swarm
    from scripts.image.engine import cli

    aim, digest = _pushed(target, context.outputs)
    swarm = Swarm(aim.docker_host)
    proxy = supply.proxy_image(aim, root)
    order = deployment.Order(
        target=aim,
        digest=digest,
        root=root,
        docker=tuple(cli(aim.docker_host)),
        run=context.run_id,
        commit=commit(swarm, f"{aim.image}@{digest}"),
        supply=lambda: supply.provide(aim, swarm, proxy, root, context),
        proxy_image=proxy,
    )
    try:
        before = release.current(release.all_of(swarm, aim.stack))
    except EngineRefused:  # in no swarm yet: the deployment makes one, or says what to do
        before = None
    try:
        done = deployment.deploy(order, swarm, context)
    except DeploymentFailed as error:
        previous = before.digest if before else ""
        error.outputs = {"result": "failed", "previous": previous, "url": aim.public_url, "digest": digest}
        raise
    outputs = {
        "result": done.result,
        "previous": done.previous,
        "url": done.url,
        "digest": done.digest,
        "number": str(done.number),
        "commit": order.commit,
    }
    return Outcome(outputs=outputs, figures={"requests": float(done.requests), "errors": float(done.errors)})


def commit(swarm: Swarm, reference: str) -> str:
    """Return the commit that a release says it was built from, by the target or by the registry."""
    from scripts.image import repository

    told = swarm.image_label(reference, REVISION)
    if told:
        return told
    image, _, digest = reference.partition("@")
    host, _, name = image.partition("/")
    return repository.client(host).labels(name, digest).get(REVISION, "")
