"""The shared ledger: a service of ours somewhere else, over HTTP, with little patience."""

import http.client
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from scripts.views.ledger import NotThere, Refused, Undelivered

TIMEOUT = 2.0
"""Seconds for connecting, and for each answer."""
NEVER = (400, 413, 415, 422)
"""Answers that mean the same events will not be taken next time either (RFC 9110, 15.5)."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PATH = "/api/v1/events"


class SharedLedger:
    """Post events to the ledger at `url`; `token` is asked for at delivery, a deployment may have made it."""

    def __init__(self, url: str, token: Callable[[], str | None], *, timeout: float = TIMEOUT) -> None:
        self._url = url
        self._token = token
        self._timeout = timeout

    def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Post the events as one batch; raises Undelivered or Refused with what the ledger said."""
        headers = {"Content-Type": "application/cloudevents-batch+json", "User-Agent": "slipway"}
        token = (self._token() or "").strip()
        if not (token.isascii() and token.isprintable()):
            # http.client would say so too, and repeat the token.
            raise Undelivered("LEDGER_TOKEN has characters that a request cannot carry; make a new one")
        if token:
            headers["Authorization"] = f"Bearer {token}"
        body = json.dumps(list(events), ensure_ascii=False).encode()
        try:
            url = urlsplit(self._url)
            place = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
        except ValueError:
            raise Undelivered("LEDGER_URL is no address") from None
        try:
            status, reason = self._post(url, body, headers)
        except ConnectionRefusedError as error:
            here = url.hostname in LOOPBACK
            raise (NotThere if here else Undelivered)(f"{place} does not answer ({_told(error)})") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Undelivered(f"{place} does not answer ({_told(error)})") from None
        if status in NEVER:
            raise Refused(f"{place} answered {status} {reason}")
        if not 200 <= status < 300:
            raise Undelivered(f"{place} answered {status} {reason}{_hint(status)}")

    def close(self) -> None:
        """Hold nothing: each delivery has a connection of its own."""

    def _post(self, url: SplitResult, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = kind(url.hostname or "", url.port, timeout=self._timeout)
        try:
            connection.request("POST", url.path.rstrip("/") + PATH, body, headers)
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
        return answer.status, answer.reason


def _told(error: Exception) -> str:
    """Say what went wrong; other errors than the system's repeat what was sent or received."""
    own = str(error) if isinstance(error, OSError) else ""
    return getattr(error, "strerror", None) or own or type(error).__name__


def _hint(status: int) -> str:
    return "; LEDGER_TOKEN is missing or wrong" if status in (401, 403) else ""
