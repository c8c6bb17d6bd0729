"""Around every request: an id, the security headers, one structured log line, the counts for Prometheus."""

from __future__ import annotations

import logging
import os
import re
import time
from typing import TYPE_CHECKING

from .service import service

if TYPE_CHECKING:
    from flask import Flask, Response

# Everything the pages need comes from this origin, and nothing runs that is not a file of ours.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
QUIET = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger("slipway.access")


def install(application: Flask) -> None:
    """Wrap every request of `application`."""
    application.before_request(_begin)
    application.after_request(_end)


def _begin() -> None:
    from flask import g, request

    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _ID.fullmatch(given) else os.urandom(12).hex()
    g.began = time.perf_counter()


def _end(response: Response) -> Response:
    from flask import g, request

    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["X-Request-ID"] = g.request_id
    seconds = time.perf_counter() - g.began
    rule = request.url_rule.rule if request.url_rule else "unmatched"
    service().requests.count(method=request.method, route=rule, status=response.status_code, seconds=seconds)
    quiet = request.path in QUIET and response.status_code < 500
    # The query and the headers stay out: that is where a client may have put a secret.
    fields = {
        "request": g.request_id,
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        "seconds": round(seconds, 6),
        "bytes": response.content_length,
        "client": request.remote_addr,
    }
    _log.log(
        logging.DEBUG if quiet else logging.INFO,
        "%s %s %d",
        request.method,
        request.path,
        response.status_code,
        extra={"fields": fields},
    )
    return response
