"""The project in a folder of its own, where nobody has chosen an environment, nor keeps settings or secrets.

What a user's `.env`, `.slipway` and process environment hold must not decide whether the tests pass.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import GROUPS
from config.sources import CHOOSER, FILE_SUFFIX, PROJECT, Sources
from config.variables import variables_of

PARTS = ("app", "config", "docker", "docs", "scripts", "tests", "tasks.py", "setup.cfg")


def linked(folder: Path) -> Path:
    """Link the program's parts into `folder`: a child that is started there finds settings there alone.

    The project is the folder beside `config`, and coverage knows the real files behind the links.
    """
    for name in PARTS:
        (folder / name).symlink_to(PROJECT / name)
    return folder


@pytest.fixture(scope="session", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Let `Sources()` read a folder without settings; take every variable of ours from this process."""
    folder = linked(tmp_path_factory.mktemp("project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Sources.__init__.__kwdefaults__, "root", folder)
        for name in (CHOOSER, *variables_of(GROUPS["all"])):
            patch.delenv(name, raising=False)
            patch.delenv(f"{name}{FILE_SUFFIX}", raising=False)
        yield folder
