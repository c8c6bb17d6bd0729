"""Events as the pipeline sends them, for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DIGEST = "sha256:" + "a1" * 32


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def event(kind: str, data: Any, *, key: str, seconds: float = 0.0, **more: Any) -> dict[str, Any]:
    """One CloudEvent of the pipeline, `seconds` after START."""
    return {
        "specversion": "1.0",
        "id": key,
        "source": "urn:slipway:test",
        "type": f"dev.slipway.{kind}",
        "time": at(seconds),
        "data": data,
        **more,
    }


def stage(
    name: str, *, result: str = "success", begin: float = 0.0, seconds: float = 1.0, **more: Any
) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "effect" if name in ("push", "deploy") else "check",
        "result": result,
        "reason": f"{name} has no proof for this tree",
        "proof": None,
        "seconds": seconds,
        "started": at(begin),
        "log": f"{name}.log",
        "figures": {},
        **more,
    }


def record_of(
    run: str,
    *,
    command: str = "deploy",
    environment: str | None = "development",
    result: str = "success",
    deployed: str | None = "succeeded",
    digest: str | None = DIGEST,
    begin: float = 0.0,
    stages: list[dict[str, Any]] | None = None,
    commit: str = "4f2c9d1e0b7a",
) -> dict[str, Any]:
    """A run record as the pipeline writes it in run.json."""
    done = (
        stages
        if stages is not None
        else [stage("lint", begin=begin), stage("test", begin=begin, seconds=20.0)]
    )
    return {
        "run": run,
        "command": command,
        "environment": environment,
        "result": result,
        "commit": commit,
        "dirty": False,
        "started": at(begin),
        "seconds": 30.0,
        "stages": done,
        "release": {
            "digest": digest,
            "image": "127.0.0.1:5000/slipway",
            "bytes": 70_000_000,
            "bytes_compressed": 24_000_000,
        }
        if digest
        else None,
        "deployment": {
            "environment": environment,
            "result": deployed,
            "previous": None,
            "url": "http://127.0.0.1:8080",
        }
        if deployed
        else None,
    }


def whole_run(run: str, *, begin: float = 0.0, actor: str = "ada", **more: Any) -> list[dict[str, Any]]:
    """Every event of one deploying run, in the order that they happen."""
    record = record_of(run, begin=begin, **more)
    head = {name: record[name] for name in ("run", "command", "environment", "commit", "dirty", "started")}
    events = [event("run.started", head, key=f"{run}/started", seconds=begin)]
    events += [
        event(
            "task.finished",
            {**each, "run": run},
            key=f"{run}/{each['name']}",
            seconds=begin + each["seconds"],
        )
        for each in record["stages"]
    ]
    if record["release"]:
        built = {**record["release"], "run": run, "commit": record["commit"]}
        events.append(event("artifact.built", built, key=f"{run}/artifact", seconds=begin + 20))
    if record["deployment"]:
        done = {
            **record["deployment"],
            "run": run,
            "commit": record["commit"],
            "digest": (record["release"] or {}).get("digest"),
            "actor": actor,
            "started": at(begin + 21),
            "seconds": 8.5,
        }
        events.append(event("deployment.finished", done, key=f"{run}/deployment", seconds=begin + 29))
    events.append(event("run.finished", record, key=f"{run}/finished", seconds=begin + 30))
    return events
