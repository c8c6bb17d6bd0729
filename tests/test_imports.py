"""The house rules: imports point down one list only, and importing is cheap and silent."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("tasks", "scripts", "app", "config")
PIPELINE_USERS = ("scripts.views", "scripts.stages")


def module_name(path: Path) -> str:
    """Return the dotted name of the module in `path`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[str]:
    """Yield the dotted name of everything that the module in `path` imports, lazily or not."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield ".".join([*base, *([node.module] if node.module else [])])


def modules(*folders: str) -> list[Path]:
    """Return every Python file below the named folders."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def within(name: str, room: str) -> bool:
    """Tell whether the module `name` is `room` or inside it."""
    return name == room or name.startswith(f"{room}.")


@pytest.mark.parametrize("path", [ROOT / "tasks.py", *modules("scripts", "app", "config")], ids=module_name)
def test_imports_point_down(path: Path) -> None:
    """tasks -> scripts -> app -> config, never up."""
    room = ROOMS.index(module_name(path).split(".")[0])
    up = [name for name in imports_of(path) if name.split(".")[0] in ROOMS[:room]]
    assert not up, f"{module_name(path)} imports {up}"


@pytest.mark.parametrize("path", modules("scripts/pipeline"), ids=module_name)
def test_the_engine_imports_no_other_room(path: Path) -> None:
    """The engine knows nothing of Docker, tests or databases."""
    outside = [
        name
        for name in imports_of(path)
        if name.split(".")[0] in ROOMS and not within(name, "scripts.pipeline")
    ]
    heavy = [name for name in imports_of(path) if name.split(".")[0] in ("docker", "pytest", "sqlalchemy")]
    assert not outside
    assert not heavy


@pytest.mark.parametrize(
    "path",
    [path for path in modules("scripts") if not within(module_name(path), "scripts.stages")],
    ids=module_name,
)
def test_only_the_run_joins_stages_and_views(path: Path) -> None:
    """views/ and stages/ import pipeline/, never each other and never the reverse."""
    name = module_name(path)
    if name == "scripts.run":
        return
    wrong = [
        found
        for found in imports_of(path)
        if any(within(found, room) and not within(name, room) for room in PIPELINE_USERS)
    ]
    assert not wrong, f"{name} imports {wrong}"
