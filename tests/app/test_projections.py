"""What events mean: pure rules first, then the same rules in real tables."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.database import ConnectionManager
from app.database.errors import RolledBack
from app.ledger import models, projections
from app.ledger.cloudevents import InvalidEventError, parse
from app.ledger.projections import apply, merge, rebuild
from app.ledger.recorder import record

from .events import DIGEST, at, event, record_of, stage, whole_run

KINDS = ("run.started", "run.finished", "task.finished", "artifact.built", "deployment.finished", "other")
ONE = st.tuples(
    st.sampled_from(KINDS),
    st.integers(0, 1),
    st.integers(0, 2),
    st.sampled_from(["success", "failure", "succeeded"]),
)
EXAMPLES = itertools.count()


def rows(tx: Any) -> dict[str, list[Any]]:
    """Every projection's rows, by table."""
    return {
        each.name: tx.execute(sa.select(each).order_by(*each.primary_key)).all()
        for each in models.PROJECTIONS
    }


def table(changes: Any, name: str) -> list[dict[str, Any]]:
    return [dict(change.row) for change in merge(changes) if change.table == name]


def delivered(script: list[tuple[str, int, int, str]], space: str) -> list[dict[str, Any]]:
    """Events of a few runs whose times collide, all with keys in `space`."""
    made = []
    for number, (kind, run_number, seconds, result) in enumerate(script):
        run = f"{space}-{run_number}"
        data = record_of(
            run,
            result=result,
            deployed=result,
            digest=f"sha256:{space}-{seconds}",
            stages=[stage(f"stage{seconds}", result=result), stage("test", result=result)],
        )
        if kind != "run.finished":
            data |= {"name": f"stage{seconds}", "digest": f"sha256:{space}-{seconds}", "position": number}
        made.append(event(kind, data, key=f"{space}-{number}", seconds=seconds))
    return made


@settings(deadline=None, max_examples=50)
@given(script=st.lists(ONE, max_size=12), seed=st.randoms(use_true_random=False))
def test_the_order_and_repetition_of_events_do_not_matter(script: list[Any], seed: random.Random) -> None:
    events = [parse(each) for each in delivered(script, "pure")]
    again = [*events, *seed.sample(events, k=seed.randint(0, len(events)))]
    seed.shuffle(again)
    in_order = merge(change for each in events for change in apply(each))
    assert merge(change for each in again for change in apply(each)) == in_order


@settings(deadline=None, max_examples=50)
@given(script=st.lists(ONE, max_size=12), cut=st.integers(0, 12))
def test_folding_in_parts_is_folding_at_once(script: list[Any], cut: int) -> None:
    changes = [change for each in delivered(script, "pure") for change in apply(parse(each))]
    assert merge([*merge(changes[:cut]), *merge(changes[cut:])]) == merge(changes)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=st.lists(ONE, max_size=10), seed=st.randoms(use_true_random=False))
def test_tables_hold_the_fold_whatever_the_delivery(
    ledger: ConnectionManager, script: list[Any], seed: random.Random
) -> None:
    events = delivered(script, f"example{next(EXAMPLES)}x")
    again = [*events, *seed.sample(events, k=seed.randint(0, len(events)))]
    seed.shuffle(again)
    while again:
        size = seed.randint(1, len(again))
        batch, again = again[:size], again[size:]
        ledger.run(lambda tx, batch=batch: record(tx, batch))
    expected = merge(change for each in events for change in apply(parse(each)))
    with ledger.transaction(read_only=True) as tx:
        for change in expected:
            found = models.metadata.tables[change.table]
            keys = [found.c[name] == change.row[name] for name in projections.KEYS[change.table]]
            assert dict(tx.execute(sa.select(found).where(*keys)).mappings().one()) == dict(change.row)
    with ledger.transaction() as tx:
        before = rows(tx)
        rebuild(tx)
        assert rows(tx) == before


def test_a_rebuild_reads_a_log_longer_than_a_page(ledger: ConnectionManager) -> None:
    with ledger.transaction() as tx:
        record(
            tx, [each for number in range(60) for each in whole_run(f"run-{number:03}", begin=number * 60)]
        )
        before = rows(tx)
        assert len(before["pipeline_run"]) == 60
        tx.execute(sa.delete(models.pipeline_run))
        assert rebuild(tx) == 60 * 6
        assert rows(tx) == before


def test_a_run_is_running_until_it_finishes() -> None:
    started, *_, finished = (parse(each) for each in whole_run("01A"))
    (running,) = table(apply(started), "pipeline_run")
    assert (running["result"], running["finished"], running["seconds"]) == (None, None, None)
    (done,) = table([*apply(finished), *apply(started)], "pipeline_run")
    assert (done["result"], done["seconds"], done["digest"]) == ("success", 30.0, DIGEST)


def test_a_run_without_its_start_time_starts_with_its_event() -> None:
    data = {"run": "01A", "command": "lint"}
    (row,) = table(apply(parse(event("run.started", data, key="1", seconds=5))), "pipeline_run")
    assert row["started"].isoformat() == "2026-11-23T12:00:05+00:00"
    assert row["environment"] is None


def test_the_final_record_of_a_run_outranks_what_came_before() -> None:
    late = event("task.finished", {**stage("lint", result="failure"), "run": "01A"}, key="late", seconds=500)
    final = event("run.finished", record_of("01A"), key="final", seconds=1)
    changes = [change for each in (final, late) for change in apply(parse(each))]
    assert [(row["name"], row["result"], row["position"]) for row in table(changes, "task_run")] == [
        ("lint", "success", 0),
        ("test", "success", 1),
    ]


def test_whoever_built_an_artifact_first_is_who_built_it() -> None:
    data = {"digest": DIGEST, "commit": "abc"}
    first = event("artifact.built", {**data, "run": "01A"}, key="1", seconds=1)
    second = event("artifact.built", {**data, "run": "01B"}, key="2", seconds=2)
    for order in ((first, second), (second, first)):
        (row,) = table([change for each in order for change in apply(parse(each))], "artifact")
        assert row["run"] == "01A"


def test_a_young_ledger_learns_of_an_artifact_from_the_run_that_used_it() -> None:
    (row,) = table(apply(parse(event("run.finished", record_of("01A"), key="1"))), "artifact")
    assert (row["digest"], row["bytes_compressed"]) == (DIGEST, 24_000_000)


def test_a_deployment_event_tells_more_than_the_run_that_made_it() -> None:
    events = [parse(each) for each in whole_run("01A", actor="grace")]
    (row,) = table([change for each in events for change in apply(each)], "deployment")
    assert (row["actor"], row["result"], row["seconds"]) == ("grace", "succeeded", 8.5)


def test_types_of_others_are_kept_but_mean_nothing() -> None:
    assert apply(parse(event("other", {"run": 7}, key="1"))) == ()


@pytest.mark.parametrize(
    ("kind", "change", "attribute"),
    [
        ("run.started", {"run": ""}, "data.run"),
        ("run.started", {"run": "x" * 201}, "data.run"),
        ("run.started", {"command": 7}, "data.command"),
        ("run.started", {"dirty": "no"}, "data.dirty"),
        ("run.started", {"started": "yesterday"}, "data.started"),
        ("run.finished", {"seconds": "long"}, "data.seconds"),
        ("run.finished", {"seconds": True}, "data.seconds"),
        ("run.finished", {"stages": {}}, "data.stages"),
        ("run.finished", {"stages": [1]}, "data.stages"),
        ("run.finished", {"stages": [{"result": "success"}]}, "data.stages[0].name"),
        ("run.finished", {"release": []}, "data.release"),
        ("run.finished", {"release": {"digest": DIGEST, "bytes": 2**63}}, "data.release.bytes"),
        ("run.finished", {"stages": [stage("lint", figures={"x": "y"})]}, "data.stages[0].figures.x"),
    ],
)
def test_data_that_cannot_be_projected_is_refused_by_name(
    kind: str, change: dict[str, Any], attribute: str
) -> None:
    with pytest.raises(InvalidEventError) as caught:
        apply(parse(event(kind, {**record_of("01A"), **change}, key="1")))
    assert caught.value.attribute == attribute


def test_a_type_of_ours_needs_an_object() -> None:
    with pytest.raises(InvalidEventError, match="JSON object"):
        apply(parse(event("run.started", [1], key="1")))


def test_a_bad_event_leaves_nothing_of_its_batch(ledger: ConnectionManager) -> None:
    good, bad = whole_run("01A")[0], event("run.started", {}, key="2")
    with pytest.raises(InvalidEventError) as caught, ledger.transaction() as tx:
        record(tx, [good, bad])
    assert (caught.value.index, caught.value.attribute) == (1, "data.run")
    with ledger.transaction(read_only=True) as tx:
        assert tx.scalar("SELECT count(*) FROM event") == 0


def test_a_repeated_delivery_is_counted_and_changes_nothing(ledger: ConnectionManager) -> None:
    events = whole_run("01A")
    with ledger.transaction() as tx:
        first = record(tx, [*events, events[0]])
        before = rows(tx)
        second = record(tx, events)
        assert rows(tx) == before
        assert (first.accepted, first.duplicates) == (len(events), 1)
        assert (second.accepted, second.duplicates) == (0, len(events))
        assert record(tx, []).accepted == 0


def test_events_come_back_as_they_were_recorded(ledger: ConnectionManager) -> None:
    data = {"text": "naïve ☃ '; DROP TABLE event; --", "big": 2**60, "nested": [None, True, 1.5, {"a": []}]}
    given_ = event("other", data, key="ü/1", traceparent="00-1", sampled=True, subject="s")
    with ledger.transaction() as tx:
        record(tx, [given_])
        row = tx.execute(sa.select(models.event)).mappings().one()
    assert row["data"] == data
    assert row["extensions"] == {"traceparent": "00-1", "sampled": True}
    assert row["time"].isoformat() == "2026-11-23T12:00:00+00:00"
    assert (row["id"], row["subject"]) == ("ü/1", "s")
    assert row["recorded"].tzinfo is not None


@pytest.mark.parametrize("statement", ["UPDATE event SET id = 'x'", "DELETE FROM event", "TRUNCATE event"])
def test_the_log_cannot_be_changed(ledger: ConnectionManager, statement: str) -> None:
    with ledger.transaction() as tx:
        record(tx, whole_run("01A"))
        if statement.startswith("TRUNCATE") and tx.dialect == "sqlite":
            statement = "DELETE FROM event"
    with pytest.raises(RolledBack, match="append-only"), ledger.transaction() as tx:
        tx.execute(statement)
    with ledger.transaction(read_only=True) as tx:
        assert tx.scalar("SELECT count(*) FROM event") == 6


def test_the_migrated_schema_is_the_models(ledger: ConnectionManager) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with ledger.transaction() as tx:
        context = MigrationContext.configure(tx.connection, opts={"compare_type": True})
        ours = set(models.metadata.tables)
        differences = [
            each for each in compare_metadata(context, models.metadata) if not _foreign(each, ours)
        ]
    assert differences == []


def _foreign(difference: Any, ours: set[str]) -> bool:
    """Tables of other rooms in the same database are not the ledger's business."""
    return difference[0] == "remove_table" and difference[1].name not in ours


def test_a_naive_time_is_refused(ledger: ConnectionManager) -> None:
    from datetime import datetime

    naive = datetime.fromisoformat(at(0)).replace(tzinfo=None)
    with pytest.raises(sa.exc.StatementError, match="without a zone"), ledger.transaction() as tx:
        tx.execute(sa.select(models.event).where(models.event.c.time == naive))
