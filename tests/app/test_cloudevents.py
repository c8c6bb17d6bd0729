"""What counts as a CloudEvent that the ledger can keep."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.ledger.cloudevents import InvalidEventError, format_time, parse, parse_time

GOOD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "urn:slipway:laptop",
    "type": "dev.slipway.run.started",
    "time": "2026-11-23T12:00:00.123456Z",
    "subject": "01J",
    "data": {"run": "01J"},
}


def test_every_core_attribute_is_kept() -> None:
    event = parse(GOOD)
    assert (event.id, event.source, event.type) == ("1", "urn:slipway:laptop", "dev.slipway.run.started")
    assert event.time == datetime(2026, 11, 23, 12, 0, 0, 123456, UTC)
    assert (event.subject, event.data) == ("01J", {"run": "01J"})


def test_extension_attributes_are_kept_with_their_type() -> None:
    event = parse({**GOOD, "traceparent": "00-abc", "sampled": True, "attempt": 3, "gone": None})
    assert event.extensions == {"traceparent": "00-abc", "sampled": True, "attempt": 3}


def test_data_and_subject_are_optional() -> None:
    event = parse({k: v for k, v in GOOD.items() if k not in ("data", "subject")})
    assert (event.data, event.subject) == (None, None)


DEEP: Any = []
for _ in range(40):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("change", "attribute"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": None}, "specversion"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"id": "a\x00b"}, "id"),
        ({"id": "x" * 1025}, "id"),
        ({"source": "not a uri"}, "source"),
        ({"source": ""}, "source"),
        ({"type": None}, "type"),
        ({"time": None}, "time"),
        ({"time": "2026-11-23 12:00:00Z"}, "time"),
        ({"time": "2026-11-23T12:00:00"}, "time"),
        ({"time": "2026-02-30T12:00:00Z"}, "time"),
        ({"time": "0001-01-01T00:00:00+14:00"}, "time"),
        ({"subject": ""}, "subject"),
        ({"data": "\ud800"}, "data"),
        ({"data": {"a\x00": 1}}, "data"),
        ({"data": [float("nan")]}, "data"),
        ({"data": {"a": float("inf")}}, "data"),
        ({"data": {1, 2}}, "data"),
        ({"data": DEEP}, "data"),
        ({"data_base64": "AA=="}, "data_base64"),
        ({"datacontenttype": "text/xml"}, "datacontenttype"),
        ({"Upper": "x"}, "Upper"),
        ({"nested": {}}, "nested"),
    ],
    ids=repr,
)
def test_a_broken_attribute_is_named(change: dict[str, Any], attribute: str) -> None:
    with pytest.raises(InvalidEventError) as caught:
        parse({**GOOD, **change})
    assert caught.value.attribute == attribute
    assert str(caught.value).startswith(f"event 0: {attribute}: ")


@pytest.mark.parametrize("document", [None, [], "text", 3])
def test_only_an_object_is_an_event(document: object) -> None:
    with pytest.raises(InvalidEventError, match="JSON object"):
        parse(document)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23t12:00:00z", "2026-11-23T12:00:00.000000Z"),
        ("2026-11-23T12:00:00.123456789Z", "2026-11-23T12:00:00.123456Z"),
        ("2026-11-23T12:00:00+02:00", "2026-11-23T10:00:00.000000Z"),
        ("0999-01-01T00:00:00Z", "0999-01-01T00:00:00.000000Z"),
    ],
)
def test_times_are_kept_as_utc_text_that_sorts(text: str, expected: str) -> None:
    assert format_time(parse_time(text, attribute="time")) == expected
