"""What the database layer costs beside a plain SQLAlchemy engine and the driver, and how fast it fails over.

Everything runs in one process against one PostgreSQL on this machine, by its Unix socket (failover: by
loopback). The contenders take turns in small rounds; the figure is the best round, for noise only adds. The
client's own processor time stands beside it, which a busy machine hardly changes.
"""

from __future__ import annotations

import csv
import datetime
import io
import itertools
import json
import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from app.database import ConnectionManager, Limits, NotSent, RolledBack, Upsert
from app.database.adapters.local import Local
from tests.app.events import event, stage
from tests.bench.document import machine, table, write_section
from tests.postgres import Server, wait_until
from tests.tcp_proxy import TcpProxy

ROUNDS = 40
CALLS = 200
ROWS = 1_000_000
MANY_ROWS = 10_000_000
EVENTS = 20_000
COLUMNS = ("id", "text", "number", "moment")
TABLE = "(id integer PRIMARY KEY, text varchar, number integer, moment timestamp)"


def main(document: Path) -> int:
    """Measure, write the section `database`, and return 0."""
    about = machine()
    server = Server.create()
    try:
        parts = [
            "## Database",
            about,
            "PostgreSQL 18.4 with fsync off, so that the client's share shows.",
            overhead(server),
            failover(),
            bulk(server),
            population(server),
        ]
    finally:
        server.remove()
    write_section(document, "database", "\n\n".join(parts))
    return 0


# Overhead


def overhead(server: Server) -> str:
    """Compare one read and one small write at 1 and at 16 threads."""
    import psycopg2
    from psycopg2.pool import ThreadedConnectionPool
    from sqlalchemy import create_engine, text

    server.execute("CREATE TABLE hit (id bigserial PRIMARY KEY, path varchar)")
    url = f"postgresql+psycopg2://slipway@/postgres?host={server.folder}&port={server.port}"
    engine = create_engine(url, pool_size=16)
    select, insert = text("SELECT 1"), text("INSERT INTO hit (path) VALUES (:path) RETURNING id")
    raw = ThreadedConnectionPool(
        16, 16, host=str(server.folder), port=server.port, user="slipway", dbname="postgres"
    )

    def engine_read() -> None:
        with engine.connect() as connection:
            connection.execute(select).scalar()

    def engine_write() -> None:
        with engine.begin() as connection:
            connection.execute(insert, {"path": "/"}).scalar()

    def driver(statement: str, parameters: Any = None) -> None:
        connection = raw.getconn()
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            cursor.fetchone()
        connection.commit()
        raw.putconn(connection)

    with ConnectionManager.from_settings(server.settings(pool_size=16)) as manager:

        def ours_read() -> None:
            with manager.transaction(read_only=True) as tx:
                tx.scalar("SELECT 1")

        def ours_write() -> None:
            with manager.transaction() as tx:
                tx.scalar("INSERT INTO hit (path) VALUES (:path) RETURNING id", path="/")

        rows = []
        for what, contenders in (
            ("SELECT 1", (ours_read, engine_read, lambda: driver("SELECT 1"))),
            (
                "INSERT .. RETURNING",
                (
                    ours_write,
                    engine_write,
                    lambda: driver("INSERT INTO hit (path) VALUES (%s) RETURNING id", ("/",)),
                ),
            ),
        ):
            for threads in (1, 16):
                (ours, ours_cpu), (plain, plain_cpu), (bare, _) = in_turn(contenders, threads)
                rows.append(
                    [
                        what,
                        str(threads),
                        f"{ours:.0f}",
                        f"{plain:.0f}",
                        f"{bare:.0f}",
                        f"{ours / plain:.2f}",
                        f"{ours / bare:.2f}",
                        f"{ours_cpu / plain_cpu:.2f}",
                    ]
                )
    raw.closeall()
    engine.dispose()
    assert psycopg2.threadsafety == 2
    return (
        "One transaction from asking for a connection to giving it back, in microseconds. Budget: 1.05 times "
        "a plain engine.\n\n"
        + table(
            [
                "transaction",
                "threads",
                "ours",
                "SQLAlchemy engine",
                "psycopg2 pool",
                "/ engine",
                "/ psycopg2",
                "/ engine, CPU",
            ],
            rows,
        )
    )


def in_turn(contenders: tuple[Callable[[], None], ...], threads: int) -> list[tuple[float, float]]:
    """Return each contender's best microseconds a call, by the clock and of processor time."""
    times: list[list[tuple[float, float]]] = [[] for _ in contenders]
    calls = max(10, CALLS // threads)
    for turn in range(ROUNDS + 1):
        for contender, found in zip(contenders, times, strict=True):
            took = together(contender, threads, calls)
            if turn:  # the first round warms up
                found.append(took)
    each = 1e6 / (calls * threads)
    return [(min(wall for wall, _ in found) * each, min(cpu for _, cpu in found) * each) for found in times]


def together(call: Callable[[], None], threads: int, calls: int) -> tuple[float, float]:
    """Return the seconds, by the clock and of processor time, in which all threads make their calls."""

    def work() -> None:
        for _ in range(calls):
            call()

    workers = [threading.Thread(target=work) for _ in range(threads - 1)]
    began, busy = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.start()
    work()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began, time.process_time() - busy


# Failover


def failover() -> str:
    """Time from a fault to the next acknowledged write, and from its end to the preferred route."""
    rows = []
    for fault in ("refused", "frozen", "read-only"):
        server = Server.create()
        try:
            server.execute("CREATE TABLE entry (number int)")
            rows.append(one_fault(server, fault))
        finally:
            server.remove()
    return (
        "From the fault to the next acknowledged write by `manager.run`, one writer, connect time-out 1 s, "
        "silence 0.5 s, fail back after 1 s and 3 good probes. Budget for refused: 1 s. Both routes lead to "
        "the read-only server: its figures are the refusal, and the first write once it takes them again.\n\n"
        + table(["fault", "failover, s", "failback, s", "writes lost or doubled"], rows)
    )


def one_fault(server: Server, fault: str) -> list[str]:
    """Measure one kind of fault with a writer that never stops."""
    proxy = TcpProxy(server.port)
    routes = [
        Local(name=name, host="127.0.0.1", port=port, database="postgres", user="slipway")
        for name, port in (("first", proxy.port), ("second", server.port))
    ]
    limits = Limits(connect_timeout=1.0, silence=0.5, failback=1.0, budget=15)
    acknowledged: list[tuple[float, str, int]] = []
    stop = threading.Event()

    def write(tx: Any, number: int) -> str:
        tx.execute("INSERT INTO entry VALUES (:number)", {"number": number})
        return str(tx.route)

    with ConnectionManager(routes, limits=limits) as manager:

        def work() -> None:
            for number in itertools.count():
                if stop.is_set():
                    return
                try:
                    route = manager.run(partial(write, number=number))
                except (NotSent, RolledBack):
                    continue
                acknowledged.append((time.monotonic(), route, number))
                stop.wait(0.005)

        writer = threading.Thread(target=work)
        writer.start()
        wait_until(lambda: len(acknowledged) > 50)
        if fault == "read-only":
            set_read_only(server, on=True)
        else:
            (proxy.refuse if fault == "refused" else proxy.freeze)()
        began = time.monotonic()
        if fault == "read-only":
            wait_until(lambda: manager.router.current.writable is False, 20)
            left = time.monotonic()
            set_read_only(server, on=False)
        else:
            wait_until(lambda: acknowledged[-1][1] == "second", 20)
            left = next(at for at, route, _ in acknowledged if route == "second")
            proxy.heal()
        healed = time.monotonic()
        wait_until(lambda: acknowledged[-1][1] == "first" and acknowledged[-1][0] > healed, 20)
        back = next(at for at, route, _ in acknowledged if at > healed and route == "first")
        stop.set()
        writer.join()
    proxy.close()
    stored = Counter(number for (number,) in server.execute("SELECT number FROM entry"))
    told = Counter(number for *_, number in acknowledged)
    # Each way by itself: one lost and one doubled are two.
    wrong = (told - stored).total() + (stored - told).total()
    return [fault, f"{left - began:.2f}", f"{back - healed:.2f}", str(wrong)]


def set_read_only(server: Server, *, on: bool) -> None:
    raw = server.connect()
    with raw.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")
        cursor.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if on else 'off'}")
        cursor.execute("SELECT pg_reload_conf()")
    raw.close()


# Bulk


def make_rows(count: int) -> Iterator[tuple[Any, ...]]:
    moment = datetime.datetime(2026, 11, 23, 12, 0, 0)  # noqa: DTZ001 - the column has no zone either
    return ((number, f"a line of text, number {number}", number % 97, moment) for number in range(count))


def bulk(server: Server) -> str:
    """Load a million rows by the driver and by us, on both back ends."""
    rows = []
    with ConnectionManager.from_settings(server.settings()) as manager:
        baseline, _, cpu = measured(lambda: by_hand(server, "raw_copy"), server, "raw_copy")
        rows.append(["PostgreSQL, psycopg2 `copy_expert` of the same rows", *rate(baseline, cpu), "1.00", ""])
        took, _, cpu = measured(lambda: by_hand(server, "raw_binary", binary=True), server, "raw_binary")
        rows.append(
            ["PostgreSQL, the same in binary, by `struct`", *rate(took, cpu), f"{baseline / took:.2f}", ""]
        )
        took, peak, cpu = measured(
            lambda: manager.load("our_copy", make_rows(ROWS), columns=COLUMNS), server, "our_copy"
        )
        rows.append(["PostgreSQL, `load`", *rate(took, cpu), f"{baseline / took:.2f}", f"{peak:.0f}"])
        as_text = (tuple(map(str, row)) for row in make_rows(ROWS))
        took, peak, cpu = measured(
            lambda: manager.load("our_csv", as_text, columns=COLUMNS), server, "our_csv"
        )
        rows.append(
            [
                "PostgreSQL, `load` of the same rows as texts, which goes as CSV",
                *rate(took, cpu),
                f"{baseline / took:.2f}",
                f"{peak:.0f}",
            ]
        )
        staged, _, cpu = measured(lambda: by_hand(server, "raw_upsert", staged=True), server, "raw_upsert")
        rows.append(["PostgreSQL, staging and upsert by hand", *rate(staged, cpu), "1.00", ""])
        upsert = Upsert(keys=("id",))
        took, peak, cpu = measured(
            lambda: manager.load("our_upsert", make_rows(ROWS), columns=COLUMNS, on_conflict=upsert),
            server,
            "our_upsert",
        )
        rows.append(
            ["PostgreSQL, `load` with `Upsert`", *rate(took, cpu), f"{staged / took:.2f}", f"{peak:.0f}"]
        )
        took, peak, cpu = measured(
            lambda: manager.load("our_many", make_rows(MANY_ROWS), columns=COLUMNS),
            server,
            "our_many",
            MANY_ROWS,
        )
        rows.append([f"PostgreSQL, `load` of {MANY_ROWS:,}", *rate(took, cpu, MANY_ROWS), "", f"{peak:.0f}"])
    with tempfile.TemporaryDirectory() as folder:
        rows.append(sqlite_rate(Path(folder) / "bench.sqlite3", upsert))
    return (
        f"{ROWS:,} rows of four columns from a generator. Share: the rate beside the same thing done by hand "
        "with the driver (budget 0.9). Memory: growth of the process at its peak.\n\n"
        + table(["load", "seconds", "rows/s", "client CPU, s", "share", "memory, MB"], rows)
    )


def sqlite_rate(path: Path, upsert: Upsert) -> list[str]:
    from app.database.adapters.sqlite import Sqlite

    with ConnectionManager([Sqlite(path)]) as manager:
        with manager.transaction() as tx:
            tx.execute(f"CREATE TABLE our_sqlite {TABLE}")
        before = resident()
        began, cpu = time.perf_counter(), time.process_time()
        manager.load("our_sqlite", make_rows(ROWS), columns=COLUMNS, on_conflict=upsert)
        took, busy = time.perf_counter() - began, time.process_time() - cpu
        return [
            "SQLite, `load` with `Upsert`",
            *rate(took, busy),
            "",
            f"{max(0, peak_resident() - before):.0f}",
        ]


def measured(
    load: Callable[[], Any], server: Server, name: str, count: int = ROWS
) -> tuple[float, float, float]:
    """Return the seconds, megabytes and processor seconds of ours that `load` takes, on a fresh table."""
    server.execute(f"CREATE TABLE {name} {TABLE}")
    before = resident()
    began, cpu = time.perf_counter(), time.process_time()
    load()
    took, busy = time.perf_counter() - began, time.process_time() - cpu
    peak = peak_resident()
    assert server.execute(f"SELECT count(*) FROM {name}") == [(count,)]
    server.execute(f"DROP TABLE {name}")
    server.execute("CHECKPOINT")
    return took, max(0.0, peak - before), busy


def by_hand(server: Server, name: str, *, staged: bool = False, binary: bool = False) -> None:
    """Do what a careful program does with the driver: encode in batches, COPY, upsert."""
    raw = server.connect()
    raw.autocommit = False
    with raw.cursor() as cursor:
        into = name
        if staged:
            cursor.execute(f"CREATE TEMP TABLE stage ON COMMIT DROP AS SELECT * FROM {name} WITH NO DATA")
            into = "stage"
        source = BinaryByHand() if binary else ByHand()
        form = "binary" if binary else "csv"
        cursor.copy_expert(f"COPY {into} FROM STDIN (FORMAT {form})", source, 1 << 16)
        if staged:
            cursor.execute(
                f"INSERT INTO {name} SELECT * FROM stage ON CONFLICT (id) DO UPDATE SET text = excluded.text,"
                " number = excluded.number, moment = excluded.moment"
            )
    raw.commit()
    raw.close()


class ByHand:
    """A file that encodes rows as they are read."""

    def __init__(self) -> None:
        self._rows = make_rows(ROWS)

    def read(self, _size: int = -1) -> str:
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator="\n").writerows(islice(self._rows, 2000))
        return buffer.getvalue()


class BinaryByHand:
    """The same rows in COPY's binary format, packed for just these four columns: the best case for Python."""

    _EPOCH = datetime.datetime(2000, 1, 1)  # noqa: DTZ001 - PostgreSQL counts from here, without a zone

    def __init__(self) -> None:
        self._rows = make_rows(ROWS)
        self._begun = self._ended = False

    def read(self, _size: int = -1) -> bytes:
        if not self._begun:
            self._begun = True
            return b"PGCOPY\n\xff\r\n\0" + bytes(8)
        head, tail = struct.Struct(">hiii").pack, struct.Struct(">iiiq").pack
        microsecond, parts = datetime.timedelta(microseconds=1), []
        for number, text, count, moment in islice(self._rows, 2000):
            data = text.encode()
            parts += [
                head(4, 4, number, len(data)),
                data,
                tail(4, count, 8, (moment - self._EPOCH) // microsecond),
            ]
        if not parts and not self._ended:
            self._ended = True
            return b"\xff\xff"
        return b"".join(parts)


def rate(seconds: float, cpu: float, count: int = ROWS) -> list[str]:
    return [f"{seconds:.1f}", f"{count / seconds:,.0f}", f"{cpu:.1f}"]


# Population


def population(server: Server) -> str:
    """Put a file of events into the ledger by the job of `db.populate`, on both back ends, twice."""
    from app.database.adapters.sqlite import Sqlite
    from app.database.migrations import runner
    from scripts.database.populate import job, sources

    server.execute("CREATE DATABASE ledger")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "events.ndjson"
        source.write_text(
            "".join(
                json.dumps(event("task.finished", {**stage("lint"), "run": f"run-{number}"}, key=f"{number}"))
                + "\n"
                for number in range(EVENTS)
            )
        )
        rows = []
        for label, manager in (
            ("PostgreSQL", ConnectionManager.from_settings(server.settings("ledger"))),
            ("SQLite", ConnectionManager([Sqlite(folder / "bench.sqlite3")])),
        ):
            with manager:
                runner.upgrade(manager)
                for what, again in (("new", False), ("known already", True)):
                    options = job.Options(folder=folder / label, restart=again)
                    done = job.populate(
                        manager, "ndjson", source, sources.steps("ndjson", source), options, io.StringIO()
                    )
                    (step,) = done.steps
                    assert (step.duplicates if again else step.accepted) == EVENTS
                    rows.append([label, what, f"{done.seconds:.1f}", f"{EVENTS / done.seconds:,.0f}"])
    return (
        f"{EVENTS:,} events by the job of `db.populate` from NDJSON, in batches of {job.BATCH}: each is "
        "checked, recorded, projected and, at the end, looked up again.\n\n"
        + table(["back end", "events", "seconds", "events/s"], rows)
    )


def resident() -> float:
    """Forget the peak so far and return the megabytes in use."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak_resident() -> float:
    return _status("VmHWM")


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise AssertionError(field)
