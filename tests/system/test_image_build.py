"""The image is made for real: one digest for one tree, small, clean, and stopped or refused in good order."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from scripts.image import builder, context, engine, hardening, oci
from scripts.image.console import Aside
from scripts.pipeline.errors import Cancelled, UnreachableError
from scripts.stages.build import described

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]
LABELS = {"COMMIT": "0" * 40, **described(ROOT)}

IMPORT_ALL = """
import importlib, pkgutil, sys, warnings
warnings.simplefilter("ignore")
for folder in ("/usr/local/lib/python3.13/dist-packages", "/usr/lib/python3.13", "/app"):
    sys.path.insert(0, folder)
    for module in pkgutil.walk_packages([folder], onerror=lambda name: None):
        if module.name.rpartition(".")[2] in ("__main__", "this", "antigravity"):
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print(module.name, error.name)
        except BaseException as error:
            print(module.name, type(error).__name__)
"""
OPTIONAL = {
    # Support for other people's packages and other systems, which the dependencies do without.
    *("click._winconsole", "gunicorn.app.pasterapp", "gunicorn.workers.ggevent", "gunicorn.workers.gtornado"),
    *("mako.ext.babelplugin", "mako.ext.linguaplugin", "mako.ext.pygmentplugin", "tenacity.tornadoweb"),
    *("prometheus_client.aiohttp", "prometheus_client.django", "prometheus_client.twisted"),
    *("sqlalchemy.ext.asyncio", "asyncio.windows_events", "asyncio.windows_utils", "dbm.gnu", "dbm.ndbm"),
    *("multiprocessing.popen_spawn_win32", "_distutils_system_mod", "sitecustomize"),
    # Test kits and tools for a developer, left out on purpose.
    *("mako.testing.config", "mako.testing.exclusions", "mako.testing.fixtures", "cProfile"),
    *(
        f"sqlalchemy.dialects.{name}.provision"
        for name in ("mssql", "mysql", "oracle", "postgresql", "sqlite")
    ),
    # Alembic runs it, nobody imports it.
    "app.database.migrations.env",
}


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = engine.connect()
    yield client
    client.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images with space")


def build(client: docker.DockerClient, folder: Path, root: Path = ROOT, **more: object) -> builder.Built:
    return builder.build(client, root, folder, console=Aside(), labels=LABELS, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def built(client: docker.DockerClient, folder: Path) -> builder.Built:
    return build(client, folder)


def test_two_builds_of_one_tree_give_one_digest(
    client: docker.DockerClient, built: builder.Built, tmp_path: Path
) -> None:
    assert build(client, tmp_path, cache=False).digest == built.digest


def test_the_archive_is_what_the_digest_says_and_has_no_weak_spot(built: builder.Built) -> None:
    assert built.archive.name == f"{built.digest.removeprefix('sha256:')}.tar"
    with oci.opened(built.archive) as archive:
        archive.verify()
        image = archive.image()
        assert image.manifest.digest == built.digest
        assert hardening.inspect(archive) == []
        assert (image.compressed, oci.size_unpacked(archive)) == (built.compressed, built.size)
        config = image.settings["config"]
    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.revision"] == LABELS["COMMIT"]


def test_the_image_keeps_to_its_budget(built: builder.Built) -> None:
    assert built.compressed < 25e6
    assert built.size < 80e6


def test_a_one_line_change_uploads_less_than_64_kilobytes(
    client: docker.DockerClient, built: builder.Built, folder: Path, tmp_path: Path
) -> None:
    context.lay_out(ROOT, tmp_path)
    with (tmp_path / "app/web/pages.py").open("a") as file:
        file.write("\nCHANGED = True\n")
    changed = build(client, folder, tmp_path)
    assert changed.digest != built.digest
    with oci.opened(built.archive) as old, oci.opened(changed.archive) as new:
        before = set(old.image().layers)
        sizes = [layer.size for layer in new.image().layers if layer not in before]
        image = new.image()
    assert len(sizes) == 1
    assert sizes[0] + image.configuration.size + image.manifest.size < 64 * 1024


def test_every_module_that_ships_imports_in_the_image(
    client: docker.DockerClient, built: builder.Built
) -> None:
    image = hardening.load(client, built.archive, built.digest, Aside())
    output = client.containers.run(
        image,
        ["-c", IMPORT_ALL],
        entrypoint=["python3"],
        network_mode="none",
        read_only=True,
        remove=True,
        stderr=False,
    )
    failed = dict(line.split() for line in output.decode().splitlines())
    assert {name: why for name, why in failed.items() if name not in OPTIONAL} == {}


def test_a_failing_step_is_told_with_its_own_output_first(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    context.lay_out(ROOT, tree)
    (tree / "app/broken.py").write_text("def broken(:\n")
    with pytest.raises(builder.BuildFailed) as failed:
        build(client, tmp_path / "images", tree)
    assert failed.value.exit_code == 1
    assert any("broken.py" in line for line in failed.value.details[:5])
    assert list((tmp_path / "images").iterdir()) == []


def test_a_cancelled_build_ends_buildx_and_leaves_nothing(
    client: docker.DockerClient, built: builder.Built, tmp_path: Path
) -> None:
    console = Aside()
    steps = threading.Event()

    def seen(line: str) -> None:
        if line.startswith("["):
            steps.set()

    console.say = console.progress = seen
    failure: list[BaseException] = []

    def work() -> None:
        try:
            builder.build(client, ROOT, tmp_path, console=console, labels=LABELS, cache=False)
        except BaseException as error:  # noqa: BLE001 - Cancelled is one
            failure.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert steps.wait(300)
    console.cancelled.set()
    thread.join(60)
    assert not thread.is_alive()
    assert isinstance(failure[0], Cancelled)
    assert list(tmp_path.iterdir()) == []
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in running


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_disk_is_told_and_leaves_nothing(client: docker.DockerClient, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path)], check=True)
    try:
        with pytest.raises(builder.BuildFailed, match="no room for the image") as failed:
            build(client, tmp_path)
        assert "prune" in failed.value.next_step
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


class Forwarder:
    """An engine's address on TCP that can go away in the middle of anything."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.mark.skipif(not Path("/var/run/docker.sock").exists(), reason="needs the engine's socket")
def test_an_engine_that_goes_away_half_way_is_exit_4(client: docker.DockerClient, tmp_path: Path) -> None:
    forwarder = Forwarder("/var/run/docker.sock")
    console = Aside()

    def stop(line: str) -> None:
        if line.startswith("["):
            forwarder.close()

    console.say = console.progress = stop
    with pytest.raises(UnreachableError) as failed:
        builder.build(
            client, ROOT, tmp_path, console=console, labels=LABELS, cache=False, docker_host=forwarder.address
        )
    assert failed.value.exit_code == 4
    assert "run the same command" in failed.value.next_step
    assert list(tmp_path.iterdir()) == []


def test_old_archives_go_and_the_newest_stay(tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(b"")
        os.utime(path, (number, number))
    dropped = builder.prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3.tar", "4.tar"]
    assert len(dropped) == 3


def test_what_a_killed_build_left_goes_after_an_hour(tmp_path: Path) -> None:
    for name, age in ((".building-old", 7200), (".building-new", 60)):
        (tmp_path / name).mkdir()
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    builder.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".building-new"]
    shutil.rmtree(tmp_path / ".building-new")
