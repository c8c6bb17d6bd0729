"""The JSON API: its lists, its errors, what it lets in, and that its description is true."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from app.database import ConnectionManager
from app.ledger import tokens
from app.ledger.recorder import record
from app.web.api import BATCH, MAX_BATCH, MAX_BODY, SINGLE
from app.web.openapi import document

from .conftest import TOKEN
from .events import DIGEST, event, whole_run

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient

    from config.settings import Settings

EVENTS = "/api/v1/events"
LISTS = ("runs", "deployments", "artifacts", "events")


@pytest.fixture
def filled(ledger: ConnectionManager) -> ConnectionManager:
    """A ledger with seven deployments to two environments, of which the last one failed."""
    with ledger.transaction() as tx:
        for number in range(6):
            where = "staging" if number % 2 else "development"
            digest = f"sha256:{number:064x}"
            record(tx, whole_run(f"run-{number}", begin=number * 100, environment=where, digest=digest))
        failed = whole_run(
            "run-6", begin=600, environment="staging", result="failure", deployed="rolled_back", digest=DIGEST
        )
        record(tx, failed)
    return ledger


def problem(answer: Any, status: int) -> dict[str, Any]:
    """The problem document of an answer, after checking its form."""
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    found = json.loads(answer.get_data())
    Draft202012Validator(_resolved("Problem")).validate(found)
    assert found["status"] == status
    assert found["instance"].endswith(answer.headers["X-Request-ID"])
    return dict(found)


def _resolved(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}", "components": document()["components"]}


def test_what_runs_where_is_the_last_success_and_the_last_attempt(
    client: FlaskClient, filled: ConnectionManager
) -> None:
    found = client.get("/api/v1/environments").json
    assert found is not None
    by_name = {each["environment"]: each for each in found["items"]}
    assert list(by_name) == ["development", "staging"]
    assert by_name["staging"]["current"]["run"] == "run-5"
    assert by_name["staging"]["last"]["result"] == "rolled_back"
    assert by_name["development"]["current"] == by_name["development"]["last"]


def test_an_environment_where_nothing_succeeded_has_no_current_release(
    client: FlaskClient, ledger: ConnectionManager
) -> None:
    with ledger.transaction() as tx:
        record(tx, whole_run("01A", deployed="failed", result="failure"))
    (found,) = (client.get("/api/v1/environments").json or {})["items"]
    assert found["current"] is None
    assert found["last"]["result"] == "failed"


def test_a_run_has_its_stages_and_deployments(client: FlaskClient, filled: ConnectionManager) -> None:
    run = client.get("/api/v1/runs/run-3").json
    assert run is not None
    assert [stage["name"] for stage in run["stages"]] == ["lint", "test"]
    assert [each["environment"] for each in run["deployments"]] == ["staging"]
    assert run["started"] == "2026-11-23T12:05:00.000000Z"


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("limit", [1, 2, 200])
def test_pages_give_every_row_once_and_in_order(
    client: FlaskClient, filled: ConnectionManager, name: str, limit: int
) -> None:
    whole = client.get(f"/api/v1/{name}?limit=200").json
    assert whole is not None
    items, path = [], f"/api/v1/{name}?limit={limit}"
    while path:
        answer = client.get(path)
        assert answer.json is not None
        assert len(answer.json["items"]) <= limit
        items += answer.json["items"]
        link = re.fullmatch(r'<(.+)>; rel="next"', answer.headers.get("Link", ""))
        assert (link is None) == (answer.json["next"] is None)
        path = link[1] if link else ""
    assert items == whole["items"]
    assert len({json.dumps(item) for item in items}) == len(items) > 1


def test_rows_that_arrive_meanwhile_shift_nothing(client: FlaskClient, filled: ConnectionManager) -> None:
    first = client.get("/api/v1/runs?limit=3").json
    assert first is not None
    with filled.transaction() as tx:
        record(tx, whole_run("run-new", begin=9000))
    second = client.get(f"/api/v1/runs?limit=3&cursor={first['next']}").json
    assert second is not None
    assert [run["run"] for run in second["items"]] == ["run-3", "run-2", "run-1"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("runs?environment=staging&result=failure", ["run-6"]),
        ("runs?result=unheard-of", []),
        ("runs?commit=4f2c9d1e0b7a&limit=1", ["run-6"]),
        ("deployments?environment=development&result=succeeded", ["run-4", "run-2", "run-0"]),
        ("artifacts?commit=%27%20OR%201%3D1%20--", []),
        ("runs?environment=%25", []),
        ("runs?environment=staging%27%3B%20DROP%20TABLE%20event%3B--", []),
    ],
)
def test_filters_narrow_and_are_never_sql(
    client: FlaskClient, filled: ConnectionManager, path: str, expected: list[str]
) -> None:
    found = client.get(f"/api/v1/{path}").json
    assert found is not None
    assert [item["run"] for item in found["items"]] == expected
    with filled.transaction(read_only=True) as tx:
        assert tx.scalar("SELECT count(*) FROM event") == 42


def test_a_filter_stays_on_the_next_page(client: FlaskClient, filled: ConnectionManager) -> None:
    first = client.get("/api/v1/events?type=dev.slipway.run.started&limit=4")
    second = client.get(first.headers["Link"].split(">")[0].removeprefix("<"))
    assert second.json is not None
    assert [
        each["subject"] if "subject" in each else each["data"]["run"] for each in second.json["items"]
    ] == [
        "run-4",
        "run-5",
        "run-6",
    ]


def test_the_log_gives_cloudevents_that_it_would_take_again(
    client: FlaskClient, filled: ConnectionManager, token: dict[str, str]
) -> None:
    given = event("other", {"x": 1}, key="1", subject="s", traceparent="00-1")
    client.post(EVENTS, json=given, headers=token)
    found = client.get(f"{EVENTS}?type=dev.slipway.other").json
    assert found is not None
    (stored,) = found["items"]
    assert stored["sequence"].isdigit()
    assert {name: stored[name] for name in given} == {**given, "time": "2026-11-23T12:00:00.000000Z"}
    assert client.post(EVENTS, json=stored, headers=token).json == {"accepted": 0, "duplicates": 1}


@pytest.mark.parametrize("limit", ["0", "-1", "201", "1e3", "", "\u0663", "9" * 20, "2.0", " 5", "1;"])
def test_a_limit_out_of_bounds_is_refused(visitor: FlaskClient, limit: str) -> None:
    assert "limit" in problem(visitor.get("/api/v1/runs", query_string={"limit": limit}), 400)["detail"]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "!!!!",
        "W10",
        "bnVsbA",
        "WzEsMl0",
        "WyIyMDI2LTExLTIzVDEyOjAwOjAwWiIsIDFd",
        "WyJub3QgYSB0aW1lIiwgInJ1biJd",
        "WyIyMDI2LTExLTIzVDEyOjAwOjAwWiIsICJhXHUwMDAwYiJd",
        "A" * 5000,
        "é",
    ],
)
def test_a_cursor_that_we_did_not_make_is_refused(visitor: FlaskClient, cursor: str) -> None:
    answer = visitor.get("/api/v1/runs", query_string={"cursor": cursor})
    assert "cursor" in problem(answer, 400)["detail"]


def test_an_event_cursor_is_a_number_in_range(client: FlaskClient, filled: ConnectionManager) -> None:
    import base64

    def page(position: object) -> Any:
        word = base64.urlsafe_b64encode(json.dumps([position]).encode()).decode()
        return client.get(EVENTS, query_string={"cursor": word})

    assert page(2**62).json == {"items": [], "next": None}
    for wrong in (2**63, -1, True, 1.5, "1", None):
        problem(page(wrong), 400)


@pytest.mark.parametrize(
    "query",
    ["enviroment=staging", "environment=a&environment=b", "environment=%00", "environment=" + "x" * 201],
)
def test_a_parameter_that_means_nothing_is_refused(visitor: FlaskClient, query: str) -> None:
    problem(visitor.get(f"/api/v1/runs?{query}"), 400)


def test_a_list_without_pages_takes_no_limit(visitor: FlaskClient) -> None:
    problem(visitor.get("/api/v1/environments?limit=5"), 400)
    problem(visitor.get("/api/v1/runs/x?cursor=5"), 400)


def test_an_unchanged_answer_is_304(client: FlaskClient, filled: ConnectionManager) -> None:
    first = client.get("/api/v1/runs")
    again = client.get("/api/v1/runs", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.get_data()) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    with filled.transaction() as tx:
        record(tx, whole_run("run-7", begin=700))
    changed = client.get("/api/v1/runs", headers={"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200


def test_one_event_a_list_and_nothing_are_all_accepted(client: FlaskClient, token: dict[str, str]) -> None:
    events = whole_run("01A")
    single = client.post(EVENTS, data=json.dumps(events[0]), content_type=SINGLE, headers=token)
    assert single.json == {"accepted": 1, "duplicates": 0}
    batch = client.post(
        EVENTS, data=json.dumps(events), content_type=f"{BATCH}; charset=UTF-8", headers=token
    )
    assert batch.json == {"accepted": len(events) - 1, "duplicates": 1}
    assert client.post(EVENTS, json=[], headers=token).json == {"accepted": 0, "duplicates": 0}


@pytest.mark.parametrize(("kind", "body"), [(SINGLE, "[]"), (BATCH, "{}")])
def test_the_content_type_says_one_or_many(
    visitor: FlaskClient, token: dict[str, str], kind: str, body: str
) -> None:
    problem(visitor.post(EVENTS, data=body, content_type=kind, headers=token), 400)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/xml", "", "application/json; charset=latin-1", "multipart/form-data"]
)
def test_other_content_types_are_415(visitor: FlaskClient, token: dict[str, str], kind: str) -> None:
    answer = visitor.post(EVENTS, data=b"{}", content_type=kind, headers=token)
    problem(answer, 415)
    assert SINGLE in answer.headers["Accept-Post"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b'{"id": NaN}',
        b"[" * 100_000,
        b'{"id": ' + b"9" * 5000 + b"}",
        b"\xef\xbb\xbf{}",
        b"{} {}",
    ],
    ids=["empty", "cut", "not UTF-8", "NaN", "deep", "huge number", "BOM", "two documents"],
)
def test_a_body_that_is_not_json_is_400(visitor: FlaskClient, token: dict[str, str], body: bytes) -> None:
    problem(visitor.post(EVENTS, data=body, content_type="application/json", headers=token), 400)


def test_a_bad_event_is_named_with_its_place_and_rule(client: FlaskClient, token: dict[str, str]) -> None:
    good, bad = whole_run("01A")[0], {**whole_run("01A")[1], "time": "soon"}
    found = problem(client.post(EVENTS, json=[good, bad], headers=token), 422)
    assert found["errors"] == [
        {"index": 1, "attribute": "time", "rule": "must be an RFC 3339 time such as 2026-01-31T12:00:00Z"}
    ]
    page = client.get(EVENTS).json
    assert page is not None
    assert page["items"] == []


@pytest.mark.parametrize("document", [7, "text", None, [[]], [None]])
def test_json_that_is_no_event_is_422(visitor: FlaskClient, token: dict[str, str], document: object) -> None:
    answer = visitor.post(EVENTS, data=json.dumps(document), content_type="application/json", headers=token)
    problem(answer, 422)


def test_too_many_or_too_much_is_413(visitor: FlaskClient, token: dict[str, str]) -> None:
    problem(visitor.post(EVENTS, json=[{}] * (MAX_BATCH + 1), headers=token), 413)
    big = b'"' + b"x" * MAX_BODY + b'"'
    problem(visitor.post(EVENTS, data=big, content_type="application/json", headers=token), 413)


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", "Bearer wrong", f"Bearer {TOKEN}x", "Bearer \udcff"],
)
def test_writing_needs_a_token(visitor: FlaskClient, header: str | None) -> None:
    headers = (
        {}
        if header is None
        else {"Authorization": header.encode("utf-8", "surrogateescape").decode("latin-1")}
    )
    answer = visitor.post(EVENTS, json=[], headers=headers)
    problem(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="slipway"')


def test_a_token_opens_only_its_scopes(client: FlaskClient, ledger: ConnectionManager) -> None:
    with ledger.transaction() as tx:
        tokens.ensure(tx, "reader", "a-reader", scopes=["other"])
    answer = client.post(EVENTS, json=[], headers={"Authorization": "Bearer a-reader"})
    problem(answer, 403)
    assert 'scope="events:write"' in answer.headers["WWW-Authenticate"]


def test_a_token_is_stored_only_as_its_hash(
    client: FlaskClient, ledger: ConnectionManager, token: dict[str, str]
) -> None:
    assert client.post(EVENTS, json=[], headers=token).status_code == 200
    with ledger.transaction(read_only=True) as tx:
        row = tx.one("SELECT * FROM token")
    assert row["hash"] == tokens.hashed(TOKEN)
    assert TOKEN not in str(dict(row))


def test_a_new_token_of_a_name_revokes_the_old_and_may_come_back(ledger: ConnectionManager) -> None:
    def opens(text: str) -> bool:
        with ledger.transaction(read_only=True) as tx:
            return tokens.scopes_of(tx, text) is not None

    for text in ("first", "second", "second"):
        with ledger.transaction() as tx:
            tokens.ensure(tx, "LEDGER_TOKEN", text)
    assert (opens("first"), opens("second")) == (False, True)
    with ledger.transaction() as tx:
        tokens.ensure(tx, "LEDGER_TOKEN", "first")
        tokens.ensure(tx, "other", "third")
    assert (opens("first"), opens("second"), opens("third")) == (True, False, True)


def test_replicas_that_start_together_agree_on_the_token(ledger: ConnectionManager) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def ensure(_number: int) -> None:
        ledger.run(lambda tx: tokens.ensure(tx, "LEDGER_TOKEN", TOKEN))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ensure, range(8)))
    with ledger.transaction(read_only=True) as tx:
        assert tx.scalar("SELECT count(*) FROM token WHERE revoked IS NULL") == 1


def test_writers_at_once_lose_nothing(ledger: ConnectionManager) -> None:
    """Each delivers every event, in another order; the ledger holds each once."""
    import random
    from concurrent.futures import ThreadPoolExecutor

    events = [each for number in range(5) for each in whole_run(f"run-{number}", begin=number * 50)]

    def deliver(seed: int) -> int:
        mine = events.copy()
        random.Random(seed).shuffle(mine)
        parts = [mine[start : start + 7] for start in range(0, len(mine), 7)]
        return sum(ledger.run(lambda tx, part=part: record(tx, part)).accepted for part in parts)

    with ThreadPoolExecutor(4) as pool:
        accepted = sum(pool.map(deliver, range(4)))
    assert accepted == len(events)
    with ledger.transaction(read_only=True) as tx:
        assert tx.scalar("SELECT count(*) FROM event") == len(events)
        assert tx.scalar("SELECT count(*) FROM pipeline_run WHERE result = 'success'") == 5


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v1/runs/unknown", 404),
        ("GET", "/api/v1/runs/..%2F..%2Fetc", 404),
        ("GET", "/api/v1/runs/%00", 400),
        ("POST", "/api/v1/runs", 405),
        ("DELETE", "/api/v1/events", 405),
        ("PUT", "/openapi.json", 405),
    ],
)
def test_every_refusal_is_a_problem_document(
    visitor: FlaskClient, method: str, path: str, status: int
) -> None:
    answer = visitor.open(path, method=method, headers={"Accept": "text/html"} if "/api/" in path else {})
    problem(answer, status)
    assert (status == 405) == ("Allow" in answer.headers)


def test_a_bug_is_a_problem_document_that_tells_nothing(application: Flask) -> None:
    def broken() -> str:
        raise RuntimeError("the secret inner reason")

    application.add_url_rule("/api/v1/broken", view_func=broken)
    found = problem(application.test_client().get("/api/v1/broken"), 500)
    assert "secret" not in str(found)


def test_a_database_that_is_away_is_worth_a_retry(client: FlaskClient, ledger: ConnectionManager) -> None:
    ledger.close()
    answer = client.get("/api/v1/runs")
    problem(answer, 503)
    assert answer.headers["Retry-After"] == "1"


def test_every_answer_carries_an_id_and_the_security_headers(visitor: FlaskClient) -> None:
    for path in ("/", "/api/v1/runs", "/api/v1/nothing", "/livez", "/static/style.css"):
        with visitor.get(path, headers={"X-Request-ID": "abc-1"}) as answer:
            assert answer.headers["X-Request-ID"] == "abc-1"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for wrong in ("a b", "x" * 65, "<script>"):
        assert visitor.get("/livez", headers={"X-Request-ID": wrong}).headers["X-Request-ID"] != wrong


class TestTheDescription:
    """Drive every route that the description has, and no route that it does not have."""

    def test_it_is_openapi_and_holds_only_references_that_exist(self) -> None:
        described = document()
        assert described["openapi"].startswith("3.1")
        for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)):
            Draft202012Validator.check_schema(described["components"]["schemas"][name])

    def test_it_describes_exactly_the_routes_for_programs(self, application: Flask) -> None:
        served = {
            (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
            for rule in application.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
            if rule.endpoint != "static" and not rule.endpoint.startswith("pages.")
        }
        described = {(path, method) for path, item in document()["paths"].items() for method in item}
        assert described == served

    def test_every_answer_fits_its_schema(self, client: FlaskClient, filled: ConnectionManager) -> None:
        for path, item in document()["paths"].items():
            answer = client.get(path.replace("{run}", "run-1"))
            assert answer.status_code == 200, path
            described = item["get"]["responses"]["200"]
            (kind,) = described["content"]
            assert answer.mimetype == kind
            assert set(described.get("headers", {})) - {"Link"} <= set(answer.headers.keys())
            if kind == "application/json":
                schema = {**described["content"][kind]["schema"], "components": document()["components"]}
                Draft202012Validator(schema).validate(json.loads(answer.get_data()))

    def test_what_we_send_fits_the_schema_of_events(self, client: FlaskClient, token: dict[str, str]) -> None:
        for each in whole_run("01A"):
            Draft202012Validator(_resolved("Event")).validate(each)
        answer = client.post(EVENTS, json=whole_run("01A"), headers=token)
        Draft202012Validator(_resolved("Recorded")).validate(answer.json)

    def test_it_is_served(self, client: FlaskClient) -> None:
        assert client.get("/openapi.json").json == json.loads(json.dumps(document()))


def test_the_secret_key_signs_what_flask_signs(visitor: FlaskClient, settings: Settings) -> None:
    from itsdangerous import URLSafeTimedSerializer

    application, key = visitor.application, settings.security.secret_key.reveal()
    signer = application.session_interface.get_signing_serializer(application)  # type: ignore[attr-defined]
    assert isinstance(signer, URLSafeTimedSerializer)
    assert signer.secret_keys == [key.encode()]
