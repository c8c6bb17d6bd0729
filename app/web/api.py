"""The JSON API under /api/v1: read everything, write events with a token."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from app.ledger.cloudevents import InvalidEventError, format_time
from app.ledger.tokens import EVENTS_WRITE

from .problems import ProblemError
from .service import service

if TYPE_CHECKING:
    from flask import Blueprint, Response

    from app.ledger.queries import Page, StoredEvent

PREFIX = "/api/v1"
LIMIT, MAX_LIMIT = 50, 200
MAX_BATCH = 500
MAX_BODY = 1024 * 1024
SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
PLAIN = "application/json"
_MAX_FILTER = 200


def blueprint() -> Blueprint:
    """Return the routes of this module."""
    from flask import Blueprint

    routes = Blueprint("api", __name__)
    routes.add_url_rule(f"{PREFIX}/runs", view_func=list_runs)
    routes.add_url_rule(f"{PREFIX}/runs/<path:run>", view_func=get_run)
    routes.add_url_rule(f"{PREFIX}/deployments", view_func=list_deployments)
    routes.add_url_rule(f"{PREFIX}/environments", view_func=list_environments)
    routes.add_url_rule(f"{PREFIX}/artifacts", view_func=list_artifacts)
    routes.add_url_rule(f"{PREFIX}/events", view_func=list_events)
    routes.add_url_rule(f"{PREFIX}/events", view_func=post_events, methods=["POST"])
    routes.add_url_rule("/openapi.json", view_func=openapi)
    return routes


def list_runs() -> Response:
    """Answer runs, newest first, each with its stages."""
    from app.ledger import queries

    filters = _filters("environment", "result", "commit")
    return _page(queries.runs, (datetime, str), filters | {"stages": True})


def get_run(run: str) -> Response:
    """Answer one run with its stages and deployments."""
    from app.ledger import queries

    _filters()
    _storable("run", run)
    found = service().manager.run(lambda tx: queries.run(tx, run), read_only=True)
    if found is None:
        raise ProblemError(404, "There is no run of this id.")
    return _json(_plain(found))


def list_deployments() -> Response:
    """Answer deployments, newest first."""
    from app.ledger import queries

    return _page(queries.deployments, (datetime, str, str), _filters("environment", "result"))


def list_environments() -> Response:
    """Answer what runs where now."""
    from app.ledger import queries

    _filters()
    found = service().manager.run(queries.environments, read_only=True)
    return _json({"items": [_plain(each) for each in found]})


def list_artifacts() -> Response:
    """Answer artifacts, newest first."""
    from app.ledger import queries

    return _page(queries.artifacts, (datetime, str), _filters("commit"))


def list_events() -> Response:
    """Answer the event log as CloudEvents, oldest first, each with its `sequence`."""
    from app.ledger import queries

    filters = _filters("type")
    return _page(queries.events, (int,), {"kind": filters["type"]} if filters else {}, show=_cloudevent)


def post_events() -> Response:
    """Record one event or a batch, all or nothing; repeating a delivery is harmless."""
    from flask import request

    from app.ledger.recorder import record

    kind = _content_type()
    service().authorize(request.headers.get("Authorization", ""), EVENTS_WRITE)
    raw = request.get_data()
    # A body without an announced length is cut at the limit by werkzeug, not refused.
    if len(raw) >= MAX_BODY:
        raise ProblemError(413, f"A body is shorter than {MAX_BODY} bytes; send the events in parts.")
    if request.content_length not in (None, len(raw)):
        raise ProblemError(400, "The body broke off before its end.")
    document = _body(raw)
    if kind != PLAIN and isinstance(document, list) != (kind == BATCH):
        wanted = "an array of events" if kind == BATCH else "one event, not an array"
        raise ProblemError(400, f"A body of type {kind} is {wanted}.")
    documents = document if isinstance(document, list) else [document]
    if len(documents) > MAX_BATCH:
        raise ProblemError(413, f"A batch holds at most {MAX_BATCH} events; send it in parts.")
    if not documents:
        return _json({"accepted": 0, "duplicates": 0}, conditional=False)
    try:
        done = service().manager.run(lambda tx: record(tx, documents))
    except InvalidEventError as problem:
        error = {"index": problem.index, "attribute": problem.attribute, "rule": problem.rule}
        raise ProblemError(422, f"{problem}. Nothing was recorded.", errors=[error]) from None
    return _json({"accepted": done.accepted, "duplicates": done.duplicates}, conditional=False)


def openapi() -> Response:
    """Answer the description of this API."""
    from .openapi import document

    return _json(document())


def _page(
    query: Callable[..., Page[Any]],
    kinds: tuple[type, ...],
    filters: Mapping[str, Any],
    show: Callable[[Any], Mapping[str, Any]] | None = None,
) -> Response:
    """Answer one page of a list, with a Link header to the next one."""
    from flask import request

    from . import cursors

    limit = _limit(request.args.get("limit"))
    cursor = request.args.get("cursor")
    try:
        after = cursors.decode(cursor, kinds) if cursor is not None else None
    except cursors.InvalidCursorError as problem:
        raise ProblemError(400, f"cursor: {problem}; start again without it.") from None
    page = service().manager.run(lambda tx: query(tx, limit=limit, after=after, **filters), read_only=True)
    following = cursors.encode(page.next) if page.next is not None else None
    response = _json({"items": [(show or _plain)(item) for item in page.items], "next": following})
    if following is not None:
        from urllib.parse import urlencode

        target = urlencode({**request.args.to_dict(), "limit": limit, "cursor": following})
        response.headers["Link"] = f'<{request.path}?{target}>; rel="next"'
    return response


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_LIMIT):
        raise ProblemError(400, f"limit: must be a whole number from 1 to {MAX_LIMIT}.")
    return int(text)


def _filters(*names: str) -> dict[str, Any]:
    """Read the filters called `names`; any parameter that this list does not have is refused."""
    from flask import request

    known = (
        {*names, "limit", "cursor"}
        if request.endpoint not in ("api.get_run", "api.list_environments")
        else set()
    )
    for name in request.args:
        if name not in known:
            raise ProblemError(
                400, f"There is no parameter of this name here; known: {', '.join(sorted(known))}."
            )
        if len(request.args.getlist(name)) > 1:
            raise ProblemError(400, f"{name}: is given more than once.")
    return {name: _storable(name, request.args[name]) for name in names if name in request.args}


def _storable(name: str, text: str) -> str:
    """Refuse text that no back end can compare with."""
    from app.ledger.cloudevents import storable

    if len(text) > _MAX_FILTER:
        raise ProblemError(400, f"{name}: is longer than {_MAX_FILTER} characters.")
    try:
        storable(text, attribute=name)
    except InvalidEventError as problem:
        raise ProblemError(400, f"{name}: {problem.rule}.") from None
    return text


def _content_type() -> str:
    from flask import request

    kind = request.mimetype
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if kind not in (SINGLE, BATCH, PLAIN) or charset not in ("utf-8", "us-ascii"):
        accepted = f"{SINGLE}, {BATCH}, {PLAIN}"
        raise ProblemError(415, f"Send one of {accepted}, in UTF-8.", headers={"Accept-Post": accepted})
    return kind


def _body(raw: bytes) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(raw.decode("utf-8"), parse_constant=refuse)
    except UnicodeDecodeError:
        raise ProblemError(400, "The body is not UTF-8.") from None
    except json.JSONDecodeError as problem:
        raise ProblemError(
            400, f"The body is not JSON: {problem.msg} at line {problem.lineno} column {problem.colno}."
        ) from None
    except RecursionError:
        raise ProblemError(400, "The body is nested too deep.") from None
    except ValueError:
        raise ProblemError(400, "The body holds a number that cannot be kept.") from None


def _json(document: object, *, conditional: bool = True) -> Response:
    from flask import Response, request

    response = Response(json.dumps(document, ensure_ascii=False), content_type=PLAIN)
    if conditional:
        response.headers["Cache-Control"] = "no-cache"
        response.add_etag()
        response.make_conditional(request)
    return response


def _plain(value: Any) -> Any:
    """Return `value` as JSON has it: times as RFC 3339, the fields of a dataclass by name."""
    if isinstance(value, datetime):
        return format_time(value)
    if dataclasses.is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _cloudevent(stored: StoredEvent) -> Mapping[str, Any]:
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": stored.id,
        "source": stored.source,
        "type": stored.type,
        "time": format_time(stored.time),
        **stored.extensions,
        "sequence": f"{stored.sequence:020d}",
    }
    if stored.subject is not None:
        event["subject"] = stored.subject
    return {**event, "data": stored.data}
