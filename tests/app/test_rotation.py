"""Secrets are replaced while the service runs: what is taken over, what waits, what is refused."""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from secrets import token_urlsafe
from urllib.parse import quote, quote_plus

import pytest

from app.web.logs import Line, mask
from app.web.rotation import Rotation
from config.secret import Secret
from config.settings import Settings, load
from tests.config.world import World
from tests.postgres import Server, children, wait_until

from .conftest import TOKEN
from .serving import JSON, ROOT, Service, serving


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A staging that starts, as the container sees it."""
    return World(tmp_path).with_secrets("staging").shared("staging", "DB_HOST=db.internal\n")


@pytest.fixture
def used() -> list[Settings]:
    """What the rotation handed over."""
    return []


@pytest.fixture
def rotation(world: World, used: list[Settings]) -> Rotation:
    return Rotation(load("staging", world.sources, part="app"), used.append, world.sources)


def test_a_connect_uses_the_password_as_it_is_now(
    world: World, rotation: Rotation, used: list[Settings]
) -> None:
    before = rotation.password()
    assert used == []
    password = token_urlsafe(32)
    world.secret("DB_PASSWORD", password)
    assert rotation.password() == password != before
    assert [each.database.password for each in used] == [rotation.settings.database.password]


def test_a_broken_replacement_is_refused_once_and_the_old_one_stays(
    world: World, rotation: Rotation, used: list[Settings], caplog: pytest.LogCaptureFixture
) -> None:
    before = rotation.password()
    world.secret("DB_PASSWORD", "changeme-changeme")
    for _ in range(3):
        assert rotation.password() == before
    assert used == []
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert caplog.messages[0] == "reload refused, serving on with the old settings"
    assert caplog.messages[1].startswith("error [placeholder] DB_PASSWORD (.slipway/secrets/staging/DB_PASS")
    assert "changeme" not in caplog.text
    rotation.reread()
    assert len(caplog.records) == 4, "who asks is told again"
    world.secret("DB_PASSWORD")
    assert rotation.password() != before
    world.secret("DB_PASSWORD", "changeme-changeme")
    rotation.follow()
    assert caplog.messages.count(caplog.messages[0]) == 3, "it had been good in between"


def test_who_asks_is_told_what_was_taken_over_and_what_waits(
    world: World, rotation: Rotation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rotation.reread()
    assert caplog.messages == ["secrets re-read: none has changed"]
    caplog.clear()
    world.secret("LEDGER_TOKEN").secret("DB_PASSWORD").secret("SECRET_KEY").yours("WEB_THREADS=9\n")
    before = rotation.settings
    rotation.reread()
    assert caplog.messages == [
        "secrets re-read: DB_PASSWORD, LEDGER_TOKEN",
        "changed, but only a restart takes it over: WEB_THREADS, SECRET_KEY",
    ]
    assert rotation.settings.web == before.web
    assert rotation.settings.security == before.security


def test_no_password_is_none(world: World, used: list[Settings]) -> None:
    settings = load("development", world.sources, part="app")
    assert Rotation(settings, used.append, world.sources).password() is None


def test_a_secret_that_was_replaced_stays_masked(world: World, rotation: Rotation) -> None:
    """Another replica may still take it."""
    old, new = rotation.settings.ledger.token, token_urlsafe(32)
    assert old is not None
    line, root = Line(as_json=False, secrets=rotation.settings.secrets()), logging.getLogger()
    handler = logging.NullHandler()
    handler.setFormatter(line)
    root.addHandler(handler)
    try:
        world.secret("LEDGER_TOKEN", new)
        rotation.reread()
        mask(())
    finally:
        root.removeHandler(handler)
    record = logging.LogRecord("x", logging.INFO, "", 0, f"<{old.reveal()}> <{new}>", None, None)
    assert line.format(record).endswith("<***> <***>")


def test_a_token_that_is_gone_stays_in_use_and_that_is_said_once(
    world: World, used: list[Settings], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.secret("LEDGER_TOKEN", environment="testing").secret("DB_PASSWORD", environment="testing")
    rotation = Rotation(load("testing", world.sources, part="app"), used.append, world.sources)
    before, kept = (
        rotation.settings.ledger.token,
        "set nowhere any more, the old value stays in use: LEDGER_TOKEN",
    )
    (world.root / ".slipway/secrets/testing/LEDGER_TOKEN").unlink()
    rotation.reread()
    assert caplog.messages == ["secrets re-read: none has changed", kept]
    assert rotation.settings.ledger.token is before
    caplog.clear()
    rotation.follow()
    assert caplog.messages == []
    password = token_urlsafe(32)
    world.secret("DB_PASSWORD", password, "testing")
    assert rotation.password() == password
    assert caplog.messages == ["secrets re-read: DB_PASSWORD", kept]
    assert rotation.settings.ledger.token is before
    world.secret("LEDGER_TOKEN", environment="testing")
    caplog.clear()
    rotation.follow()
    assert caplog.messages == ["secrets re-read: LEDGER_TOKEN"]


@pytest.mark.parametrize("as_json", [True, False])
def test_no_form_of_a_secret_gets_into_a_log_line(as_json: bool) -> None:
    key, number = "-----BEGIN KEY-----\nMIIEvQ/IBADANBgkq+hk\nw0BAQE'FAASC\n-----END KEY-----", "83719245518"
    line = Line(as_json=as_json, secrets=[Secret(key), Secret(number)])
    for text in (key, repr(key), quote(key, safe=""), "at w0BAQE'FAASC", quote_plus("MIIEvQ/IBADANBgkq+hk")):
        record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (text,), None)
        record.fields = {
            "path": Path(text),
            "list": [text, {"deep": text}],
            "count": int(number),
            "none": None,
        }
        line_of = line.format(record)
        assert not any(each in line_of for each in ("MIIEvQ", "BADANBgkq", "w0BAQE", "FAASC", number)), (
            line_of
        )
    record = logging.LogRecord("x", logging.INFO, "", 0, "m", None, None)
    record.fields = {"bytes": 7, "ok": True}
    assert ('"bytes": 7, "ok": true' if as_json else "bytes=7 ok=True") in line.format(record)


@pytest.fixture
def tree(tmp_path: Path) -> World:
    """A tree of its own that holds what the image holds, with the secrets of `testing` in it."""
    for room in ("app", "config"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    return World(tmp_path).secret("LEDGER_TOKEN", TOKEN, "testing")


@contextmanager
def load_on(service: Service) -> Iterator[list[object]]:
    """Read from the service with three clients until the block ends; yield what failed."""
    stop, failures, counts = threading.Event(), [], [0] * 3

    def read(number: int) -> None:
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
                    failures.append(answer.status)
                counts[number] += 1

    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: min(counts) > 5)
        yield failures
        seen = list(counts)
        wait_until(lambda: all(now > then + 5 for now, then in zip(counts, seen, strict=True)) or failures)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


def status(service: Service, token: str) -> int:
    """Write nothing with `token`, and return what the service says of that."""
    return service.ask("POST", "/api/v1/events", "[]", {**JSON, "Authorization": f"Bearer {token}"})[0]


def said(service: Service, text: str) -> bool:
    return any(text in line for line in service.lines())


@pytest.mark.system
def test_a_token_is_replaced_under_load(tree: World, migrated_file: Path, tmp_path: Path) -> None:
    path, token = shutil.copy(migrated_file, tmp_path / "ledger.sqlite3"), token_urlsafe(32)
    changes = {"DB_SQLITE_PATH": str(path), "LEDGER_TOKEN": None, "WEB_THREADS": None}
    with serving(tmp_path, root=tree.root, **changes) as service, load_on(service) as failures:
        assert (status(service, TOKEN), status(service, token)) == (200, 401)
        tree.secret("LEDGER_TOKEN", token, "testing").yours("WEB_THREADS=3\n")
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: said(service, "only a restart takes it over: WEB_THREADS"))
        assert (status(service, token), status(service, TOKEN)) == (200, 401)

        tree.secret("LEDGER_TOKEN", "<token>", "testing").yours("DEBUG=ture\n")
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: said(service, "[placeholder] LEDGER_TOKEN"))
        assert said(service, "error [value] DEBUG (.env:1): it is true or false")
        assert status(service, token) == 200

        service.get(f"/{TOKEN}/{token}")
    assert failures == []
    assert not any(each in "\n".join(service.lines()) for each in (TOKEN, token))


@pytest.mark.system
def test_a_worker_that_takes_a_dead_ones_place_does_not_bring_the_old_token_back(
    tree: World, migrated_file: Path, tmp_path: Path
) -> None:
    path, token = shutil.copy(migrated_file, tmp_path / "ledger.sqlite3"), token_urlsafe(32)
    with serving(tmp_path, root=tree.root, DB_SQLITE_PATH=str(path), LEDGER_TOKEN=None) as service:
        tree.secret("LEDGER_TOKEN", token, "testing")
        (worker,) = children(service.process.pid)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: said(service, "secrets re-read: LEDGER_TOKEN"))
        wait_until(service.ready)
        assert (status(service, token), status(service, TOKEN)) == (200, 401)


@pytest.mark.system
def test_a_password_is_replaced_on_the_server_and_no_request_is_lost(tree: World, tmp_path: Path) -> None:
    """First the role, then the file; nobody sends a signal, and every connection is cut in between."""
    from app.database import ConnectionManager
    from app.database.migrations import runner

    old, new = token_urlsafe(32), token_urlsafe(32)
    server = Server.create(host_based="host all keeper 127.0.0.1/32 scram-sha-256")
    try:
        server.execute(f"CREATE ROLE keeper LOGIN SUPERUSER PASSWORD '{old}'")
        with ConnectionManager.from_settings(server.settings("postgres")) as manager:
            runner.upgrade(manager)
        tree.secret("DB_PASSWORD", old, "testing")
        settings = {
            "DB_ADAPTER_ORDER": "local",
            "DB_LOCAL_HOST": "127.0.0.1",
            "DB_LOCAL_PORT": str(server.port),
            "DB_NAME": "postgres",
            "DB_USER": "keeper",
        }
        with serving(tmp_path, root=tree.root, **settings) as service, load_on(service) as failures:
            server.execute(f"ALTER ROLE keeper PASSWORD '{new}'")
            tree.secret("DB_PASSWORD", new, "testing")
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'keeper'"
            assert server.execute(cut)
            wait_until(lambda: said(service, "secrets re-read: DB_PASSWORD"))
            wait_until(service.ready)
        assert failures == []
        assert not any(each in "\n".join(service.lines()) for each in (old, new))
    finally:
        server.remove()


@pytest.mark.system
def test_debug_shows_tracebacks_without_secrets_and_takes_over_changed_code(
    tree: World, migrated_file: Path, tmp_path: Path
) -> None:
    path = shutil.copy(migrated_file, tmp_path / "ledger.sqlite3")
    api = tree.root / "app" / "web" / "api.py"
    bug = "\n\ndef get_run(run):\n    raise ValueError(service().settings.ledger.token.reveal() + run)\n"
    with serving(tmp_path, root=tree.root, DB_SQLITE_PATH=str(path), DEBUG="true") as service:
        assert service.get("/api/v1/runs/none")[0] == 404
        (worker,) = children(service.process.pid)
        api.write_text(api.read_text() + bug)
        wait_until(lambda: children(service.process.pid) not in ([], [worker]), 20, "another worker")
        wait_until(service.ready, 20)
        status, problem = service.get("/api/v1/runs/none")
        assert status == 500
        assert problem["traceback"][0] == "Traceback (most recent call last):"
        assert problem["traceback"][-1] == "ValueError: ***none"
        assert TOKEN not in str(problem)
    assert TOKEN not in "\n".join(service.lines())


@pytest.mark.system
def test_without_debug_no_answer_has_a_traceback(tree: World, migrated_file: Path, tmp_path: Path) -> None:
    path = shutil.copy(migrated_file, tmp_path / "ledger.sqlite3")
    api = tree.root / "app" / "web" / "api.py"
    api.write_text(api.read_text() + "\n\ndef get_run(run):\n    raise ValueError(run)\n")
    with serving(tmp_path, root=tree.root, DB_SQLITE_PATH=str(path)) as service:
        status, problem = service.get("/api/v1/runs/none")
        assert (status, "traceback" in problem) == (500, False)
        assert not said(service, "Reloader is on")


@pytest.mark.system
def test_a_hangup_while_the_start_waits_for_the_database_does_not_end_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)

        def hang_up(service: Service) -> bool:
            silent.accept()[0].close()
            service.process.send_signal(signal.SIGHUP)
            return True

        port = str(silent.getsockname()[1])
        settings = {"DB_ADAPTER_ORDER": "local", "DB_LOCAL_HOST": "127.0.0.1", "DB_LOCAL_PORT": port}
        with serving(tmp_path, until=hang_up, **settings) as service:
            wait_until(service.alive, 20, "the service's answer")
