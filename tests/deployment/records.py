"""Releases and renderings for tests of the decisions, which need no engine."""

from dataclasses import replace

from scripts.deployment.release import SUCCEEDED, Release
from scripts.deployment.stack import Rendering

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64

RENDERING = Rendering(
    stack="s",
    digest=DIGEST,
    values={"STACK_NAME": "s", "IMAGE": f"r/i@{DIGEST}", "REPLICAS": "2", "PROXY_CONFIG": "s.proxy.111"},
    environment={"ENVIRONMENT": "development", "RELEASE_DIGEST": DIGEST},
    secrets={"SECRET_KEY": "s.SECRET_KEY.aaa"},
    configs={"proxy": "s.proxy.111"},
    pids=128,
    volume="s_data",
    file_hash="f",
)


def release(number: int, *, digest: str = DIGEST, state: str = SUCCEEDED, fingerprint: str = "") -> Release:
    """Return a release as the target would remember it."""
    rendering = replace(RENDERING, digest=digest)
    return Release(
        number=number,
        digest=digest,
        fingerprint=fingerprint or rendering.fingerprint,
        state=state,
        values=rendering.values,
        environment={**rendering.environment, "RELEASE_DIGEST": digest},
        secrets=rendering.secrets,
        configs=rendering.configs,
        text="",
    )
