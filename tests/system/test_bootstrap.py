"""From a bare machine to a working `invoke`: `scripts/bootstrap` on machines that lack everything."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from scripts.image.base import ensure
from scripts.image.engine import connect

ROOT = Path(__file__).parent.parent.parent
NOBODY = 65534
BARE_PATH = "/usr/bin:/bin"

pytestmark = pytest.mark.system


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A clean copy of what git tracks, in a folder with a space, that every user may read."""
    with tempfile.TemporaryDirectory(prefix="slipway-bootstrap-") as above:
        Path(above).chmod(0o755)
        yield filled(Path(above) / "a clean checkout")


def filled(folder: Path) -> Path:
    """Copy what git tracks, or would track, into a new folder and return that."""
    folder.mkdir()
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout.split(b"\0")
    for name in filter(None, map(os.fsdecode, files)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


def bootstrap(
    folder: Path, *arguments: str, user: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `scripts/bootstrap` in `folder` with nothing of this test run's environment."""
    clean: Mapping[str, str] = {"PATH": BARE_PATH, "HOME": str(folder), **environment}
    return subprocess.run(
        [folder / "scripts/bootstrap", *arguments],
        cwd="/",
        env=clean,
        user=user,
        group=user,
        extra_groups=() if user else None,
        text=True,
        capture_output=True,
        timeout=900,
        check=False,
    )


def test_without_root_and_engine_it_says_what_to_do_and_changes_nothing(checkout: Path) -> None:
    """A user who may not install anything gets one message and exit code 4."""
    checkout.chmod(0o777)
    before = sorted(checkout.rglob("*"))
    done = bootstrap(checkout, "ship", user=NOBODY)
    assert done.returncode == 4
    assert done.stdout == ""
    assert "no Docker engine answers" in done.stderr
    assert "next: install Docker 24 or later" in done.stderr
    assert sorted(checkout.rglob("*")) == before


def test_an_engine_elsewhere_that_does_not_answer_is_named(checkout: Path) -> None:
    """DOCKER_HOST is the user's choice: bootstrap does not install another engine beside it."""
    done = bootstrap(checkout, "ship", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert done.returncode == 4
    assert "DOCKER_HOST=unix:///nowhere/docker.sock" in done.stderr
    assert not (checkout / ".venv").exists()


def test_without_a_fitting_python_it_says_so(checkout: Path, tmp_path: Path) -> None:
    """An interpreter that is too old counts as none."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "id", "sed"):
        (tools / name).symlink_to(str(shutil.which(name)))
    old = tools / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = bootstrap(checkout, "ship", PATH=str(tools))
    assert done.returncode == 4
    assert "Python 3.11 or later was not found" in done.stderr


def test_an_unknown_option_is_wrong_usage(checkout: Path) -> None:
    """Exit code 2 and the usage, before anything is looked at."""
    done = bootstrap(checkout, "--frobnicate")
    assert done.returncode == 2
    assert "usage: scripts/bootstrap" in done.stderr


def test_a_second_run_has_nothing_to_do(checkout: Path) -> None:
    """The first run makes .venv; the second prints nothing and goes straight to the task."""
    certificates = {name: os.environ[name] for name in ("SSL_CERT_FILE", "PIP_CERT") if name in os.environ}
    first = bootstrap(checkout, **certificates)
    assert first.returncode == 0, first.stderr
    assert "make .venv" in first.stderr
    second = bootstrap(checkout, **certificates)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    third = bootstrap(checkout, "lock", "--help", **certificates)
    assert third.returncode == 0
    assert "requirements.lock" in third.stdout


@pytest.fixture
def bare_machine(checkout: Path, tmp_path: Path) -> Iterator[list[str]]:
    """The command that runs a shell line as root on a Debian with its base packages and Python only.

    The machine is a root file system in mount and process namespaces of its own, so that its engine, its
    processes and its packages end with it. Its network is that of an idle container, through which it
    reaches the package archives: an engine that is told to make no bridge takes away the one that is there.
    """
    client = connect()
    container = client.containers.run(ensure(client), command=["sleep", "infinity"], init=True, detach=True)
    machine = tmp_path / "machine"
    machine.mkdir()
    try:
        with subprocess.Popen(
            ["tar", "-x", "-C", machine, "--exclude=./dev/*"], stdin=subprocess.PIPE
        ) as unpack:
            assert unpack.stdin is not None
            for chunk in container.export():
                unpack.stdin.write(chunk)
    except BaseException:
        container.remove(force=True)
        raise
    container.reload()
    shutil.copytree(checkout, machine / "srv/a checkout", symlinks=True)
    shutil.copy(container.attrs["ResolvConfPath"], machine / "etc/resolv.conf")
    bundle = Path("etc/ssl/certs/ca-certificates.crt")
    (machine / bundle).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy("/" / bundle, machine / bundle)
    (machine / "etc/dpkg/dpkg.cfg.d").mkdir(parents=True, exist_ok=True)
    (machine / "etc/dpkg/dpkg.cfg.d/fast").write_text("force-unsafe-io\n")
    (machine / "etc/docker").mkdir(parents=True)
    (machine / "etc/docker/daemon.json").write_text(
        '{"features": {"containerd-snapshotter": true}, "bridge": "none", "iptables": false}'
    )
    enter = """
        set -eu
        mount --bind "$1" "$1"
        mount -t proc proc "$1/proc"
        mount -t sysfs sys "$1/sys"
        mount --rbind /dev "$1/dev"
        mount --rbind /sys/fs/cgroup "$1/sys/fs/cgroup"
        mount -t tmpfs run "$1/run"
        mount -t tmpfs tmp "$1/tmp"
        export PATH=/usr/sbin:/usr/bin:/sbin:/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
        exec chroot "$1" sh -euc "$2"
    """
    yield [
        "nsenter",
        f"--net=/proc/{container.attrs['State']['Pid']}/ns/net",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--propagation=private",
        "sh",
        "-c",
        enter,
        "enter",
        str(machine),
    ]
    container.remove(force=True)
    shutil.rmtree(machine, ignore_errors=True)


def test_a_bare_debian_gets_an_engine_and_a_venv(bare_machine: list[str]) -> None:
    """Nothing but Python: bootstrap installs and starts an engine, makes .venv, and stops when told."""
    script = """
        apt-get update -q >/dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3 >/dev/null 2>&1
        cd "/srv/a checkout"
        scripts/bootstrap
        echo "second run:"
        scripts/bootstrap
        docker version --format 'engine {{.Server.Version}}'
        docker buildx version
        .venv/bin/invoke --list
        scripts/bootstrap stop
        ! docker version --format '{{.Server.Version}}' 2>/dev/null
        echo "still there:"
        cat /proc/[0-9]*/comm
    """
    done = subprocess.run([*bare_machine, script], text=True, capture_output=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    planned, _, after = done.stdout.partition("second run:\n")
    after, _, still_there = after.partition("still there:\n")
    assert planned == ""
    assert "install the Docker engine: docker.io" in done.stderr
    assert done.stderr.count("bootstrap: ready") == 1
    assert after.startswith("engine ")
    assert "Available tasks:" in after
    assert still_there.split() == ["sh"]
