"""For orchestrators, proxies and Prometheus: is it alive, is it ready, what is it, how does it do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .problems import problem
from .service import service

if TYPE_CHECKING:
    from flask import Blueprint, Response


def blueprint() -> Blueprint:
    """Return the routes of this module."""
    from flask import Blueprint

    routes = Blueprint("health", __name__)
    routes.add_url_rule("/livez", view_func=livez)
    routes.add_url_rule("/readyz", view_func=readyz)
    routes.add_url_rule("/healthz", endpoint="healthz", view_func=readyz)
    routes.add_url_rule("/version", view_func=version)
    routes.add_url_rule("/metrics", view_func=metrics)
    return routes


def livez() -> Response:
    """Answer as long as the process can: the database does not matter here."""
    return _fresh({"status": "alive"})


def readyz() -> Response:
    """Answer 200 when requests should come here: not draining, database reachable, writable and migrated."""
    answer = service().readiness()
    if answer.ready:
        return _fresh({"status": "ready", "schema": answer.schema})
    refusal = problem(503, "This process should get no requests now.", reason=answer.reason)
    refusal.headers["Retry-After"] = "1"
    refusal.headers["Cache-Control"] = "no-store"
    return refusal


def version() -> Response:
    """Say which release answers."""
    return _fresh(service().release.as_dict())


def metrics() -> Response:
    """Say how the service does, in Prometheus' text format."""
    from flask import Response

    from app.ledger.metrics import exposition

    current = service()
    body, content_type = exposition(current.requests, current.manager)
    return Response(body, content_type=content_type, headers={"Cache-Control": "no-store"})


def _fresh(document: object) -> Response:
    from flask import jsonify

    response = jsonify(document)
    response.headers["Cache-Control"] = "no-store"
    return response
