"""The stored record that a fingerprint passed: found by its key, written at once and whole, never trusted
blindly."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from scripts.pipeline import files
from scripts.pipeline.fingerprint import Fingerprint

KEPT_PROOFS = 20
KEPT_RELEASES = 50


@dataclass(frozen=True, kw_only=True)
class Proof:
    """That a stage passed with this fingerprint: in which run, when, how long it took in seconds, what it
    made.

    A proof read for a release has an empty fingerprint: only its key is kept there.
    """

    stage: str
    key: str
    run: str
    at: datetime
    seconds: float
    outputs: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    fingerprint: Fingerprint = field(default_factory=lambda: Fingerprint(files={}))

    def content(self, *, whole: bool) -> dict[str, Any]:
        """Return the proof as JSON content; `whole` with all that it depends on, to explain differences."""
        content = {
            "stage": self.stage,
            "key": self.key,
            "run": self.run,
            "at": self.at.isoformat(),
            "seconds": self.seconds,
            "outputs": dict(self.outputs),
            "figures": dict(self.figures),
        }
        if whole:
            content |= {"files": dict(self.fingerprint.files), "facts": dict(self.fingerprint.facts)}
        return content


def parse(content: Any) -> Proof:
    """Make a proof from JSON; raises ValueError, KeyError, TypeError or AttributeError when it is none."""
    return Proof(
        stage=str(content["stage"]),
        key=str(content["key"]),
        run=str(content["run"]),
        at=datetime.fromisoformat(content["at"]),
        seconds=float(content["seconds"]),
        outputs={str(name): str(value) for name, value in content["outputs"].items()},
        figures={str(name): float(value) for name, value in content["figures"].items()},
        fingerprint=Fingerprint(files=dict(content.get("files", {})), facts=dict(content.get("facts", {}))),
    )


def ignore(text: str) -> None:
    """Tell nobody."""


class Proofs:
    """The proofs below one folder. `notice` is told of every file that is damaged and therefore ignored."""

    def __init__(self, directory: Path, notice: Callable[[str], None] = ignore) -> None:
        self.directory = directory
        self._notice = notice
        self._told: set[Path] = set()

    def find(self, stage: str, key: str) -> Proof | None:
        """Return the proof of a stage for a fingerprint's key, or None."""
        proof = self._read(self._path(stage, key))
        return proof if proof and proof.key == key == proof.fingerprint.key else None

    def latest(self, stage: str) -> Proof | None:
        """Return the newest proof of a stage that can be read, or None."""
        return next((proof for path in self._newest(stage) if (proof := self._read(path))), None)

    def save(self, proof: Proof) -> None:
        """Keep a proof, and forget the oldest ones of its stage; raises OSError, for instance on a full
        disk.
        """
        files.write_json(self._path(proof.stage, proof.key), proof.content(whole=True))
        for path in self._newest(proof.stage)[KEPT_PROOFS:]:
            path.unlink(missing_ok=True)

    def assign(self, digest: str, proofs: Mapping[str, Proof]) -> None:
        """Remember which proofs a release has, beside those that it had; raises OSError."""
        path = self._release_path(digest)
        known = {stage: proof.content(whole=False) for stage, proof in self.for_release(digest).items()}
        known |= {stage: proof.content(whole=False) for stage, proof in proofs.items()}
        files.write_json(path, known)
        for old in newest(path.parent)[KEPT_RELEASES:]:
            old.unlink(missing_ok=True)

    def for_release(self, digest: str) -> Mapping[str, Proof]:
        """Return the proofs that a release, named by its image digest, has here: stage name -> proof."""
        path = self._release_path(digest)
        try:
            return {stage: parse(content) for stage, content in json.loads(path.read_bytes()).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._tell(path, error)
            return {}

    def runs(self) -> set[str]:
        """Return the ids of the runs that the newest proof of each stage came from."""
        stages = [path.name for path in self.directory.iterdir()] if self.directory.is_dir() else []
        return {proof.run for stage in stages if (proof := self.latest(stage))}

    def _path(self, stage: str, key: str) -> Path:
        return self.directory / stage / f"{key}.json"

    def _release_path(self, digest: str) -> Path:
        name = "".join(letter if letter.isalnum() else "-" for letter in digest)
        return self.directory.parent / "releases" / f"{name}.json"

    def _newest(self, stage: str) -> list[Path]:
        return newest(self.directory / stage)

    def _read(self, path: Path) -> Proof | None:
        try:
            return parse(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._tell(path, error)
            return None

    def _tell(self, path: Path, error: Exception) -> None:
        if path not in self._told:
            self._told.add(path)
            self._notice(f"{path} is damaged ({type(error).__name__}) and is ignored")


def newest(directory: Path) -> list[Path]:
    """Return the JSON files in a folder, the last written first; empty when there is no folder."""

    def dated() -> Iterator[tuple[int, Path]]:
        for path in directory.glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                yield path.stat().st_mtime_ns, path

    return [path for _, path in sorted(dated(), reverse=True)]
