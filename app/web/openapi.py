"""The description of the API as OpenAPI 3.1, beside the code; a test drives every route against it."""

from __future__ import annotations

from typing import Any

from app import __version__

from .api import BATCH, LIMIT, MAX_BATCH, MAX_LIMIT, PLAIN, PREFIX, SINGLE
from .problems import MEDIA_TYPE

_TEXT = {"type": "string"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_MAYBE_NUMBER = {"type": ["number", "null"]}
_MAYBE_INTEGER = {"type": ["integer", "null"]}
_TIME = {"type": "string", "format": "date-time"}
_MAYBE_TIME = {"type": ["string", "null"], "format": "date-time"}


def document() -> dict[str, Any]:
    """Return the whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Slipway release ledger",
            "version": __version__,
            "summary": "What was run, built and deployed, and what runs where.",
            "description": "Reading is open to whoever reaches the service; writing needs a bearer token.",
        },
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths() -> dict[str, Any]:
    filters = {
        "runs": ("environment", "result", "commit"),
        "deployments": ("environment", "result"),
        "artifacts": ("commit",),
        "events": ("type",),
    }
    shows = {"runs": "Run", "deployments": "Deployment", "artifacts": "Artifact", "events": "Event"}
    order = {"events": "in the order recorded, oldest first"}
    paths: dict[str, Any] = {
        f"{PREFIX}/{name}": {
            "get": {
                "operationId": f"list_{name}",
                "summary": f"List {name}, {order.get(name, 'newest first')}",
                "parameters": [*_paging(), *(_query(each, _TEXT) for each in wanted)],
                "responses": _answers(_list(shows[name]), 400, link=True),
            }
        }
        for name, wanted in filters.items()
    }
    paths[f"{PREFIX}/events"]["post"] = _post_events()
    paths[f"{PREFIX}/runs/{{run}}"] = {
        "get": {
            "operationId": "get_run",
            "summary": "One run with its stages and deployments",
            "parameters": [{"name": "run", "in": "path", "required": True, "schema": _TEXT}],
            "responses": _answers(_ref("Run"), 400, 404),
        }
    }
    paths[f"{PREFIX}/environments"] = {
        "get": {
            "operationId": "list_environments",
            "summary": "What runs where now",
            "responses": _answers(_object({"items": _array("Environment")}), 400),
        }
    }
    return paths | _service_paths()


def _service_paths() -> dict[str, Any]:
    health = _object({"status": _TEXT})
    ready = _object({"status": _TEXT, "schema": _MAYBE_TEXT})
    release = _object({"commit": _MAYBE_TEXT, "digest": _MAYBE_TEXT, "version": _TEXT})
    plain = {"200": {"description": "Prometheus text format", "content": {"text/plain": {"schema": _TEXT}}}}
    described: dict[str, tuple[str, dict[str, Any]]] = {
        "/livez": ("Whether the process lives", _answers(health, cached=False)),
        "/readyz": ("Whether requests should come here", _answers(ready, 503, cached=False)),
        "/healthz": ("The same as /readyz", _answers(ready, 503, cached=False)),
        "/version": ("Which release answers", _answers(release, cached=False)),
        "/metrics": ("How the service does", plain),
        "/openapi.json": ("This description", _answers({"type": "object"})),
    }
    return {
        path: {
            "get": {"operationId": path.strip("/").split(".")[0], "summary": summary, "responses": responses}
        }
        for path, (summary, responses) in described.items()
    }


def _post_events() -> dict[str, Any]:
    one = _ref("Event")
    many = {"type": "array", "items": one, "maxItems": MAX_BATCH}
    return {
        "operationId": "post_events",
        "summary": "Record one event or a batch, all or nothing; repeating a delivery is harmless",
        "security": [{"token": ["events:write"]}],
        "requestBody": {
            "required": True,
            "content": {
                SINGLE: {"schema": one},
                BATCH: {"schema": many},
                PLAIN: {"schema": {"oneOf": [one, many]}},
            },
        },
        "responses": _answers(_ref("Recorded"), 400, 401, 403, 413, 415, 422, cached=False),
    }


def _schemas() -> dict[str, Any]:
    stage = {
        "name": _TEXT,
        "kind": _TEXT,
        "result": _TEXT,
        "reason": _MAYBE_TEXT,
        "proof": _MAYBE_TEXT,
        "started": _MAYBE_TIME,
        "seconds": {"type": "number"},
        "figures": {"type": "object", "additionalProperties": {"type": "number"}},
    }
    run = {
        "run": _TEXT,
        "command": _TEXT,
        "environment": _MAYBE_TEXT,
        "result": {**_MAYBE_TEXT, "description": "null while it runs"},
        "commit": _MAYBE_TEXT,
        "dirty": {"type": "boolean"},
        "started": _TIME,
        "finished": _MAYBE_TIME,
        "seconds": _MAYBE_NUMBER,
        "digest": _MAYBE_TEXT,
        "stages": _array("Stage"),
        "deployments": _array("Deployment"),
    }
    deployment = {
        "run": _TEXT,
        "environment": _TEXT,
        "result": _TEXT,
        "digest": _MAYBE_TEXT,
        "previous": _MAYBE_TEXT,
        "commit": _MAYBE_TEXT,
        "actor": _MAYBE_TEXT,
        "url": _MAYBE_TEXT,
        "started": _TIME,
        "finished": _TIME,
        "seconds": _MAYBE_NUMBER,
    }
    artifact = {
        "digest": _TEXT,
        "image": _MAYBE_TEXT,
        "bytes": _MAYBE_INTEGER,
        "bytes_compressed": _MAYBE_INTEGER,
        "commit": _MAYBE_TEXT,
        "run": _TEXT,
        "built": _TIME,
    }
    environment = {
        "environment": _TEXT,
        "current": {"oneOf": [_ref("Deployment"), {"type": "null"}]},
        "last": _ref("Deployment"),
    }
    return {
        "Stage": _object(stage),
        "Run": _object(run),
        "Deployment": _object(deployment),
        "Artifact": _object(artifact),
        "Environment": _object(environment),
        "Event": _event(),
        "Recorded": _object({"accepted": {"type": "integer"}, "duplicates": {"type": "integer"}}),
        "Problem": _problem(),
    }


def _event() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "A CloudEvent 1.0 in JSON form; other attributes are extensions.",
        "required": ["specversion", "id", "source", "type", "time"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "minLength": 1, "maxLength": 256},
            "source": {"type": "string", "format": "uri-reference", "minLength": 1, "maxLength": 1024},
            "type": {"type": "string", "minLength": 1, "maxLength": 256},
            "time": _TIME,
            "subject": {"type": "string", "minLength": 1, "maxLength": 1024},
            "data": {},
            "sequence": {"type": "string", "description": "Given by the ledger: place in the log"},
        },
        "additionalProperties": {"type": ["string", "integer", "boolean"]},
    }


def _problem() -> dict[str, Any]:
    error = _object({"index": {"type": "integer"}, "attribute": _TEXT, "rule": _TEXT})
    return {
        "type": "object",
        "description": "RFC 9457 problem details.",
        "required": ["type", "title", "status", "detail", "instance"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "instance": {"type": "string", "format": "uri-reference"},
            "reason": _TEXT,
            "errors": {"type": "array", "items": error},
        },
    }


def _paging() -> list[dict[str, Any]]:
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": LIMIT}
    return [_query("limit", limit), _query("cursor", {**_TEXT, "description": "`next` of the page before"})]


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _answers(schema: dict[str, Any], *errors: int, cached: bool = True, link: bool = False) -> dict[str, Any]:
    """Return the responses of an operation; every one may also be answered by a 500 or a 503."""
    good: dict[str, Any] = {"description": "Done", "content": {PLAIN: {"schema": schema}}}
    headers: dict[str, Any] = {}
    if link:
        headers["Link"] = {"description": "The next page, rel=next", "schema": _TEXT}
    if cached:
        headers["ETag"] = {"description": "For If-None-Match", "schema": _TEXT}
    if headers:
        good["headers"] = headers
    answers: dict[str, Any] = {"200": good}
    if cached:
        answers["304"] = {"description": "Not changed since the ETag in If-None-Match"}
    for status in sorted({*errors, 500, 503}):
        content = {MEDIA_TYPE: {"schema": _ref("Problem")}}
        answers[str(status)] = {"description": "A problem", "content": content}
    return answers


def _list(name: str) -> dict[str, Any]:
    return _object({"items": _array(name), "next": _MAYBE_TEXT})


def _array(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _ref(name)}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }
