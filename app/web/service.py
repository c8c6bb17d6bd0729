"""What the handlers of one process share: settings, connection manager, release, draining or not."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

from app.ledger import tokens
from app.ledger.metrics import Requests
from config.masking import Masker

from . import release
from .problems import ProblemError
from .readiness import Readiness, SchemaCheck

if TYPE_CHECKING:
    from app.database import ConnectionManager
    from config.secret import Secret
    from config.settings import Settings


CHALLENGE = 'Bearer realm="slipway"'


class Service:
    """The state of one serving process; `settings` change under running requests when a secret rotates."""

    def __init__(self, settings: Settings, manager: ConnectionManager) -> None:
        self.masker = Masker()
        self.use(settings)
        self.manager = manager
        self.release = release.current()
        self.requests = Requests()
        self.draining = threading.Event()
        self._schema = SchemaCheck()
        self._ensured: Secret | None = None

    def use(self, settings: Settings) -> None:
        """Serve with these settings from now on; the secrets of those before stay masked."""
        self.masker.add(*(secret.reveal() for secret in settings.secrets()))
        self.settings = settings

    def readiness(self) -> Readiness:
        """Tell whether this process should get requests now."""
        if self.draining.is_set():
            return Readiness(ready=False, reason="draining")
        answer = self._schema.check(self.manager)
        if answer.ready:
            self._ensure_token()
        return answer

    def authorize(self, header: str, scope: str) -> None:
        """Let a request with this Authorization header pass when its token has `scope`.

        Raises ProblemError: 401 without a valid token, 403 when it does not open this.
        """
        scheme, _, text = header.partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise ProblemError(401, "Send a bearer token.", headers={"WWW-Authenticate": CHALLENGE})
        self._ensure_token()
        scopes = self.manager.run(lambda tx: tokens.scopes_of(tx, text), read_only=True)
        if scopes is None:
            refused = f'{CHALLENGE}, error="invalid_token"'
            raise ProblemError(
                401, "The token is not known or was revoked.", headers={"WWW-Authenticate": refused}
            )
        if scope not in scopes:
            refused = f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"'
            raise ProblemError(
                403, f"The token does not have the scope {scope}.", headers={"WWW-Authenticate": refused}
            )

    def _ensure_token(self) -> None:
        """Store the hash of LEDGER_TOKEN once a process, as soon as there is a table for it."""
        token = self.settings.ledger.token
        if token is None or token is self._ensured:
            return
        self.manager.run(lambda tx: tokens.ensure(tx, "LEDGER_TOKEN", token.reveal()))
        self._ensured = token


def service() -> Service:
    """Return the service of the application that handles this request."""
    from flask import current_app

    return cast("Service", current_app.extensions["slipway"])
