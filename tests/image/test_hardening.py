"""What an attacker would use is found in an image's settings and files."""

import tarfile
from pathlib import Path

import pytest

from scripts.image import hardening, oci
from tests.image.archives import Made, entry


def problems(made: Made, folder: Path, *known: str) -> list[str]:
    path = folder / "image.tar"
    made.write(path)
    with oci.opened(path) as archive:
        return hardening.inspect(archive, known)


def test_a_clean_image_has_no_problem(tmp_path: Path) -> None:
    made = Made(layers=[{"usr/bin/python3": b"", "tmp": entry(0o1777, tarfile.DIRTYPE), "app/a.py": b""}])
    assert problems(made, tmp_path) == []


@pytest.mark.parametrize("user", ["", "root", "0", "0:0", "slipway", "10001:root", "10001:0"])
def test_a_user_that_is_not_a_number_above_0_is_a_problem(tmp_path: Path, user: str) -> None:
    assert "not as a number" in problems(Made(config={"User": user}), tmp_path)[0]


@pytest.mark.parametrize("user", ["10001", "10001:10001"])
def test_a_number_above_0_is_a_good_user(tmp_path: Path, user: str) -> None:
    assert problems(Made(config={"User": user}), tmp_path) == []


@pytest.mark.parametrize(
    ("path", "file", "what"),
    [
        ("usr/bin/passwd", entry(0o4755), "set-user-ID"),
        ("usr/bin/wall", entry(0o2755), "set-user-ID or set-group-ID"),
        ("etc/open", entry(0o666), "written by everybody"),
        ("srv", entry(0o777, tarfile.DIRTYPE), "written by everybody"),
        ("bin/sh", entry(0o777, tarfile.SYMTYPE), "a shell"),
        ("usr/bin/busybox", entry(0o755), "a shell"),
        ("usr/bin/apt-get", entry(0o755), "a package manager"),
        ("usr/local/bin/pip3", entry(0o755), "a package manager"),
        ("usr/bin/curl", entry(0o755), "a tool for intruders"),
        ("app/.env", entry(0o644), "looks like a secret"),
        ("root/.ssh/id_ed25519", entry(0o600), "looks like a secret"),
        ("app/tls.key", entry(0o600), "looks like a secret"),
        ("app/a.txt", b"x\n-----BEGIN RSA PRIVATE KEY-----\nabc\n", "holds a private key"),
        ("app/a.txt", b"password=correct horse battery", "holds a secret of this environment"),
    ],
)
def test_what_an_attacker_would_use_is_found(
    tmp_path: Path, path: str, file: bytes | tarfile.TarInfo, what: str
) -> None:
    found = problems(Made(layers=[{path: file}]), tmp_path, "correct horse battery")
    assert len(found) == 1
    assert f"/{path}" in found[0]
    assert what in found[0]
    assert "correct horse" not in found[0]


@pytest.mark.parametrize("name", ["DB_PASSWORD", "SECRET_KEY", "API_TOKEN", "AWS_CREDENTIALS", "APIKEY"])
def test_a_secret_in_the_environment_is_found_by_its_name(tmp_path: Path, name: str) -> None:
    config = {"User": "1", "Env": [f"{name}=x", f"{name}_FILE=/run/secrets/x"]}
    assert problems(Made(config=config), tmp_path) == [f"its environment holds {name}"]


def test_a_known_secret_in_a_label_is_found(tmp_path: Path) -> None:
    config = {"User": "1", "Labels": {"note": "correct horse battery"}}
    found = problems(Made(config=config), tmp_path, "correct horse battery", "short")
    assert found == ["a secret of this environment stands in the image's settings or history"]
