"""What can go wrong with a target, as messages that name the next action."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from scripts.pipeline.errors import StageFailure


class DeploymentError(StageFailure):
    """The deployment stopped before it changed what serves."""


class LockHeld(DeploymentError):  # noqa: N818
    """Another run holds the target's lock."""


class LockLost(DeploymentError):  # noqa: N818
    """Somebody broke this run's lock, or it could not be kept alive."""


class RolloutFailed(DeploymentError):  # noqa: N818
    """The swarm could not bring the release up; `details` hold what its containers said."""


class Unhealthy(DeploymentError):  # noqa: N818
    """The release came up but does not answer as it must."""


class NothingServes(DeploymentError):  # noqa: N818
    """The deployment failed, and what served before could not be put back."""


class DeploymentFailed(DeploymentError):  # noqa: N818
    """The release did not serve, and what served before serves again; `outputs` tell a run's record which."""

    exit_code = 3
    outputs: Mapping[str, str] = MappingProxyType({})


class TargetUnreachable(DeploymentError):  # noqa: N818
    """The target's engine does not answer, or is not what a deployment needs."""

    exit_code = 4


class EngineRefused(DeploymentError):  # noqa: N818
    """The engine answered a request with an error; `status` is its HTTP status."""

    def __init__(
        self, what: str, where: str = "", next_step: str = "", details: Sequence[str] = (), *, status: int
    ) -> None:
        super().__init__(what, where, next_step, details)
        self.status = status
