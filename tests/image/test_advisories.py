"""Advisories in the OSV schema are matched as the schema says."""

import json
import zipfile
from pathlib import Path

import pytest

from scripts.image import advisories
from scripts.pipeline.errors import UsageError

CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
LOW = "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"


def record(
    name: str = "Made_Up",
    *,
    number: str = "PYSEC-1",
    events: list[dict[str, str]] | None = None,
    **more: object,
):
    affected = {
        "package": {"ecosystem": "PyPI", "name": name},
        "ranges": [{"type": "ECOSYSTEM", "events": events or [{"introduced": "0"}, {"fixed": "2.0"}]}],
    }
    return {"id": number, "summary": "It breaks.", "affected": [affected], **more}


def found(version: str, *records: dict) -> list[advisories.Finding]:
    return advisories.match(list(records), {"made-up": version})


@pytest.mark.parametrize(
    ("version", "events", "affected"),
    [
        ("1.9", [{"introduced": "0"}, {"fixed": "2.0"}], True),
        ("2.0", [{"introduced": "0"}, {"fixed": "2.0"}], False),
        ("2.0rc1", [{"introduced": "0"}, {"fixed": "2.0"}], True),
        ("1.10", [{"introduced": "1.9"}, {"fixed": "1.11"}], True),
        ("1.2", [{"introduced": "1.9"}, {"fixed": "1.11"}], False),
        ("2.0", [{"introduced": "0"}, {"last_affected": "2.0"}], True),
        ("2.0.1", [{"introduced": "0"}, {"last_affected": "2.0"}], False),
        ("3.5", [{"fixed": "4.0"}, {"introduced": "3.0"}, {"fixed": "2.0"}, {"introduced": "0"}], True),
        ("2.5", [{"fixed": "4.0"}, {"introduced": "3.0"}, {"fixed": "2.0"}, {"introduced": "0"}], False),
        ("9.9", [{"introduced": "0"}], True),
        ("1.0", [{"fixed": "2.0"}], False),
    ],
)
def test_a_range_covers_what_its_events_say(
    version: str, events: list[dict[str, str]], affected: bool
) -> None:
    assert bool(found(version, record(events=events))) is affected


def test_a_listed_version_is_affected_however_it_is_spelt() -> None:
    listed = record(events=[{"introduced": "5.0"}])
    listed["affected"][0]["versions"] = ["1.0.0"]
    assert found("1.0", listed)
    assert not found("1.1", listed)


def test_a_version_that_is_none_by_pep_440_is_only_looked_up_in_the_list() -> None:
    listed = record()
    listed["affected"][0]["versions"] = ["weird-1"]
    assert found("weird-1", listed)
    assert not found("weird-2", listed)


def test_names_are_compared_as_the_index_compares_them() -> None:
    assert found("1.0", record("MADE.up"))[0].package == "made-up"
    assert not found("1.0", record("made-up-too"))


def test_another_ecosystems_package_of_the_name_is_not_meant() -> None:
    other = record()
    other["affected"][0]["package"]["ecosystem"] = "npm"
    assert not found("1.0", other)


@pytest.mark.parametrize(
    ("more", "severity", "score"),
    [
        ({"severity": [{"type": "CVSS_V3", "score": CRITICAL}]}, "critical", 9.8),
        (
            {"severity": [{"type": "CVSS_V3", "score": LOW}, {"type": "CVSS_V3", "score": CRITICAL}]},
            "critical",
            9.8,
        ),
        ({"severity": [{"type": "CVSS_V3", "score": LOW}]}, "low", 1.8),
        ({"severity": [{"type": "CVSS_V2", "score": "AV:N/AC:L/Au:N/C:P/I:P/A:P"}]}, "high", 7.5),
        ({"severity": [{"type": "CVSS_V3", "score": "nonsense"}]}, "", None),
        ({"database_specific": {"severity": "MODERATE"}}, "medium", None),
        ({}, "", None),
    ],
)
def test_the_severity_comes_from_the_worst_vector(more: dict, severity: str, score: float | None) -> None:
    finding = found("1.0", record(**more))[0]
    assert (finding.severity, finding.score) == (severity, score)


def test_two_records_of_one_weakness_are_one_finding_with_the_rating_of_either() -> None:
    plain = record(number="PYSEC-1", aliases=["CVE-2026-1"])
    rated = record(number="GHSA-x", aliases=["CVE-2026-1"], severity=[{"type": "CVSS_V3", "score": CRITICAL}])
    findings = found("1.0", plain, rated)
    assert [(each.id, each.severity) for each in findings] == [("GHSA-x", "critical")]
    assert set(findings[0].aliases) == {"CVE-2026-1", "PYSEC-1"}


def test_a_finding_names_the_fix_and_one_line_of_summary() -> None:
    finding = found("1.0", {**record(), "summary": "", "details": "First line.\nMore."})[0]
    assert (finding.fixed, finding.summary) == ("2.0", "First line.")


def test_records_are_read_from_a_folder_and_from_a_zip_alike(tmp_path: Path) -> None:
    folder = tmp_path / "osv data"
    folder.mkdir()
    records = [
        record(),
        record("other", number="PYSEC-2"),
        record(number="PYSEC-3", withdrawn="2026-01-01T00:00:00Z"),
    ]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for each in records:
            (folder / f"{each['id']}.json").write_text(json.dumps(each))
            archive.writestr(f"{each['id']}.json", json.dumps(each))
    for source in (folder, tmp_path / "all.zip"):
        assert [each["id"] for each in advisories.load(source, {"made-up"})] == ["PYSEC-1"]


@pytest.mark.parametrize(
    "content", [None, b"", b"no zip", b"PK\x03\x04 cut"], ids=["none", "empty", "noise", "cut"]
)
def test_data_that_cannot_be_read_is_refused_with_what_to_do(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "all.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="ADVISORIES") as refused:
        advisories.load(path, {"made-up"})
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"summary": "no id"}'])
def test_a_folder_with_a_broken_record_or_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / ("a.json" if content else "a.txt")).write_text(content)
    with pytest.raises(UsageError):
        advisories.load(tmp_path, {"made-up"})
