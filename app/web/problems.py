"""Every error as problem details (RFC 9457), or as a page when a browser asks for one outside the API."""

from __future__ import annotations

import json
import logging
import traceback
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Flask, Response
    from werkzeug.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger("slipway.web")


class ProblemError(Exception):
    """Raised by a handler to answer with an error; `members` extend the problem document."""

    def __init__(
        self, status: int, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.members = members


def problem(status: int, detail: str, **members: Any) -> Response:
    """Return the problem document for `status` as a response."""
    from flask import Response, g

    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": f"urn:slipway:request:{g.get('request_id', 'unknown')}",
        **members,
    }
    return Response(json.dumps(document), status=status, content_type=MEDIA_TYPE)


def install(application: Flask) -> None:
    """Answer every error of `application` this way."""
    from werkzeug.exceptions import HTTPException

    from app.database.errors import DatabaseError

    application.register_error_handler(ProblemError, _raised)
    application.register_error_handler(HTTPException, _http)
    application.register_error_handler(DatabaseError, _database)
    application.register_error_handler(Exception, _bug)


def _raised(error: ProblemError) -> Response:
    response = _negotiated(error.status, error.detail, **error.members)
    response.headers.update(error.headers)
    return response


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    if status < 400:
        return error.get_response()  # type: ignore[return-value]  # a redirect of the router
    response = _negotiated(status, error.description or HTTPStatus(status).phrase)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _database(error: Exception) -> Response:
    """The database is away: the client may try again; the cause is for the log only."""
    _log.error("the database failed: %s: %s", type(error).__name__, error)
    response = _negotiated(503, "The database cannot be used now; try again shortly.")
    response.headers["Retry-After"] = "1"
    return response


def _bug(error: Exception) -> Response:
    """Something of ours is wrong: the log says what, and DEBUG, which production refuses, says it here."""
    from .service import service

    _log.error("unexpected error", exc_info=error)
    members = {}
    if service().settings.web.debug:
        text = service().masker.text("".join(traceback.format_exception(error)))
        members["traceback"] = text.splitlines()
    return _negotiated(500, "Something unexpected went wrong; the log of this request says what.", **members)


def _negotiated(status: int, detail: str, **members: Any) -> Response:
    from flask import make_response, render_template, request

    if not _wants_page():
        return problem(status, detail, **members)
    page = render_template("problem.html", title=HTTPStatus(status).phrase, status=status, detail=detail)
    return make_response(page, status, {"Vary": "Accept"}) if request else problem(status, detail, **members)


def _wants_page() -> bool:
    from flask import request

    if request.path.startswith("/api/"):
        return False
    accepted = request.accept_mimetypes
    return accepted["text/html"] > accepted["application/json"]
