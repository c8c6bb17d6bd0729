"""Migration files for tests, written as a developer would."""

from pathlib import Path
from textwrap import dedent, indent


def write(
    folder: Path, revision: str, down: str | None, upgrade: str, downgrade: str = "pass", *, extra: str = ""
) -> Path:
    """Write one migration file and return its path."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{revision}_step.py"
    path.write_text(
        f'"""Step {revision}."""\n\nimport sqlalchemy as sa\nfrom alembic import op\n\n'
        f"revision = {revision!r}\ndown_revision = {down!r}\n{extra}\n\n"
        f"def upgrade():\n{indent(dedent(upgrade), '    ')}\n\n"
        f"def downgrade():\n{indent(dedent(downgrade), '    ')}\n"
    )
    return path


CREATE = (
    """op.create_table("box", sa.Column("id", sa.Integer, primary_key=True), sa.Column("label", sa.Text))"""
)
ADD = """op.add_column("box", sa.Column("weight", sa.Integer))"""


def two(folder: Path) -> Path:
    """Write two good migrations: a table, then a column."""
    write(folder, "0001", None, CREATE, 'op.drop_table("box")')
    write(folder, "0002", "0001", ADD, 'op.drop_column("box", "weight")')
    return folder
