"""The ledger over HTTP: health, version, metrics, the JSON API and the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from app.database import ConnectionManager
    from config.settings import Settings


def create_app(settings: Settings, manager: ConnectionManager) -> Flask:
    """Return the WSGI application; it opens no connection until a request needs one."""
    from flask import Flask

    from . import access, api, health, pages, problems
    from .service import Service

    application = Flask("app.web", static_folder="static", template_folder="templates")
    application.secret_key = settings.security.secret_key.reveal()
    application.config["MAX_CONTENT_LENGTH"] = api.MAX_BODY
    application.config["TEMPLATES_AUTO_RELOAD"] = settings.web.debug
    application.extensions["slipway"] = Service(settings, manager)
    access.install(application)
    problems.install(application)
    for room in (health, api, pages):
        application.register_blueprint(room.blueprint())
    return application
