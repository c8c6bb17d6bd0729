"""The dashboard: what runs where, the last runs with their stages, one run; all rendered here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .problems import ProblemError
from .service import service

if TYPE_CHECKING:
    from flask import Blueprint, Response

RUNS_SHOWN = 20
# What matters most comes first; names of others follow in the order of the alphabet.
ORDER = {"production": 0, "staging": 1, "development": 2, "testing": 3}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
# A word for people beside the mark, so that nothing depends on colour alone.
MARKS = {
    "success": "good",
    "succeeded": "good",
    "failure": "bad",
    "failed": "bad",
    "error": "bad",
    "lost": "bad",
    "rolled_back": "warn",
    "cancelled": "warn",
    "skipped": "quiet",
    None: "busy",
}


def blueprint() -> Blueprint:
    """Return the routes of this module."""
    from flask import Blueprint

    routes = Blueprint("pages", __name__)
    routes.add_url_rule("/", view_func=dashboard)
    routes.add_url_rule("/runs/<path:run>", view_func=run_page)
    routes.add_app_template_filter(age)
    routes.add_app_template_filter(duration)
    routes.add_app_template_filter(size)
    routes.add_app_template_filter(figure)
    routes.add_app_template_filter(short)
    routes.add_app_template_filter(mark)
    routes.add_app_template_filter(clock)
    routes.add_app_template_filter(words)
    return routes


def dashboard() -> Response:
    """Show what runs where, and the last runs with their stages."""
    from flask import request

    from app.ledger import queries

    from . import cursors, timeline

    cursor = request.args.get("cursor")
    try:
        after = cursors.decode(cursor, (datetime, str)) if cursor is not None else None
    except cursors.InvalidCursorError:
        raise ProblemError(400, "This address is not one that the dashboard made.") from None

    def read(tx):  # type: ignore[no-untyped-def]
        page = queries.runs(tx, limit=RUNS_SHOWN, after=after, stages=True)
        return (() if after else queries.environments(tx)), page

    environments, page = service().manager.run(read, read_only=True)
    return _page(
        "dashboard.html",
        environments=sorted(environments, key=lambda each: ORDER.get(each.environment, len(ORDER))),
        runs=[(run, timeline.draw(run)) for run in page.items],
        older=cursors.encode(page.next) if page.next else None,
        first=after is None,
    )


def run_page(run: str) -> Response:
    """Show one run: its stages with reasons and figures, and what it deployed."""
    from app.ledger import queries
    from app.ledger.cloudevents import InvalidEventError, storable

    from . import timeline

    try:
        storable(run, attribute="run")
        found = service().manager.run(lambda tx: queries.run(tx, run), read_only=True)
    except InvalidEventError:
        found = None
    if found is None:
        raise ProblemError(404, "There is no run of this id in the ledger.")
    drawn = timeline.draw(found)
    return _page("run.html", run=found, timeline=drawn, bars={bar.task.name: bar for bar in drawn.bars})


def age(moment: datetime, now: datetime | None = None) -> str:
    """Return how long ago `moment` was, in the largest unit that fits."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if seconds < -_MINUTE:
        return clock(moment)
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name} ago"
    return "just now"


def clock(moment: datetime) -> str:
    """Return a time to the second, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float | None) -> str:
    """Return a duration with the digits that matter."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < _MINUTE - 0.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def size(number: int | None) -> str:
    """Return a number of bytes in MB, as registries count them."""
    return "-" if number is None else f"{number / 1e6:.1f} MB"


def figure(value: float, name: str) -> str:
    """Return one figure of a stage as its name asks: bytes as such, coverage in percent, the rest counted."""
    label = name.replace("bytes", "").replace("_", " ").strip()
    if "bytes" in name:
        told = size(int(value)) if value >= 1e5 else f"{value / 1e3:.1f} kB"
    elif name.endswith("coverage"):
        told = f"{value:.1f} %"
    elif name.endswith("seconds"):
        told, label = duration(value), label.removesuffix("seconds").strip()
    else:
        told = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
    return f"{told} {label}".strip()


def short(name: str | None) -> str:
    """Return the start of a digest or a commit, enough to tell it from others."""
    return "-" if not name else name.removeprefix("sha256:")[:12]


def mark(result: str | None) -> str:
    """Return the look of a result."""
    return MARKS.get(result, "quiet")


def words(result: str | None) -> str:
    """Return a result as words."""
    return "running" if result is None else result.replace("_", " ")


def _page(template: str, **values: object) -> Response:
    from flask import make_response, render_template, request

    response = make_response(render_template(template, release=service().release, **values))
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response
