"""Backup of a PostgreSQL database: pg_dump's custom format where a fitting pg_dump is, else COPY by table.

Either way one snapshot serves the data, the counts and the checksums. The COPY method carries no definitions
but the revision: it restores by migrating an empty database to that revision and filling it, so it is for
databases whose schema our migrations made.
"""

import hashlib
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, cast

from scripts.database.backup import tools
from scripts.database.backup.archive import Manifest, Table, Writer, finish
from scripts.database.errors import BackupError

if TYPE_CHECKING:
    from app.database.adapters.postgresql import PostgreSQL

DUMP = "database.dump"
ROWS = "tables/{}.copy"

# What `row::text` depends on; all of it is set the same before every checksum.
SETTINGS = """
SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD';
SET LOCAL intervalstyle = 'postgres'; SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'
"""
TABLES = """
SELECT namespace.nspname, class.relname
FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE class.relkind = 'r' AND class.relpersistence <> 't'
  AND namespace.nspname NOT IN ('pg_catalog', 'information_schema') AND namespace.nspname NOT LIKE 'pg\\_%'
ORDER BY 1, 2
"""
# md5 rather than hashtext: its result is the same on every version of the server. `t.*` is the whole row also
# where a column is called t.
CHECKSUM = """
SELECT count(*), coalesce(sum(('x' || left(md5((t.*)::text), 16))::bit(64)::bigint::numeric), 0)::text
FROM {} AS t
"""
SEQUENCES = """
SELECT namespace.nspname, class.relname
FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE class.relkind = 'S' AND namespace.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY 1, 2
"""
RISING = """
SELECT namespace.nspname, class.relname
FROM pg_sequence JOIN pg_class AS class ON class.oid = seqrelid
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace WHERE seqincrement > 0 AND NOT seqcycle
"""
OBJECTS = """
SELECT format('%s.%s %s %s %s', table_schema, table_name, column_name, data_type, is_nullable)
FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
UNION ALL SELECT format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE conrelid <> 0 AND connamespace NOT IN ('pg_catalog'::regnamespace)
UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
"""
FOREIGN_KEYS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 ORDER BY 1, 2
"""


def connect(adapter: "PostgreSQL") -> Any:
    """Open a connection of our own; raises app.database's NotSent in the kind that fits."""
    try:
        return adapter.open(10.0)
    except Exception as error:
        raise adapter.explain(error) from error


@contextmanager
def session(adapter: "PostgreSQL") -> Iterator[Any]:
    """Open a connection of our own with nothing that times out, and give its cursor.

    Raises BackupError for what the server refuses, without the values that it quotes.
    """
    import psycopg2

    from app.database.message import said
    from app.database.sqlstates import remedy_of

    with closing(connect(adapter)) as connection:
        try:
            with connection.cursor() as cursor:
                yield cursor
        except psycopg2.Error as error:
            raise BackupError(
                f"The server refused: {said(error)}",
                adapter.describe(),
                remedy_of(error) or "correct this and repeat the command",
            ) from error


@contextmanager
def snapshot(adapter: "PostgreSQL") -> Iterator[Any]:
    """Open one unchanging view of the database."""
    with session(adapter) as cursor:
        cursor.connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        cursor.execute(SETTINGS)
        yield cursor
        cursor.connection.rollback()


def dump(adapter: "PostgreSQL", writer: Writer, *, method: str = "auto") -> Manifest:
    """Put the database into an archive; `method` is auto, pg_dump or copy.

    Raises BackupError when pg_dump is asked for and none fits, or when it fails.
    """
    # pg_dump sets session parameters before it begins, which a pooler would hand to the next client.
    if method == "pg_dump" and adapter.kind == "pooler":
        raise needs_session("pg_dump", adapter, "use --method=copy")
    with snapshot(adapter) as cursor:
        version = cursor.connection.server_version // 10000
        program = None if method == "copy" or adapter.kind == "pooler" else tools.find("pg_dump", version)
        if program is None and method == "pg_dump":
            raise BackupError(
                f"There is no pg_dump of version {version} or later that can be used.",
                adapter.describe(),
                f"install postgresql-client-{version}, or use --method=copy",
            )
        found = Manifest(
            engine="postgresql",
            method="pg_dump" if program else "copy",
            database=adapter.database,
            server_version=str(version),
            tool_version=str(program[1] if program else version),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            revision=revision(cursor),
            tables=tables(cursor),
            objects=objects(cursor),
            sequences=sequences(cursor),
        )
        if program:
            cursor.execute("SELECT pg_export_snapshot()")
            argv = [str(program[0]), "--format=custom", f"--snapshot={cursor.fetchone()[0]}", "--no-password"]
            with writer.member(DUMP, compress=False) as member:
                run_pg_dump(argv, tools.environment(parameters(adapter, cursor.connection)), member)
        else:
            for schema, name in listed(cursor, TABLES):
                with writer.member(ROWS.format(f"{schema}.{name}"), compress=True) as member:
                    cursor.copy_expert(f"COPY {quoted(schema, name)} TO STDOUT", member)
    return finish(writer, found)


def needs_session(program: str, adapter: "PostgreSQL", instead: str) -> BackupError:
    """Return the error for a program of PostgreSQL's that is asked to go through a pooler."""
    return BackupError(
        f"{program} cannot go through a pooler: the next client would get the session as it leaves it.",
        adapter.describe(),
        f"put direct or local into DB_ADAPTER_ORDER, or {instead}",
    )


def parameters(adapter: "PostgreSQL", connection: Any) -> dict[str, Any]:
    """Return libpq's parameters of a route, with the address when its `connection` needed that."""
    used = connection.info.dsn_parameters.get("hostaddr")
    return {**adapter.arguments(10.0), **adapter.parameters(), "hostaddr": used}


def run_pg_dump(argv: list[str], environment: Mapping[str, str], member: Any) -> None:
    """Write what pg_dump writes; it is ended with us whatever happens."""
    with (
        tempfile.TemporaryFile() as said,  # a pipe would stop it once full: nobody reads it meanwhile
        subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=said) as process,
    ):
        try:
            stdout = cast("IO[bytes]", process.stdout)
            while piece := stdout.read(1 << 20):
                member.write(piece)
            process.wait()
        except BaseException:
            process.kill()
            raise
        if process.returncode:
            raise BackupError(
                f"pg_dump failed: {without_values(said)}", argv[0], "correct this, or use --method=copy"
            )


def listed(cursor: Any, query: str) -> list[tuple[str, ...]]:
    """Return all rows of a query."""
    cursor.execute(query)
    return list(cursor.fetchall())


def quoted(*names: str) -> str:
    """Return a qualified name with quotes."""
    return ".".join('"{}"'.format(name.replace('"', '""')) for name in names)


def tables(cursor: Any) -> dict[str, Table]:
    """Return count and checksum of every table."""
    found = {}
    for schema, name in listed(cursor, TABLES):
        cursor.execute(CHECKSUM.format(quoted(schema, name)))
        rows, checksum = cursor.fetchone()
        found[f"{schema}.{name}"] = Table(rows=rows, checksum=checksum)
    return found


def objects(cursor: Any) -> str:
    """Return a hash of columns, indexes, constraints and triggers, in an order that no collation changes."""
    return hashlib.sha256("\n".join(sorted(row[0] for row in listed(cursor, OBJECTS))).encode()).hexdigest()


def sequences(cursor: Any) -> dict[str, tuple[int, bool]]:
    """Return where each sequence stands: its last value, and whether that was handed out."""
    found = {}
    for schema, name in listed(cursor, SEQUENCES):
        cursor.execute(f"SELECT last_value, is_called FROM {quoted(schema, name)}")  # noqa: S608 - quoted
        found[f"{schema}.{name}"] = cursor.fetchone()
    return found


def revision(cursor: Any) -> str | None:
    """Return the revision that the database says it is at."""
    cursor.execute("SELECT to_regclass('alembic_version')")
    if cursor.fetchone()[0] is None:
        return None
    cursor.execute("SELECT version_num FROM alembic_version")
    row = cursor.fetchone()
    return row[0] if row else None


def fingerprint(adapter: "PostgreSQL") -> tuple[dict[str, Table], str]:
    """Return what a comparison compares, of the database behind `adapter`."""
    with snapshot(adapter) as cursor:
        return tables(cursor), objects(cursor)


def compare_sequences(manifest: Manifest, adapter: "PostgreSQL") -> None:
    """Raise BackupError when a sequence would hand out again what it had handed out before the backup.

    It may be ahead: a sequence knows no snapshot, so it moves on between the manifest and the dump. One that
    counts down or round only has to be there.
    """
    with snapshot(adapter) as cursor:
        here = sequences(cursor)
        rising = {".".join(names) for names in listed(cursor, RISING)}
    for name, said in manifest.sequences.items():
        got = here.get(name)
        if got is None or (name in rising and got < said):
            what = "was not restored" if got is None else f"stands at {got[0]} instead of {said[0]}"
            raise BackupError(
                f"The sequence {name} {what}.",
                adapter.describe(),
                "keep the backup, and restore another one",
            )


def run_pg_restore(archive: zipfile.ZipFile, manifest: Manifest, adapter: "PostgreSQL") -> None:
    """Restore a custom-format dump in one transaction; raises BackupError when that fails."""
    program = tools.find("pg_restore", int(manifest.tool_version))
    if program is None:
        raise BackupError(
            f"There is no pg_restore of version {manifest.tool_version} or later.",
            adapter.describe(),
            f"install postgresql-client-{manifest.tool_version}",
        )
    argv = [
        str(program[0]),
        "--single-transaction",
        "--exit-on-error",
        "--no-owner",
        "--no-privileges",
        "--no-password",
        f"--dbname={adapter.database}",
    ]
    with closing(connect(adapter)) as connection:
        environment = tools.environment(parameters(adapter, connection))
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
        ) as process,
    ):
        try:
            stdin = cast("IO[bytes]", process.stdin)
            with archive.open(DUMP) as member, suppress(BrokenPipeError):
                while piece := member.read(1 << 20):
                    stdin.write(piece)
            with suppress(BrokenPipeError):
                stdin.close()
            process.wait()
        except BaseException:
            process.kill()
            raise
        if process.returncode:
            raise BackupError(
                f"pg_restore failed and nothing was restored: {without_values(said)}",
                adapter.describe(),
                "correct this and repeat the command",
            )


def without_values(said: IO[bytes]) -> str:
    """Return the end of what PostgreSQL's program said on one line, without the lines that quote rows."""
    said.seek(0)
    text = said.read().decode("utf-8", "replace")
    lines = [line for line in text.splitlines() if not line.startswith(("DETAIL:", "CONTEXT:"))]
    return " ".join(" ".join(lines).split())[-500:]


def fill(archive: zipfile.ZipFile, manifest: Manifest, adapter: "PostgreSQL") -> None:
    """Copy the rows of every table into the tables that the migrations made, in one transaction."""
    with session(adapter) as cursor:
        cursor.execute(SETTINGS)
        here = {f"{schema}.{name}" for schema, name in listed(cursor, TABLES)}
        unknown = sorted(set(manifest.tables) - here)
        if unknown:
            raise BackupError(
                f"The backup has tables that no migration makes: {', '.join(unknown)}.",
                adapter.describe(),
                "make them by hand first, or back up with --method=pg_dump",
            )
        references = listed(cursor, FOREIGN_KEYS)  # they would refuse whichever table is filled first
        for table, constraint, _ in references:
            cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {quoted(constraint)}")
        for full_name in manifest.tables:
            name = quoted(*full_name.split(".", 1))
            cursor.execute(f"SELECT EXISTS (SELECT FROM {name})")  # noqa: S608 - quoted
            if cursor.fetchone()[0]:
                cursor.execute(f"DELETE FROM {name}")  # noqa: S608 - quoted
            with archive.open(ROWS.format(full_name)) as member:
                cursor.copy_expert(f"COPY {name} FROM STDIN", member)
        for table, constraint, definition in references:
            cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {quoted(constraint)} {definition}")
        for full_name, (last, used) in manifest.sequences.items():
            cursor.execute("SELECT setval(%s, %s, %s)", (quoted(*full_name.split(".", 1)), last, used))
        cursor.connection.commit()


def drop_tables(adapter: "PostgreSQL") -> None:
    """Drop every table there is."""
    with session(adapter) as cursor:
        names = ", ".join(quoted(*row) for row in listed(cursor, TABLES))
        if names:
            cursor.execute(f"DROP TABLE {names} CASCADE")
        cursor.connection.commit()


def is_empty(adapter: "PostgreSQL") -> bool:
    """Tell whether the database has no table at all."""
    with snapshot(adapter) as cursor:
        return not listed(cursor, TABLES)


def database_exists(maintenance: "PostgreSQL", name: str) -> bool:
    """Tell whether the server has a database of that name."""
    with snapshot(maintenance) as cursor:
        cursor.execute("SELECT count(*) FROM pg_database WHERE datname = %s", (name,))
        return bool(cursor.fetchone()[0])


def command(maintenance: "PostgreSQL", statement: str) -> None:
    """Run a statement that no transaction may hold, such as CREATE DATABASE.

    Raises BackupError when the role may not do it.
    """
    import psycopg2

    with closing(connect(maintenance)) as connection:
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        except psycopg2.Error as error:
            raise BackupError(
                f"The server refused: {' '.join(str(error).split())}",
                maintenance.describe(),
                "give the role the right to create databases (ALTER ROLE … CREATEDB), or make one yourself",
            ) from error
