"""What a user can cause, told in three parts: what happened, where, and what to do next."""

from collections.abc import Mapping, Sequence


class SlipwayError(Exception):
    """Something that a user can put right.

    `what` is one sentence, `where` names the file, stage or host, `next_step` says what to type or change.
    """

    exit_code = 1

    def __init__(self, what: str, where: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.next_step = next_step

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"  where: {self.where}")
        if self.next_step:
            parts.append(f"  next: {self.next_step}")
        return "\n".join(parts)


class UsageError(SlipwayError):
    """The command line or the tree cannot be run as it is; exit code 2."""

    exit_code = 2


class UnreachableError(SlipwayError):
    """A tool, engine, registry or target does not answer; exit code 4."""

    exit_code = 4


class StageFailure(SlipwayError):  # noqa: N818 a failed check is a result, not an error of the program
    """A stage looked and found fault, or tried and did not succeed; exit code 1 unless a subclass says so.

    `details` are the lines to show first: findings, failing tests, the end of a command's output. `outputs`
    and `figures` are recorded although the stage failed: a deployment that was rolled back, the tests that
    ran.
    """

    def __init__(
        self,
        what: str,
        where: str = "",
        next_step: str = "",
        details: Sequence[str] = (),
        outputs: Mapping[str, str] | None = None,
        figures: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(what, where, next_step)
        self.details = tuple(details)
        self.outputs: Mapping[str, str] = outputs or {}
        self.figures: Mapping[str, float] = figures or {}


class Cancelled(BaseException):
    """The run is being stopped: not an Exception, so that no stage swallows it by accident."""
