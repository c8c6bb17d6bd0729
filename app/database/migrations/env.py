"""How Alembic runs our migrations: on the runner's connection, in the runner's transaction."""

from alembic import context

options = context.config.attributes

if context.is_offline_mode():
    context.configure(
        dialect_name=options["dialect"],
        transactional_ddl=True,
        render_as_batch=True,
        on_version_apply=options["on_version_apply"],
        literal_binds=True,
    )
    with context.begin_transaction():
        context.run_migrations()
else:
    context.configure(
        connection=options["connection"],
        transactional_ddl=True,
        render_as_batch=True,
        on_version_apply=options["on_version_apply"],
    )
    context.run_migrations()
