"""The history of the schema: Alembic migrations, who may apply them, and which are safe while we serve."""
