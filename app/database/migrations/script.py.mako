"""${message}."""

from alembic import op

revision = "${up_revision}"
down_revision = ${repr(down_revision)}

# A step that the running release would not survive (drop, rename, change of type, NOT NULL without a default)
# is refused unless it says why it is safe now:
#     contract = True
#     contract_reason = "no release since 1.4 reads event.kind"


def upgrade() -> None:
    """Apply."""
    ${upgrades if upgrades else "op.execute(\"SELECT 1\")"}


def downgrade() -> None:
    """Undo."""
    ${downgrades if downgrades else "op.execute(\"SELECT 1\")"}
