"""Each run reaches every ledger, once, and none of them can fail it."""

import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.ledger.cloudevents import parse
from app.ledger.projections import apply, merge
from scripts.views.ledger import LedgerView, Refused, Undelivered, events_of
from scripts.views.rollback import story
from scripts.views.shared import SharedLedger
from scripts.views.spool import Spool

from .story import BUILT_FROM, DIGEST, PREVIOUS, RUN, Story, broken, moment, shipped, watch

Events = Sequence[Mapping[str, Any]]


class Memory:
    """A ledger that keeps what it gets, or answers with an error."""

    def __init__(self, *errors: Exception) -> None:
        self.taken: list[Mapping[str, Any]] = []
        self.errors = list(errors)
        self.closed = 0

    def deliver(self, events: Events) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.taken += events

    def close(self) -> None:
        self.closed += 1

    def runs(self) -> list[str]:
        return [str(event["subject"]) for event in self.taken if event["type"] == "dev.slipway.run.finished"]


class Pipeline:
    """Runs beside their two ledgers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.embedded, self.shared = Memory(), Memory()
        self.told: list[str] = []
        self.opened = threading.Event()

    def open_embedded(self) -> Memory:
        self.opened.set()
        return self.embedded

    def run(self, story: Story, *, patience: float = 0.0, lasts: bool = True) -> None:
        view = LedgerView(
            self.folder,
            actor="me@here",
            embedded=self.open_embedded,
            shared=lambda: self.shared,
            tell=self.told.append,
            patience=patience,
        )
        self.opened.clear()
        for event in story.events[:-1]:
            view.handle(event)
        if lasts:
            assert self.opened.wait(5)
        view.handle(story.events[-1])
        view.close()

    def waiting(self, name: str) -> list[str]:
        return [path.stem for path in Spool(self.folder / "spool" / name).waiting()]


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path)


def one(run: str = RUN) -> Story:
    return Story("lint", run=run).start("lint", 0).finish("lint", 1).end(1)


@dataclass(frozen=True, kw_only=True)
class Back:
    """A deployment as the deployment room reports it."""

    environment: str = "staging"
    digest: str = PREVIOUS
    previous: str = DIGEST
    url: str = "https://staging.example"
    seconds: float = 12.5
    commit: str = BUILT_FROM


FIRST, SECOND, THIRD = (f"01JPB3X4ZQ8N6M2V7T5R9K1W{end}" for end in ("AA", "BB", "CC"))


@pytest.mark.parametrize("story", [shipped(), broken(), Story("lint").end(0, "cancelled", 130)])
def test_the_app_can_read_every_event(story: Story) -> None:
    events = events_of(story.record, "me@here")
    changes = [change for event in events for change in apply(parse(json.loads(json.dumps(event))))]
    assert {change.table for change in changes} >= {"pipeline_run"}
    assert len({(event["source"], event["id"]) for event in events}) == len(events)


def test_a_deployment_names_its_release_commit_and_who_did_it() -> None:
    (event,) = [
        each
        for each in events_of(shipped().record, "me@here")
        if each["type"].endswith("deployment.finished")
    ]
    (change,) = apply(parse(event))
    assert (change.row["digest"], change.row["actor"], change.row["environment"]) == (
        DIGEST,
        "me@here",
        "development",
    )
    assert change.row["seconds"] == pytest.approx(7.65)
    assert change.row["commit"] == BUILT_FROM


def test_a_release_that_served_already_is_no_deployment() -> None:
    outputs = {"result": "unchanged", "previous": DIGEST, "url": "http://127.0.0.1:8080"}
    told = Story("deploy").finish("deploy", 0, "skipped", outputs=outputs).end(1)
    changes = [change for event in events_of(told.record, "me") for change in apply(parse(event))]
    assert {change.table for change in changes} == {"pipeline_run", "task_run"}


def test_a_rollback_is_a_run_that_deploys_the_earlier_release() -> None:
    events = list(story(Back(), run=FIRST, ended=moment(60)))
    record = events[-1].record  # type: ignore[attr-defined]
    changes = [change for event in events_of(record, "me@here") for change in apply(parse(event))]
    (row,) = merge(change for change in changes if change.table == "deployment")
    assert (row.row["digest"], row.row["previous"], row.row["result"]) == (PREVIOUS, DIGEST, "succeeded")
    assert (row.row["actor"], row.row["seconds"], row.row["commit"]) == ("me@here", 12.5, BUILT_FROM)
    assert not [change for change in changes if change.table == "artifact"]


def test_the_same_run_gives_the_same_events() -> None:
    assert events_of(shipped().record, "me") == events_of(shipped().record, "me")


def test_both_ledgers_get_the_run_that_just_ended(pipeline: Pipeline) -> None:
    pipeline.run(shipped())
    assert pipeline.embedded.runs() == pipeline.shared.runs() == [RUN]
    assert pipeline.waiting("embedded") == pipeline.waiting("shared") == []
    assert pipeline.told == []
    assert pipeline.embedded.closed == pipeline.shared.closed == 1


def test_what_a_ledger_did_not_take_is_kept_told_once_and_sent_later_in_order(pipeline: Pipeline) -> None:
    pipeline.shared.errors = [
        Undelivered("it does not answer"),
        Undelivered("it is full"),
    ]
    pipeline.run(one(FIRST))
    pipeline.run(one(SECOND))
    assert pipeline.told == [
        "ledger: 1 run waits in .slipway/spool/shared for the end of a later run: it does not answer",
        "ledger: 2 runs wait in .slipway/spool/shared for the end of a later run: it is full",
    ]
    pipeline.run(one(THIRD))
    assert pipeline.shared.runs() == [FIRST, SECOND, THIRD]
    assert pipeline.embedded.runs() == [FIRST, SECOND, THIRD]
    assert pipeline.waiting("shared") == []


def test_a_run_that_no_ledger_will_ever_take_does_not_hold_up_the_others(pipeline: Pipeline) -> None:
    pipeline.shared.errors = [Undelivered("down")]
    pipeline.run(one(FIRST))
    pipeline.shared.errors = [Refused("400 Bad Request")]
    pipeline.run(one(SECOND))
    assert pipeline.shared.runs() == [SECOND]
    assert (
        f"ledger: run {FIRST} was set aside in .slipway/spool/shared/refused: 400 Bad Request"
        in pipeline.told
    )
    assert (pipeline.folder / f"spool/shared/refused/{FIRST}.ndjson").is_file()


def test_a_short_run_leaves_its_events_for_the_next_long_one(pipeline: Pipeline) -> None:
    pipeline.run(one(FIRST), patience=3_600, lasts=False)
    assert pipeline.waiting("embedded") == [FIRST]
    assert pipeline.shared.runs() == [FIRST]
    pipeline.run(one(SECOND))
    assert pipeline.embedded.runs() == [FIRST, SECOND]


def test_a_run_that_did_nothing_only_writes_to_disk(pipeline: Pipeline) -> None:
    story = Story("lint", reasons={"lint": "proven"}, run=FIRST).finish("lint", 0, "skipped").end(0.1)
    pipeline.run(story, lasts=False)
    assert pipeline.waiting("embedded") == pipeline.waiting("shared") == [FIRST]
    assert pipeline.told == []
    assert not pipeline.opened.is_set()


def test_a_cancelled_run_does_not_wait_for_a_ledger(pipeline: Pipeline) -> None:
    story = Story("lint", run=FIRST).start("lint", 0).finish("lint", 1, "cancelled").end(1, "cancelled", 130)
    pipeline.run(story)
    assert pipeline.waiting("shared") == pipeline.waiting("embedded") == [FIRST]


def test_an_embedded_ledger_that_cannot_be_opened_is_told_and_waited_for(pipeline: Pipeline) -> None:
    def broken_open() -> Memory:
        pipeline.opened.set()
        raise ImportError("No module named 'sqlalchemy'")

    pipeline.open_embedded = broken_open  # type: ignore[method-assign]
    pipeline.run(one(FIRST))
    assert pipeline.waiting("embedded") == [FIRST]
    assert pipeline.shared.runs() == [FIRST]
    (told,) = pipeline.told
    assert told.startswith(
        "ledger: the embedded one cannot be opened, this run waits for it: ImportError: No mod"
    )


def test_a_disk_that_refuses_is_told_and_fails_nothing(pipeline: Pipeline) -> None:
    (pipeline.folder / "spool").write_text("a file where the folder should be")
    pipeline.run(one(FIRST))
    assert pipeline.told == ["ledger: this run could not be kept for it: Not a directory"]


def test_a_damaged_file_in_the_spool_is_set_aside(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    (tmp_path / "01A.ndjson").write_bytes(b'{"half": ')
    assert spool.read(tmp_path / "01A.ndjson") is None
    assert spool.waiting() == []
    assert (tmp_path / "refused/01A.ndjson").is_file()
    assert spool.read(tmp_path / "gone.ndjson") is None


def test_the_spool_is_bounded_and_gives_up_the_oldest(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_files=3)
    given_up = [spool.put(f"01{letter}", [{"id": letter}]) for letter in "ABCDE"]
    assert given_up == [0, 0, 0, 1, 1]
    assert [path.stem for path in spool.waiting()] == ["01C", "01D", "01E"]


def test_the_spool_keeps_only_what_a_database_can_store(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put("01A", [{"data": {"a\x00": ["b\udc80", 1, None, 2.5]}}])
    assert spool.read(tmp_path / "01A.ndjson") == [{"data": {"a\ufffd": ["b\ufffd", 1, None, 2.5]}}]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the server's `answers` say, and keeps the requests."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), body))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.requests, found.status = [], 200  # type: ignore[attr-defined]
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def url(server: http.server.HTTPServer, rest: str = "") -> str:
    return f"http://127.0.0.1:{server.server_port}{rest}"


def test_events_go_as_one_batch_with_the_token(server: Any) -> None:
    events = events_of(shipped().record, "me")
    SharedLedger(url(server, "/base/"), lambda: "secret-token").deliver(events)
    ((path, headers, body),) = server.requests
    assert path == "/base/api/v1/events"
    assert headers["Authorization"] == "Bearer secret-token"
    assert headers["Content-Type"] == "application/cloudevents-batch+json"
    assert json.loads(body) == events


def test_without_a_token_none_is_sent(server: Any) -> None:
    SharedLedger(url(server), lambda: None).deliver([])
    assert "Authorization" not in server.requests[0][1]


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (400, Refused, "answered 400 Bad Request"),
        (413, Refused, "answered 413"),
        (401, Undelivered, "LEDGER_TOKEN is missing or wrong"),
        (403, Undelivered, "LEDGER_TOKEN is missing or wrong"),
        (503, Undelivered, "answered 503 Service Unavailable"),
        (302, Undelivered, "answered 302 Found"),
    ],
)
def test_an_answer_tells_whether_to_try_again(server: Any, status: int, error: type, said: str) -> None:
    server.status = status
    with pytest.raises(Undelivered, match=said) as caught:
        SharedLedger(url(server), lambda: "t").deliver([])
    assert type(caught.value) is error


def test_a_ledger_that_is_down_is_named_without_its_credentials() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(Undelivered) as caught:
        SharedLedger(f"http://user:password@127.0.0.1:{port}", lambda: None).deliver([])
    assert str(caught.value) == f"http://127.0.0.1:{port} does not answer (Connection refused)"


def test_a_ledger_that_plays_deaf_costs_its_time_out_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        ledger = SharedLedger(f"http://127.0.0.1:{deaf.getsockname()[1]}", lambda: None, timeout=0.2)
        began = time.monotonic()
        with pytest.raises(Undelivered, match="does not answer"):
            ledger.deliver([])
        assert 0.15 < time.monotonic() - began < 10


@pytest.mark.parametrize("bad", ["http://", "http://[::1", "http://host:99999999", "nonsense"])
def test_an_address_that_is_none_keeps_the_events(bad: str) -> None:
    with pytest.raises(Undelivered):
        SharedLedger(bad, lambda: None, timeout=0.2).deliver([])


def test_a_real_outage_and_its_end(tmp_path: Path, server: Any) -> None:
    """Down for one run, back for the next: both arrive, in order, through the real client and disk."""
    told: list[str] = []

    def run(story: Story, address: Callable[[], str]) -> None:
        view = LedgerView(
            tmp_path,
            actor="me",
            embedded=pytest.fail,
            shared=lambda: SharedLedger(address(), lambda: "t"),
            tell=told.append,
            patience=3_600,
        )
        watch(view, story.events)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    run(one(FIRST), lambda: f"http://127.0.0.1:{port}")
    assert told == [], "a laptop that never shipped is not told about a ledger that it does not have"
    run(shipped(), lambda: f"http://127.0.0.1:{port}")
    run(one(SECOND), lambda: url(server))
    subjects = [json.loads(body)[-1]["subject"] for _, _, body in server.requests]
    assert subjects == [FIRST, SECOND, RUN]
    (said,) = told
    assert said.startswith("ledger: this run waits in .slipway/spool/shared: http://127.0.0.1:")
