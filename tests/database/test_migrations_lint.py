"""Expand, then contract: what the running release would not survive is refused unless it says why it may."""

from pathlib import Path

import pytest

from app.database.migrations import chain, lint
from app.database.migrations.errors import BrokenHistoryError, MigrationRefusedError
from tests.database.migration_files import CREATE, write

BREAKING = {
    'op.drop_table("box")': "drops the table box",
    'op.execute("drop table if exists box")': "drops the table box",
    'op.execute("DROP VIEW heavy")': "drops the view heavy",
    'op.execute("TRUNCATE box")': "empties the table box",
    'op.drop_column("box", "label")': "drops the column box.label",
    'op.execute(\'ALTER TABLE ONLY public."box" DROP COLUMN "label"\')': "drops the column public.box.label",
    'op.rename_table("box", "crate")': "renames the table box",
    'op.alter_column("box", "label", new_column_name="title")': "renames the column box.label",
    'op.alter_column("box", "label", type_=sa.Integer())': "changes the type of box.label",
    'op.alter_column("box", "label", nullable=False)': "forbids NULL in box.label",
    'op.alter_column("box", "label", server_default=None)': "drops the default of box.label",
    'op.add_column("box", sa.Column("size", sa.Integer(), nullable=False))': "NOT NULL without a default",
    'op.create_unique_constraint("u", "box", ["label"])': "adds a constraint to box",
    'op.create_check_constraint("c", "box", "label <> \'\'")': "adds a constraint to box",
    'op.create_index("u", "box", ["label"], unique=True)': "adds a unique index to box",
    'op.execute("DO $$ BEGIN DROP TABLE box; END $$")': "hides its statements in a DO block",
    'op.execute("SELECT 1; DROP TABLE box")': "drops the table box",
    'op.execute("/* a note */ DROP /* and one */ TABLE box")': "drops the table box",
    'op.execute("DROP TABLE IF EXISTS crate, public.box CASCADE")': "drops the table public.box",
    'op.execute("DROP MATERIALIZED VIEW light, heavy")': "drops the view heavy",
    'op.execute("DROP SCHEMA store CASCADE")': "drops the schema store",
    'op.execute("TRUNCATE TABLE ONLY crate, box RESTART IDENTITY")': "empties the table box",
    'op.execute("DELETE FROM ONLY box WHERE id = 1")': "deletes rows of box",
    'op.execute("WITH old AS (DELETE FROM box RETURNING id) SELECT id FROM old")': "deletes rows of box",
    'op.execute("ALTER TABLE box DROP label")': "drops the column box.label",
    'op.execute("ALTER TABLE box ADD CHECK (id > (0)), DROP IF EXISTS size")': "drops the column box.size",
    'op.execute("ALTER TABLE box ADD size int NOT NULL")': "adds box.size, NOT NULL without a default",
    'op.execute("ALTER TABLE box ADD COLUMN a numeric(3, 1) DEFAULT 0, ADD COLUMN b int NOT NULL")': (
        "adds box.b, NOT NULL without a default"
    ),
    'op.execute("ALTER TABLE box ADD PRIMARY KEY (id)")': "adds a constraint to box",
    'op.execute("ALTER TABLE box ADD CONSTRAINT x EXCLUDE (id WITH =)")': "adds a constraint to box",
    'op.execute("ALTER TABLE box ADD CONSTRAINT x NOT NULL label")': "adds a constraint to box",
    'op.execute("ALTER TABLE box SET SCHEMA store")': "moves the table box",
    'op.execute("SELECT 1; DO LANGUAGE plpgsql $x$ BEGIN PERFORM 1; END $x$")': "hides its statements",
    "op.execute(\"SELECT E'it\\\\'s'; DROP TABLE box; SELECT 'x'\")": "drops the table box",
    'op.execute("CREATE TABLE archive.box AS SELECT * FROM box; DROP TABLE box")': "drops the table box",
    'op.execute("CREATE TABLE box (id int); DROP TABLE public.box")': "drops the table public.box",
    'op.execute("CREATE TEMP TABLE box (id int); DROP TABLE box; DROP TABLE box")': "drops the table box",
    'op.execute("SET search_path TO a; CREATE TABLE box (); SET search_path TO b; DROP TABLE box")': (
        "drops the table box"
    ),
    "op.execute('CREATE TABLE \"Box\" (id int); DROP TABLE Box')": "drops the table box",
    'op.execute(\'CREATE TABLE "a  b" (id int); DROP TABLE "a b"\')': "drops the table a b",
    'op.execute("CREATE TABLE IF NOT EXISTS box (id int); DROP TABLE box")': "drops the table box",
    'op.execute("CREATE TABLE IF NOT EXISTS box (id int); ALTER TABLE box DROP label")': (
        "drops the column box.label"
    ),
    'op.execute("ALTER TABLE box ADD COLUMN IF NOT EXISTS label text; ALTER TABLE box DROP label")': (
        "drops the column box.label"
    ),
    'op.execute("EXPLAIN CREATE TABLE box AS SELECT 1; DROP TABLE box")': "drops the table box",
    'op.execute("ALTER TABLE box ADD size int DEFAULT NULL NOT NULL")': "NOT NULL without a default",
    'op.execute("ALTER TABLE box ADD size int DEFAULT ( NULL)::int NOT NULL")': "NOT NULL without a default",
    'op.execute("MERGE INTO box USING crate ON true WHEN MATCHED THEN DELETE")': "deletes rows of box",
    'op.execute(\'ALTER TABLE "a ""b" DROP COLUMN "c;d, e"\')': 'drops the column a "b.c;d, e',
    'op.execute(\'ALTER TABLE"box"DROP"label"\')': "drops the column box.label",
    'op.execute("ALTER TABLE store.public.box DROP label")': "drops the column store.public.box.label",
    'op.execute("ALTER TABLE public . box DROP label")': "drops the column public.box.label",
    'op.execute("ALTER FOREIGN TABLE box DROP label")': "drops the column box.label",
    'op.execute("DROP FOREIGN TABLE box")': "drops the table box",
    'op.execute("ALTER TABLE box DETACH PARTITION old")': "takes rows out of the table box",
    'op.execute("ALTER TABLE box ALTER id DROP IDENTITY")': "drops the default of box.id",
    'op.execute("DROP TYPE IF EXISTS mood, size CASCADE")': "drops size",
    'op.execute("DROP FUNCTION IF EXISTS f(int, int)")': "drops f",
    'op.execute("ALTER VIEW heavy RENAME TO light")': "the view heavy",
    "op.execute(\"ALTER TYPE mood RENAME VALUE 'a' TO 'b'\")": "changes the type mood",
    'op.execute("REVOKE ALL ON box FROM app")': "takes rights away",
    'op.execute("DROP OWNED BY app")': "drops what a role owns",
    'op.execute("CALL wipe()")': "hides its statements in a procedure",
    'op.execute("/* a /* b */ */ DROP TABLE box")': "hides a name or a comment",
    "op.execute('DROP TABLE U&\"b\\\\006fx\"')": "hides a name or a comment",
}

HARMLESS = [
    CREATE,
    'op.add_column("box", sa.Column("size", sa.Integer()))',
    'op.add_column("box", sa.Column("size", sa.Integer(), nullable=False, server_default="0"))',
    'op.create_index("i", "box", ["label"])',
    'op.drop_index("i", "box")',
    'op.drop_constraint("c", "box")',
    'op.alter_column("box", "label", nullable=True)',
    'op.alter_column("box", "label", server_default="none")',
    'op.execute("ALTER TABLE box RENAME CONSTRAINT a TO b")',
    "op.execute(\"INSERT INTO box (label) VALUES ('DROP TABLE box; it''s fine')\")",
    'op.execute("-- DROP TABLE box")',
    'op.execute("ALTER TABLE box ADD a int, ADD b int NOT NULL DEFAULT 0, DROP CONSTRAINT c")',
    'op.execute("ALTER TABLE box ADD a int; ALTER TABLE box DROP a")',
    'op.execute("CREATE TABLE store.crate (); DROP TABLE store.crate")',
    "op.execute('CREATE TABLE Crate (); DROP TABLE \"crate\"')",
    'op.execute(\'CREATE TABLE "a;b" ("c ""d" int); ALTER TABLE "a;b" DROP "c ""d"\')',
    'op.execute("ALTER TABLE box ADD size numeric NOT NULL DEFAULT .5")',
    "op.execute(\"SET LOCAL lock_timeout TO 100; ALTER TYPE mood ADD VALUE 'x'\")",
    'op.execute("CREATE TABLE crate AS SELECT 1; DELETE FROM crate; DROP TABLE crate")',
    """op.execute("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
    " $body$ BEGIN DELETE FROM box; DROP TABLE box; RETURN NULL; END $body$")""",
    """op.execute('COMMENT ON COLUMN box."a--b" IS NULL; DROP INDEX i')""",
    f'{CREATE}\nop.drop_column("box", "label")\nop.drop_table("box")',
    """op.add_column("box", sa.Column("size", sa.Integer()))
op.create_unique_constraint("u", "box", ["size"])
op.drop_column("box", "size")""",
    'op.execute("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$")',
]


def found(folder: Path, body: str) -> list[str]:
    migration = chain.parse(write(folder, "0001", None, body))
    return [breakage.what for breakage in lint.breakages(lint.render(migration))]


@pytest.mark.parametrize(("body", "what"), BREAKING.items())
def test_what_takes_something_away_is_found(tmp_path: Path, body: str, what: str) -> None:
    assert any(what in one for one in found(tmp_path, body))


@pytest.mark.parametrize("body", HARMLESS)
def test_what_only_adds_passes(tmp_path: Path, body: str) -> None:
    assert found(tmp_path, body) == []


def test_a_refusal_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    path = write(tmp_path, "0001", None, 'op.drop_table("box")')
    with pytest.raises(MigrationRefusedError) as caught:
        lint.check(chain.parse(path))
    assert str(path) in str(caught.value)
    assert "contract = True" in caught.value.next_step


def test_a_marked_contraction_passes(tmp_path: Path) -> None:
    reason = 'contract = True\ncontract_reason = "no release reads it"'
    lint.check(chain.parse(write(tmp_path, "0001", None, 'op.drop_table("box")', extra=reason)))


def test_every_shipped_migration_keeps_the_rule() -> None:
    for migration in chain.read().migrations:
        lint.check(migration)


def test_a_file_that_cannot_be_imported_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "0001.txt"
    path.write_text("revision = '1'\ndown_revision = None\n")
    with pytest.raises(BrokenHistoryError, match="cannot be imported"):
        lint.load(chain.parse(path))
