"""The scan stage runs again for another policy, newer advisories and another day."""

import os
from pathlib import Path

import pytest

from scripts.image import archive, oci
from scripts.image.sbom import Package
from scripts.pipeline.stage import StageContext
from scripts.stages import scan
from tests.image.archives import Made
from tests.stages.settings import settings

PACKAGES = (
    Package(kind="python", name="flask", version="3.1.3"),
    Package(kind="deb", name="libc6", version="2.41-12"),
)


@pytest.fixture
def work(tmp_path: Path) -> StageContext:
    return StageContext(stage="scan", root=tmp_path, directory=tmp_path / "run")


@pytest.fixture
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the archive at a port where nothing listens."""
    nowhere = archive.Mirrors(main="http://127.0.0.1:9/debian", security="http://127.0.0.1:9/debian-security")
    monkeypatch.setattr(archive, "mirrors", lambda: nowhere)


def policy(environment: str, advisories: Path | None = None) -> scan.Policy:
    return scan.Policy(
        environment=environment,
        fail_level="high",
        start_seconds=5.0,
        advisories=advisories,
        place=("127.0.0.1:9", "none"),
    )


def test_it_depends_on_policy_day_and_the_state_of_the_advisories(tmp_path: Path) -> None:
    data = tmp_path / "all.zip"
    data.write_bytes(b"one")
    with_data = settings(tmp_path, ADVISORIES=str(data))
    before = dict(scan.stage(with_data, tmp_path).parameters)
    assert before == scan.stage(with_data, tmp_path).parameters
    assert before["day"]
    os.utime(data, (1, 1))
    after = scan.stage(with_data, tmp_path).parameters
    assert [name for name in after if after[name] != before[name]] == ["advisories"]
    assert scan.stage(settings(tmp_path), tmp_path).parameters["advisories"] == ""


def test_no_secret_is_a_parameter(tmp_path: Path) -> None:
    with_secret = settings(tmp_path)
    text = str(scan.stage(with_secret, tmp_path).parameters)
    assert with_secret.secrets()
    assert not any(secret.reveal() in text for secret in with_secret.secrets())


@pytest.mark.usefixtures("_offline")
def test_what_cannot_be_looked_up_is_said(work: StageContext, tmp_path: Path) -> None:
    findings, unchecked = scan.look_up(PACKAGES, policy("development"), tmp_path, work)
    assert findings == []
    assert len(unchecked) == 2
    assert "Debian's packages were not checked" in unchecked[0]
    assert "ADVISORIES" in unchecked[1]


@pytest.mark.usefixtures("_offline")
def test_with_data_python_packages_are_looked_up(work: StageContext, tmp_path: Path) -> None:
    data = tmp_path / "osv"
    data.mkdir()
    (data / "a.json").write_text(
        '{"id": "PYSEC-1", "affected": [{"package": {"ecosystem": "PyPI", "name": "Flask"},'
        ' "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "4"}]}]}]}'
    )
    findings, unchecked = scan.look_up(PACKAGES, policy("development", data), tmp_path, work)
    assert [finding.id for finding in findings] == ["PYSEC-1"]
    assert len(unchecked) == 1


def test_another_image_than_the_one_built_is_refused(work: StageContext, tmp_path: Path) -> None:
    Made().write(tmp_path / "image.tar")
    work.outputs = {"build": {"archive": "image.tar", "digest": "sha256:" + "0" * 64}}
    with pytest.raises(Exception, match="the build made sha256:000"):
        scan.scan(work, tmp_path, policy("development"))


def test_a_damaged_archive_is_refused_before_anything_runs(work: StageContext, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(b"damaged")
    work.outputs = {"build": {"archive": "image.tar", "digest": "sha256:" + "0" * 64}}
    with pytest.raises(oci.ArchiveCorrupt):
        scan.scan(work, tmp_path, policy("development"))


def test_a_policy_does_not_show_the_secrets_that_it_knows() -> None:
    policy = scan.Policy(
        environment="staging",
        fail_level="high",
        start_seconds=5.0,
        advisories=None,
        place=("registry", "name"),
        known_secrets=("q7Gk2Zr9vT4xLw8Yb3Nc6Md1Ph5Sj0Kf",),
    )
    assert policy.known_secrets[0] not in repr(policy)
