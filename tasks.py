"""What you can ask for: each task says what it does and hands on to `scripts`."""

from invoke import Collection, Context, task

LOCK_COMMAND = "uv pip compile setup.cfg --all-extras --universal --python-version 3.11 --generate-hashes"


@task
def lock(context: Context) -> None:
    """Pin every dependency again, by hash, in requirements.lock."""
    context.run(
        f"{LOCK_COMMAND} --upgrade --quiet --custom-compile-command 'invoke lock' --output-file requirements.lock"
    )


namespace = Collection(lock)
