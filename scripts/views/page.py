"""The page of one run: one HTML file that needs nothing else, in light and dark, on paper and on a phone."""

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from scripts.views.board import Row
from scripts.views.paper import clean
from scripts.views.timeline import instant, timeline
from scripts.views.wording import BAD, MARKS, count, duration, figures, size

STYLE = Path(__file__).with_name("page.css")
FAILING_LINES = 40
LONGEST_LINE = 1_000
DEPLOYED = {
    "succeeded": "live",
    "failed": "failed",
    "unchanged": "live already",
    "rolled_back": "rolled back",
    "cancelled": "cancelled",
    "lost": "lost",
}


def page(record: Mapping[str, Any], rows: Mapping[str, Row]) -> str:
    """Return the page for a run's record and what its stages printed."""
    order = list(rows)
    stages = record.get("stages") or ()
    known = sorted(
        stages, key=lambda stage: order.index(stage["name"]) if stage["name"] in rows else len(order)
    )
    record = {**record, "stages": known}
    title = f"{record.get('command')} · {record.get('environment')} · {record.get('result')}"
    parts = [
        *_header(record),
        *_failures(record, rows),
        *_timeline(record),
        *_stages(record),
        *_cards(record),
        f"<footer>Run <code>{_text(record.get('run'))}</code> · Slipway</footer>",
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _text(value: object) -> str:
    return escape(clean("" if value is None else str(value))[:LONGEST_LINE])


def _header(record: Mapping[str, Any]) -> Iterator[str]:
    result, environment = _text(record.get("result")), _text(record.get("environment"))
    verb = {"success": "succeeded", "failure": "failed"}.get(str(record.get("result")), result)
    mark = MARKS.get(str(record.get("result")), "")
    commit = _text(str(record.get("commit") or "no commit")[:12])
    dirty = '<span class="note">with changes</span>' if record.get("dirty") else ""
    started = instant(record.get("started"))
    when = f"{started:%Y-%m-%d %H:%M:%S} UTC" if started else ""
    took = duration(float(record.get("seconds") or 0.0))
    yield (
        f'<header class="{result}">\n'
        f'<p class="where"><span class="environment {environment}">{environment}</span></p>\n'
        f'<h1><span class="mark" aria-hidden="true">{mark}</span> {_text(record.get("command"))} {verb}'
        f" <small>in {took}</small></h1>\n"
        f'<p class="facts"><span>commit <code>{commit}</code> {dirty}</span><span>{when}</span>'
        f"<span>{_tally(record)}</span></p>\n</header>"
    )


def _tally(record: Mapping[str, Any]) -> str:
    stages = record.get("stages") or ()
    ran = sum(bool(stage.get("started")) for stage in stages)
    skipped = sum(stage.get("result") == "skipped" for stage in stages)
    return _text(f"{count(ran, 'stage')} ran, {skipped} skipped")


def _failures(record: Mapping[str, Any], rows: Mapping[str, Row]) -> Iterator[str]:
    for stage in record.get("stages") or ():
        row = rows.get(str(stage.get("name")))
        if stage.get("result") not in BAD or row is None:
            continue
        what = row.failure.what if row.failure else str(stage.get("reason") or "")
        yield f'<section class="card failed"><h2>{_text(row.name)} failed</h2>'
        yield f'<p class="what">{_text(what)}</p>'
        shown = [_text(line) for line in row.telling_lines(FAILING_LINES)]
        if shown:
            yield "<pre>" + "\n".join(shown) + "</pre>"
        facts = (
            ("where", row.failure.where if row.failure else ""),
            ("next", row.failure.next_step if row.failure else ""),
            ("log", stage.get("log") or ""),
        )
        yield f"{_list((name, _text(value)) for name, value in facts if value)}</section>"


def _timeline(record: Mapping[str, Any]) -> Iterator[str]:
    if record.get("stages"):
        yield f'<section class="card"><h2>Timeline</h2>\n{timeline(record)}\n</section>'


def _stages(record: Mapping[str, Any]) -> Iterator[str]:
    stages = record.get("stages") or ()
    if not stages:
        return
    yield '<section class="card"><h2>Stages</h2>\n<table>'
    yield '<thead><tr><th>stage</th><th class="number">took</th><th>why</th><th>figures</th></tr></thead>'
    yield "<tbody>"
    for stage in stages:
        result = str(stage.get("result"))
        took = duration(float(stage.get("seconds") or 0.0)) if stage.get("started") else ""
        told = "".join(f"<li>{_text(each)}</li>" for each in figures(stage.get("figures") or {}))
        yield (
            f'<tr class="{_text(result)}"><th scope="row"><span class="mark" title="{_text(result)}">'
            f"{MARKS.get(result, '?')}</span> {_text(stage.get('name'))}</th>"
            f'<td class="number">{took}</td><td class="why">{_text(stage.get("reason"))}</td>'
            f'<td><ul class="figures">{told}</ul></td></tr>'
        )
    yield "</tbody></table></section>"


def _cards(record: Mapping[str, Any]) -> Iterator[str]:
    cards = [*_release(record.get("release")), *_deployment(record.get("deployment"))]
    if cards:
        yield '<div class="pair">' + "\n".join(cards) + "</div>"


def _release(release: object) -> Iterator[str]:
    if not isinstance(release, Mapping) or not release.get("digest"):
        return
    facts = [("digest", f"<code>{_text(release['digest'])}</code>")]
    if release.get("image"):
        facts.append(("image", f"<code>{_text(release['image'])}</code>"))
    for name, label in (("bytes_compressed", "to download"), ("bytes", "on disk")):
        if release.get(name):
            facts.append((label, size(float(release[name]))))
    yield f'<section class="card"><h2>Release</h2>{_list(facts)}</section>'


def _deployment(deployment: object) -> Iterator[str]:
    if not isinstance(deployment, Mapping) or not deployment.get("result"):
        return
    result = str(deployment["result"])
    facts = [
        ("environment", _text(deployment.get("environment"))),
        ("result", f'<span class="pill {_text(result)}">{_text(DEPLOYED.get(result, result))}</span>'),
    ]
    url = str(deployment.get("url") or "")
    if url.startswith(("http://", "https://")):
        facts.append(("address", f'<a href="{_text(url)}" rel="noreferrer">{_text(url)}</a>'))
    if deployment.get("previous"):
        facts.append(("before", f"<code>{_text(deployment['previous'])}</code>"))
    yield f'<section class="card"><h2>Deployment</h2>{_list(facts)}</section>'


def _list(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{_text(name)}</dt><dd>{value}</dd>" for name, value in facts)
    return f"<dl>{rows}</dl>" if rows else ""
