"""What other programs read: ids that sort by time, times in UTC, sizes as numbers."""

from datetime import UTC, datetime, timedelta, timezone

from scripts.pipeline.record import new_run_id, timestamp, whole


def test_run_ids_sort_by_time() -> None:
    begin = datetime(2026, 11, 23, tzinfo=UTC)
    ids = [new_run_id(begin + timedelta(milliseconds=number)) for number in range(100)]
    assert ids == sorted(ids)


def test_run_ids_of_one_moment_differ() -> None:
    now = datetime.now(UTC)
    assert len({new_run_id(now) for _ in range(1000)}) == 1000


def test_a_run_id_is_a_ulid() -> None:
    """The example of https://github.com/ulid/spec: its time part is that of 1469918176385 ms."""
    moment = datetime.fromtimestamp(1469918176385 / 1000, UTC)
    assert new_run_id(moment, 0) == "01ARYZ6S41" + "0" * 16
    assert new_run_id(moment, 2**80 - 1) == "01ARYZ6S41" + "Z" * 16


def test_times_are_utc() -> None:
    moment = datetime(2026, 11, 23, 14, 2, 3, 4567, tzinfo=timezone(timedelta(hours=2)))
    assert timestamp(moment) == "2026-11-23T12:02:03.004Z"


def test_a_size_that_is_no_number_is_none() -> None:
    assert [whole("12"), whole(""), whole(None), whole("x"), whole("-1")] == [12, 0, 0, 0, 0]
