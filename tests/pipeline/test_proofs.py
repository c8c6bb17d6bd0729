"""A proof is whole or absent, and a damaged one is ignored and told, never believed."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scripts.pipeline import files
from scripts.pipeline.fingerprint import Fingerprint
from scripts.pipeline.proofs import KEPT_PROOFS, KEPT_RELEASES, Proof, Proofs

DIGEST = "sha256:" + "ab" * 32


def proof(content: str = "1", stage: str = "lint", run: str = "RUN1") -> Proof:
    seen = Fingerprint(files={"a.py": content}, facts={"tool ruff": "1"})
    return Proof(
        stage=stage,
        key=seen.key,
        run=run,
        at=datetime(2026, 11, 23, 14, 2, tzinfo=UTC),
        seconds=1.5,
        outputs={"digest": DIGEST},
        figures={"tests": 3.0},
        fingerprint=seen,
    )


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def proofs(tmp_path: Path, told: list[str]) -> Proofs:
    return Proofs(tmp_path / "proofs", told.append)


def test_a_saved_proof_is_found_as_it_was(proofs: Proofs) -> None:
    proofs.save(proof())
    assert proofs.find("lint", proof().key) == proof()
    assert proofs.find("test", proof().key) is None
    assert proofs.find("lint", "0" * 64) is None


def test_the_newest_is_the_one_written_last(proofs: Proofs) -> None:
    proofs.save(proof("1"))
    proofs.save(proof("2"))
    os.utime(proofs.directory / "lint" / f"{proof('1').key}.json", (1, 1))
    assert proofs.latest("lint") == proof("2")
    assert proofs.latest("test") is None


DAMAGE = [b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe", b'{"stage": "lint"}', b'"text"', b"1e999"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_proof_is_ignored_and_told_once(proofs: Proofs, told: list[str], damage: bytes) -> None:
    proofs.save(proof())
    path = proofs.directory / "lint" / f"{proof().key}.json"
    path.write_bytes(damage)
    assert proofs.find("lint", proof().key) is None
    assert proofs.latest("lint") is None
    assert len(told) == 1
    assert "damaged" in told[0]


@pytest.mark.parametrize("part", ["key", "files", "facts"])
def test_a_proof_that_was_altered_is_not_believed(proofs: Proofs, part: str) -> None:
    proofs.save(proof())
    path = proofs.directory / "lint" / f"{proof().key}.json"
    content = json.loads(path.read_text())
    content[part] = "0" * 64 if part == "key" else {}
    path.write_text(json.dumps(content))
    assert proofs.find("lint", proof().key) is None


def test_a_damaged_proof_does_not_hide_an_older_one(proofs: Proofs) -> None:
    proofs.save(proof("1"))
    os.utime(proofs.directory / "lint" / f"{proof('1').key}.json", (1, 1))
    proofs.save(proof("2"))
    (proofs.directory / "lint" / f"{proof('2').key}.json").write_bytes(b"{")
    assert proofs.latest("lint") == proof("1")


def test_the_oldest_proofs_are_forgotten(proofs: Proofs) -> None:
    for number in range(KEPT_PROOFS + 3):
        proofs.save(proof(str(number)))
    assert len(list((proofs.directory / "lint").iterdir())) == KEPT_PROOFS
    assert proofs.latest("lint") is not None


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "proof.json"
    files.write(path, b"old")

    def killed(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_are_no_text_survive(proofs: Proofs) -> None:
    seen = Fingerprint(files={os.fsdecode(b"caf\xe9"): "1"}, facts={})
    kept = Proof(stage="lint", key=seen.key, run="R", at=datetime.now(UTC), seconds=0, fingerprint=seen)
    proofs.save(kept)
    assert proofs.find("lint", seen.key) == kept


def test_a_release_has_the_proofs_that_were_assigned_to_it(proofs: Proofs) -> None:
    proofs.assign(DIGEST, {"build": proof(stage="build"), "lint": proof("1", run="RUN1")})
    proofs.assign(DIGEST, {"lint": proof("2", run="RUN2")})
    found = proofs.for_release(DIGEST)
    assert found.keys() == {"build", "lint"}
    assert found["lint"].run == "RUN2"
    assert found["lint"].key == proof("2").key
    assert proofs.for_release("sha256:" + "cd" * 32) == {}


def test_a_digest_cannot_lead_out_of_the_folder(proofs: Proofs, tmp_path: Path) -> None:
    proofs.assign("../../evil", {"lint": proof()})
    assert [path.parent for path in tmp_path.rglob("*.json")] == [tmp_path / "releases"]


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"lint": 1}', b'{"lint": {}}'])
def test_a_damaged_release_has_no_proof(
    proofs: Proofs, told: list[str], damage: bytes, tmp_path: Path
) -> None:
    proofs.assign(DIGEST, {"lint": proof()})
    next((tmp_path / "releases").iterdir()).write_bytes(damage)
    assert proofs.for_release(DIGEST) == {}
    assert len(told) == 1


def test_the_oldest_releases_are_forgotten(proofs: Proofs, tmp_path: Path) -> None:
    for number in range(KEPT_RELEASES + 2):
        proofs.assign(f"sha256:{number:064x}", {"lint": proof()})
    assert len(list((tmp_path / "releases").iterdir())) == KEPT_RELEASES


def test_the_runs_that_still_count_are_those_of_the_newest_proofs(proofs: Proofs) -> None:
    assert proofs.runs() == set()
    proofs.save(proof("1", run="OLD"))
    os.utime(proofs.directory / "lint" / f"{proof('1').key}.json", (1, 1))
    proofs.save(proof("2", run="NEW"))
    proofs.save(proof("1", stage="test", run="TEST"))
    assert proofs.runs() == {"NEW", "TEST"}
