"""No secret value reaches a view or a file."""

import base64
import io
import json
import os
import shlex
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from config.masking import MASK, Masker
from scripts.pipeline.errors import StageFailure
from scripts.pipeline.events import Event, Heartbeat, Notice, Running
from scripts.pipeline.stage import Kind
from scripts.views.audience import Record
from scripts.views.github import GitHub
from scripts.views.ledger import LedgerView
from scripts.views.plain import Plain
from scripts.views.report import Report
from scripts.views.state import State
from scripts.views.terminal import Terminal

from .story import Story, moment, watch

SENTINEL = "s3nt!nel/ü+&<\"v'lue"
PEM = """-----BEGIN KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASC
BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj
-----END KEY-----
"""


def test_bytes_that_are_no_text_are_masked_as_they_are_printed() -> None:
    value = os.fsdecode(b"12345\xff6789")
    printed = os.fsencode(value).decode("utf-8", "replace")
    assert Masker([value]).text(f"<{printed}>") == f"<{MASK}>"


@pytest.mark.parametrize(
    "form",
    [
        "{0}",
        "postgresql://user:{0}@host/db",
        json.dumps(SENTINEL),
        json.dumps(SENTINEL, ensure_ascii=False),
        repr(SENTINEL),
        shlex.quote(SENTINEL),
        quote(SENTINEL, safe=""),
        quote(SENTINEL),
        quote_plus(SENTINEL),
        quote(SENTINEL, safe="").lower(),
        "s3nt!nel/ü+&amp;&lt;&quot;v&#x27;lue",
        "s3nt!nel/ü+&amp;&lt;\"v'lue",
        SENTINEL.encode().hex(),
        SENTINEL.encode().hex().upper(),
    ],
)
def test_a_value_is_masked_in_every_form_that_it_is_printed_in(form: str) -> None:
    masked = Masker([SENTINEL]).text(f"before {form.replace('{0}', SENTINEL)} after")
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert MASK in masked
    for part in ("s3nt", "lue", "nel"):
        assert part not in masked


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_is_masked_wherever_the_value_stands_inside(before: str, encode: object) -> None:
    secret = "correct horse battery staple ~~~???>>>"
    encoded = encode(f"{before}{secret} and more".encode()).decode()  # type: ignore[operator]
    masked = Masker([secret]).text(f"Authorization: Basic {encoded}")
    assert MASK in masked
    left = masked.replace("Authorization: Basic ", "").replace(MASK, "")
    assert len(left) <= len(encoded) - len(secret)


def test_each_line_of_a_secret_is_masked_on_its_own() -> None:
    masker = Masker([PEM])
    for line in ("MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "  BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\r"):
        assert masker.text(line).strip() == MASK
    assert masker.text("-----BEGIN KEY-----") == "-----BEGIN KEY-----"
    assert masker.text(f"x{PEM.strip()}y") == f"x{MASK}y"


def test_base64_that_was_broken_into_lines_is_masked() -> None:
    secret = "x9" * 120
    masker = Masker([secret])
    for line in base64.encodebytes(secret.encode()).decode().splitlines()[:-1]:
        assert masker.text(line) == MASK


def test_the_longer_of_two_secrets_that_begin_alike_wins() -> None:
    assert Masker(["password", "password-of-production"]).text("password-of-production") == MASK


@pytest.mark.parametrize("short", ["", " ", "a", "8", "abc"])
def test_a_value_too_short_to_hide_is_left_alone(short: str) -> None:
    assert Masker([short]).text("a cab for 8 abc") == "a cab for 8 abc"


def test_a_secret_that_a_run_makes_is_masked_from_then_on() -> None:
    masker = Masker()
    assert masker.text("fresh-secret") == "fresh-secret"
    masker.add("fresh-secret")
    assert masker.text("fresh-secret") == MASK


def test_an_event_without_a_secret_stays_the_same_object() -> None:
    event = Notice(at=moment(0), text="nothing to hide")
    assert Masker([SENTINEL]).event(event) is event
    assert Masker().event(event) is event


def test_masking_reaches_into_everything_that_an_event_holds() -> None:
    failure = StageFailure(SENTINEL, SENTINEL, SENTINEL, [SENTINEL])
    event = (
        Story("lint").start("lint", 0).finish("lint", 1, failure=failure, outputs={"o": SENTINEL}).events[-1]
    )
    masked = Masker([SENTINEL]).event(event)
    assert SENTINEL not in repr(vars(masked))
    assert isinstance(masked.failure, StageFailure)
    assert masked.failure.details == (MASK,)
    assert str(masked.failure) == f"{MASK}\n  where: {MASK}\n  next: {MASK}"
    assert failure.what == SENTINEL
    assert masked.kind is Kind.CHECK
    beat = Heartbeat(at=moment(0), running=(Running(stage="lint", seconds=1.0, progress=SENTINEL),))
    assert Masker([SENTINEL]).event(beat).running[0].progress == MASK


def leaking_story() -> list[Event]:
    """Return a run that tells the secret in every place that an event has for text."""
    spoken = [
        SENTINEL,
        f"url: {quote(SENTINEL, safe='')}",
        base64.b64encode(SENTINEL.encode()).decode(),
        *PEM.splitlines(),
    ]
    story = Story(
        "lint", "build", "deploy", command=f"ship {SENTINEL}", reasons={"lint": SENTINEL, "build": SENTINEL}
    )
    story.add(Notice(at=moment(0), text=SENTINEL))
    story.start("lint", 0).progress("lint", 0, SENTINEL).say("lint", 1, *spoken)
    failure = StageFailure(SENTINEL, f"{SENTINEL}:3", SENTINEL, spoken)
    story.finish("lint", 2, "failure", failure=failure, note=SENTINEL, figures={SENTINEL: 1.0})
    outputs = {"digest": "sha256:" + "0" * 64, "image": SENTINEL, "extra": SENTINEL}
    story.start("build", 2).say("build", 3, *spoken).finish("build", 3, outputs=outputs)
    story.add(Heartbeat(at=moment(40), running=(Running(stage="deploy", seconds=1.0, progress=SENTINEL),)))
    outputs = {"result": "succeeded", "url": f"http://{SENTINEL}/", "previous": SENTINEL}
    story.start("deploy", 40).finish("deploy", 41, outputs=outputs)
    return story.end(42, "failure", 1).events


def test_no_view_and_no_file_shows_a_secret(tmp_path: Path) -> None:
    streams = {name: io.StringIO() for name in ("plain", "terminal", "github", "json")}
    files = {name: str(tmp_path / name) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    told: list[str] = []
    views = [
        Plain(streams["plain"]),
        Terminal(streams["terminal"], size=lambda: (300, 200)),
        GitHub(streams["github"], root=tmp_path, variables=files),
        Record(streams["json"]),
        Report(tmp_path / ".slipway/runs", warn=told.append),
        State(tmp_path, warn=told.append),
        LedgerView(tmp_path / ".slipway", actor="me", embedded=pytest.fail, shared=None, tell=told.append),
    ]
    masker = Masker([SENTINEL, PEM])
    events = leaking_story()
    assert sum(masker.event(event) is not event for event in events) > 12, (
        "the story must leak to prove anything"
    )
    for view in views:
        watch(view, map(masker.event, events))
    shown = {name: stream.getvalue() for name, stream in streams.items()}
    shown |= {str(path): path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()}
    names = " ".join(shown)
    for expected in (
        "report.html",
        "project_state.json",
        ".ndjson",
        "GITHUB_STEP_SUMMARY",
        "terminal",
    ):
        assert expected in names
    fragments = (
        "s3nt",
        "nel/",
        base64.b64encode(SENTINEL.encode()).decode()[2:10],
        "MIIEvQIB",
        "BKcwggSj",
        "s3nt%21",
    )
    for name, text in shown.items():
        assert MASK in text or name.endswith(("state.lock", "GITHUB_OUTPUT")), name
        assert not [fragment for fragment in fragments if fragment in text], name
