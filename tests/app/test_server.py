"""The real server as a process: start, refuse, drain, reload, and clients that misbehave."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from config.settings import Sources
from tests.postgres import Server as PostgresServer
from tests.postgres import children, free_port, wait_until

from .conftest import TOKEN
from .events import whole_run
from .serving import JSON, Service, app, environment_of, serving


@pytest.fixture(scope="module")
def shared(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service on SQLite for the tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("service")
    path = shutil.copy(migrated_file, folder / "ledger.sqlite3")
    with serving(folder, DB_SQLITE_PATH=str(path), WEB_THREADS="2") as service:
        yield service


@pytest.fixture
def path(migrated_file: Path, tmp_path: Path) -> str:
    """A migrated SQLite file."""
    return str(shutil.copy(migrated_file, tmp_path / "ledger.sqlite3"))


def test_it_serves_from_a_real_process(shared: Service) -> None:
    assert shared.get("/livez") == (200, {"status": "alive"})
    assert shared.ask("POST", "/api/v1/events", json.dumps(whole_run("01A")), JSON)[0] == 200
    status, page = shared.get("/")
    assert status == 200
    assert b"What runs where" in page


def test_no_process_of_it_may_gain_privileges(shared: Service) -> None:
    family = [shared.process.pid, *children(shared.process.pid)]
    assert len(family) == 2  # gunicorn's parent and its worker
    for pid in family:
        assert "NoNewPrivs:\t1\n" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.system
def test_it_serves_on_postgresql(postgres: PostgresServer, migrated_database: str, tmp_path: Path) -> None:
    settings = {
        "DB_ADAPTER_ORDER": "local",
        "DB_NAME": migrated_database,
        "DB_LOCAL_HOST": str(postgres.folder),
        "DB_LOCAL_PORT": str(postgres.port),
    }
    with serving(tmp_path, **settings) as service:
        assert service.get("/readyz") == (200, {"status": "ready", "schema": "0001"})
        assert service.get("/api/v1/runs")[0] == 200


@pytest.mark.system
def test_migrate_then_serve_and_an_unmigrated_service_waits(tmp_path: Path) -> None:
    path = str(tmp_path / "new.sqlite3")
    with serving(tmp_path, until=Service.alive, DB_SQLITE_PATH=path) as service:
        status, problem = service.get("/readyz")
        assert (status, problem["reason"]) == (503, "schema-behind")
        assert any("run `python -m app migrate`" in line for line in service.lines())
        done = app("migrate", DB_SQLITE_PATH=path)
        assert (done.returncode, done.stdout) == (0, "The schema is at 0001.\n")
        wait_until(service.ready, 20)


@pytest.mark.system
def test_a_database_that_is_away_keeps_it_alive_but_not_ready(tmp_path: Path) -> None:
    settings = {"DB_ADAPTER_ORDER": "local", "DB_LOCAL_HOST": "127.0.0.1", "DB_LOCAL_PORT": str(free_port())}
    with serving(tmp_path, until=Service.alive, **settings) as service:
        began = time.monotonic()
        status, problem = service.get("/readyz")
        assert (status, problem["reason"]) == (503, "database-unreachable")
        assert time.monotonic() - began < 5
        assert service.get("/api/v1/runs")[0] == 503
        assert any("not ready until it can" in line for line in service.lines())


def test_the_probe_says_ready_or_not(shared: Service) -> None:
    assert app("probe", WEB_PORT=str(shared.port)).returncode == 0
    assert app("probe", WEB_PORT=str(free_port())).returncode == 1


def imported_by(script: str) -> str:
    """What `script` prints, in a process without coverage, which imports a lot itself."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Sources().root,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_probe_imports_next_to_nothing() -> None:
    """It runs every second in a container with one CPU."""
    script = "import sys; import app.__main__, app.web.probe; print(sorted(sys.modules))"
    imported = imported_by(script)
    for heavy in ("http.client", "flask", "sqlalchemy", "json", "decouple", "logging"):
        assert f"'{heavy}'" not in imported


def test_serving_imports_no_alembic_and_no_prometheus() -> None:
    """Half a second of a cold start each, which only the migration job and the first scrape need."""
    script = (
        "import sys; from config.settings import load; import app.web.server, app.web.worker\n"
        "from app.web import create_app; from app.database import ConnectionManager\n"
        "s = load('testing', part='app'); a = create_app(s, ConnectionManager.from_settings(s.database))\n"
        "assert a.test_client().get('/livez').status_code == 200\n"
        "print(sorted(sys.modules))"
    )
    imported = imported_by(script)
    for heavy in ("alembic", "mako", "prometheus_client"):
        assert f"'{heavy}'" not in imported


@pytest.mark.system
class TestDraining:
    """SIGTERM: not ready at once, serving on for the drain time, then finish and exit 0."""

    def test_no_request_is_lost(self, path: str, tmp_path: Path) -> None:
        """Clients that heed readiness, as a proxy does, see no failure however the stop falls."""
        with serving(tmp_path, DB_SQLITE_PATH=path, WEB_DRAIN_SECONDS="5.0") as service:
            stop = threading.Event()
            counts, failures = [0] * 3, []

            def load(number: int) -> None:
                connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
                with closing(connection):
                    while not stop.is_set():
                        try:
                            connection.request("GET", "/api/v1/environments")
                            answer = connection.getresponse()
                            answer.read()
                        except OSError as error:
                            failures.append(error)
                            return
                        if answer.status != 200:
                            failures.append(AssertionError(answer.status))
                        counts[number] += 1

            threads = [threading.Thread(target=load, args=(number,)) for number in range(3)]
            for thread in threads:
                thread.start()
            wait_until(lambda: min(counts) > 5)
            before = sum(counts)
            service.process.send_signal(signal.SIGTERM)
            wait_until(lambda: service.get("/readyz")[0] == 503, 4.0, "readiness turning 503")
            stop.set()
            for thread in threads:
                thread.join(20)
            assert service.process.wait(30) == 0
            assert failures == []
            assert sum(counts) > before

    def test_a_request_in_flight_finishes(self, path: str, tmp_path: Path) -> None:
        body = json.dumps(whole_run("01A")).encode()
        with serving(tmp_path, DB_SQLITE_PATH=path, WEB_DRAIN_SECONDS="0.1") as service:
            with socket.create_connection(("127.0.0.1", service.port), 20) as connection:
                head = (
                    f"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                )
                connection.sendall(head.encode() + body[:50])
                service.process.send_signal(signal.SIGTERM)
                wait_until(lambda: not service.alive(), 10, "the last door's closing")
                assert service.process.poll() is None
                connection.sendall(body[50:])
                answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            assert service.process.wait(30) == 0

    def test_a_request_that_never_ends_does_not_stop_the_stop(self, path: str, tmp_path: Path) -> None:
        changes = {"WEB_DRAIN_SECONDS": "0", "WEB_GRACEFUL_SECONDS": "1"}
        with (
            serving(tmp_path, DB_SQLITE_PATH=path, **changes) as service,
            socket.create_connection(("127.0.0.1", service.port), 20) as connection,
        ):
            connection.sendall(b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1")
            began = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(30) == 0
            assert time.monotonic() - began < 20

    def test_a_second_sigterm_changes_nothing(self, path: str, tmp_path: Path) -> None:
        with serving(tmp_path, DB_SQLITE_PATH=path, WEB_DRAIN_SECONDS="3.0") as service:
            service.process.send_signal(signal.SIGTERM)
            wait_until(lambda: service.get("/readyz")[0] == 503, 2.5)
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(30) == 0


@pytest.mark.system
def test_no_secret_reaches_the_log(path: str, tmp_path: Path) -> None:
    with serving(tmp_path, DB_SQLITE_PATH=path, LOG_FORMAT="json", LOG_LEVEL="DEBUG") as service:
        service.ask("POST", f"/api/v1/events?t={TOKEN}", "[]", JSON)
        service.get(f"/{TOKEN}")
        service.raw(f"GET / HTTP/1.1\r\nAuthor ization: {TOKEN}\r\n\r\n".encode())
        wait_until(lambda: any("/***" in line for line in service.lines()), 5)
        lines = service.lines()
        assert TOKEN not in "\n".join(lines)
        access = [json.loads(line) for line in lines if '"slipway.access"' in line]
        posted = next(line for line in access if line["method"] == "POST")
        assert (posted["path"], posted["status"]) == ("/api/v1/events", 200)


class TestBadClients:
    def test_clients_that_say_nothing_hold_no_thread(self, shared: Service) -> None:
        """Two threads, twenty silent connections: the service still answers."""
        silent = [socket.create_connection(("127.0.0.1", shared.port), 20) for _ in range(20)]
        try:
            began = time.monotonic()
            assert shared.get("/livez")[0] == 200
            assert time.monotonic() - began < 3
        finally:
            for connection in silent:
                connection.close()

    def test_a_body_sent_in_chunks_is_read_and_limited(self, shared: Service) -> None:
        events = json.dumps(whole_run("01B")).encode()
        assert shared.ask("POST", "/api/v1/events", iter([events[:100], events[100:]]), JSON)[0] == 200
        big = iter([b"x" * 65536] * 20)
        assert shared.ask("POST", "/api/v1/events", big, JSON)[0] == 413

    def test_a_body_that_is_announced_too_large_is_413(self, shared: Service) -> None:
        head = f"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
        assert shared.raw(head.encode()).startswith(b"HTTP/1.1 413")

    def test_a_body_that_breaks_off_is_not_recorded(self, shared: Service) -> None:
        before = shared.get("/api/v1/events?limit=200")[1]
        head = f"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 500\r\n\r\n[]"
        assert b" 200 " not in shared.raw(head.encode())[:15]
        assert shared.get("/api/v1/events?limit=200")[1] == before

    @pytest.mark.parametrize(
        "data",
        [
            b"\x00\x01\x02\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
            b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: " + b"x" * 20000 + b"\r\n\r\n",
            b"POST /api/v1/events HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST /api/v1/events HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ],
        ids=["binary", "version", "header", "long line", "long header", "length", "smuggling"],
    )
    def test_what_is_no_request_is_refused_and_forgotten(self, shared: Service, data: bytes) -> None:
        answer = shared.raw(data)
        assert answer.split(b" ", 2)[1][:1] in (b"4", b"5")
        assert shared.ready()

    def test_a_path_that_is_not_utf8_is_answered(self, shared: Service) -> None:
        answer = shared.raw(b"GET /runs/%ff%fe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 404")


@pytest.mark.system
def test_a_stalled_request_is_hung_up_on(path: str, tmp_path: Path) -> None:
    """The time is a constant of the worker; this process shortens it instead of waiting for it."""
    script = (
        "import app.web.worker as worker; worker.REQUEST_SECONDS = 0.5\n"
        "from app.__main__ import main; raise SystemExit(main(['serve']))"
    )
    port = free_port()
    environment = environment_of(WEB_PORT=str(port), DB_SQLITE_PATH=path, WEB_THREADS="1")
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=Sources().root, env=environment, stderr=subprocess.DEVNULL
    )
    service = Service(process, port, tmp_path / "unused")  # type: ignore[arg-type]
    try:
        wait_until(service.ready, 30)
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost:")
            assert connection.recv(1024)[:12] in (b"", b"HTTP/1.1 400")
        assert service.ready()
    finally:
        process.terminate()
        assert process.wait(10) == 0
