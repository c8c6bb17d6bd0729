"""Keeps secret values out of every line, event and file of a run."""

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from urllib.parse import quote

from scripts.pipeline import events
from scripts.pipeline.errors import SlipwayError, StageFailure
from scripts.pipeline.stage import Outcome

STARS = "***"
SHORTEST = 4
"""A secret shorter than this would blank out ordinary words; the settings refuse such secrets anyway."""


def forms(secret: str) -> Iterable[str]:
    """Yield the ways in which a secret may be written: as it is, each of its lines, in a URL, in base64."""
    yield secret
    yield from secret.splitlines()
    yield quote(secret, safe="")
    yield base64.b64encode(secret.encode()).decode().rstrip("=")


class Mask:
    """Replaces every known secret value in a text by stars."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        words = {form for secret in secrets for form in forms(secret) if len(form) >= SHORTEST}
        # The longest first, so that a secret within another one leaves no rest behind.
        longest = sorted(words, key=len, reverse=True)
        self._expression = re.compile("|".join(map(re.escape, longest))) if longest else None

    def __call__(self, text: str) -> str:
        """Return the text without secret values."""
        return self._expression.sub(STARS, text) if self._expression else text

    def event(self, event: events.Event) -> events.Event:
        """Return the event without secret values in any of its texts."""
        if self._expression is None:
            return event
        if isinstance(event, events.StageFinished):
            return replace(
                event,
                reason=self(event.reason),
                note=self(event.note),
                outcome=self.outcome(event.outcome),
                failure=self.failure(event.failure),
            )
        if isinstance(event, events.StageStarted):
            return replace(event, reason=self(event.reason))
        if isinstance(event, events.Notice):
            return replace(event, text=self(event.text))
        if isinstance(event, events.RunStarted):
            lines = [
                replace(line, decision=replace(line.decision, reason=self(line.decision.reason)))
                for line in event.plan
            ]
            return replace(event, plan=tuple(lines))
        return event

    def outcome(self, outcome: Outcome | None) -> Outcome | None:
        """Return the outcome without secret values."""
        return replace(outcome, outputs=self.outputs(outcome.outputs)) if outcome else None

    def outputs(self, outputs: Mapping[str, str]) -> Mapping[str, str]:
        """Return outputs without secret values."""
        return {name: self(value) for name, value in outputs.items()}

    def failure(self, failure: SlipwayError | None) -> SlipwayError | None:
        """Return the failure without secret values, of a class that has the same exit code."""
        if failure is None:
            return None
        masked = StageFailure(
            self(failure.what),
            self(failure.where),
            self(failure.next_step),
            [self(line) for line in getattr(failure, "details", ())],
        )
        masked.exit_code = failure.exit_code
        return masked
