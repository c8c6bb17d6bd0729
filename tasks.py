"""What you can ask for: each task says what it does and hands on to `scripts`."""

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

LOCK_COMMAND = (
    "uv pip compile setup.cfg --all-extras --universal --python-version 3.11 --generate-hashes --upgrade"
    " --quiet --custom-compile-command 'invoke lock' --output-file requirements.lock"
)


@task
def lock(context: Context) -> None:
    """Pin every dependency again, by hash, in requirements.lock."""
    context.run(LOCK_COMMAND)


namespace = Collection(lock)
