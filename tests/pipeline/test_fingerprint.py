"""A fingerprint speaks of content: what is in the files, what the stage names, nothing of time or place."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from scripts.pipeline.errors import UsageError
from scripts.pipeline.fingerprint import (
    Fingerprint,
    Tree,
    differences,
    fingerprint,
    matches,
    printable,
    snapshot,
)
from tests.pipeline.ground import check, effect, git, make_tree, until, write


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree", {"a.txt": "a\n", "app/web/api.py": "x = 1\n"})


def age(path: Path, seconds: int) -> None:
    """Set a file's modification time back."""
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns - seconds * 10**9))


def test_touching_a_file_changes_nothing(tree: Path) -> None:
    before = snapshot(tree)
    age(tree / "a.txt", 3600)
    assert snapshot(tree).files == before.files


def test_changing_content_changes_one_file(tree: Path) -> None:
    before = snapshot(tree).files
    (tree / "a.txt").write_text("b\n")
    after = snapshot(tree).files
    assert {name for name in after if after[name] != before[name]} == {"a.txt"}


def test_a_change_of_equal_size_and_time_is_seen(tree: Path) -> None:
    """No tool can set ctime back, so even a change that hides its mtime is found."""
    age(tree / "a.txt", 3600)
    facts = (tree / "a.txt").stat()
    before = snapshot(tree).files
    snapshot(tree)
    (tree / "a.txt").write_text("b\n")
    os.utime(tree / "a.txt", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert snapshot(tree).files["a.txt"] != before["a.txt"]


def test_the_executable_bit_counts(tree: Path) -> None:
    before = snapshot(tree).files["a.txt"]
    (tree / "a.txt").chmod(0o755)
    after = snapshot(tree).files["a.txt"]
    assert before.partition(":")[2] == after.partition(":")[2]
    assert before != after


def test_other_mode_bits_do_not_count(tree: Path) -> None:
    before = snapshot(tree).files
    (tree / "a.txt").chmod(0o600)
    assert snapshot(tree).files == before


def test_untracked_files_count_and_ignored_ones_do_not(tree: Path) -> None:
    write(tree, {"new.txt": "n", "secret.ignored": "s", ".slipway/anything": "x"})
    names = snapshot(tree).files.keys()
    assert "new.txt" in names
    assert not {"secret.ignored", ".slipway/anything"} & names


def test_the_engines_own_state_never_counts(tmp_path: Path) -> None:
    """Also where nobody told git to ignore it."""
    root = make_tree(tmp_path / "tree", {".gitignore": ""})
    before = snapshot(root).files
    write(root, {".slipway/proofs/lint/x.json": "{}"})
    seen = snapshot(root)
    assert seen.files == before
    assert not seen.dirty


def test_a_deleted_file_is_gone(tree: Path) -> None:
    (tree / "a.txt").unlink()
    assert "a.txt" not in snapshot(tree).files


def test_staging_and_committing_change_no_content(tree: Path) -> None:
    write(tree, {"new.txt": "n"})
    before = snapshot(tree).files
    git(tree, "add", "-A")
    staged = snapshot(tree)
    git(tree, "commit", "-qm", "second")
    after = snapshot(tree)
    assert before == staged.files == after.files
    assert (staged.dirty, after.dirty) == (True, False)
    assert staged.commit != after.commit


def test_a_repository_without_a_commit_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    write(tmp_path, {"a": "a"})
    seen = snapshot(tmp_path)
    assert seen.commit is None
    assert seen.dirty
    assert "a" in seen.files


def test_names_with_spaces_newlines_and_no_text_are_read(tree: Path) -> None:
    odd = [b"with space.txt", b"new\nline.txt", b"caf\xe9.txt", b"-dash", b"\xff\xfe"]
    for name in odd:
        Path(os.fsdecode(os.fsencode(tree) + b"/" + name)).write_text("odd")
    git(tree, "add", "-A")
    assert {os.fsdecode(name) for name in odd} <= snapshot(tree).files.keys()
    assert snapshot(tree).files == snapshot(tree).files, "also from the cache"


def test_a_symbolic_link_is_what_it_points_to_not_what_is_there(tree: Path) -> None:
    (tree / "link").symlink_to("a.txt")
    before = snapshot(tree).files["link"]
    (tree / "a.txt").write_text("other")
    assert snapshot(tree).files["link"] == before
    (tree / "link").unlink()
    (tree / "link").symlink_to("b.txt")
    assert snapshot(tree).files["link"] != before


def test_a_dangling_link_and_a_pipe_do_not_stop_it(tree: Path) -> None:
    (tree / "dangling").symlink_to("nowhere")
    os.mkfifo(tree / "pipe")
    assert "dangling" in snapshot(tree).files


def test_a_file_that_became_a_pipe_is_not_read(tree: Path) -> None:
    (tree / "a.txt").unlink()
    os.mkfifo(tree / "a.txt")
    assert "a.txt" not in snapshot(tree).files


def test_a_nested_repository_is_one_entry(tree: Path) -> None:
    make_tree(tree / "nested")
    assert snapshot(tree).files["nested/"] == "040000:"


def test_unchanged_files_are_not_read_again(tree: Path) -> None:
    """The cache is believed: a hash planted in it comes back."""
    cache = tree / ".slipway" / "stat.json"

    def cached() -> bool:
        snapshot(tree)
        return cache.exists() and "a.txt" in json.loads(cache.read_text())

    until(cached)
    content = json.loads(cache.read_text())
    content["a.txt"][-1] = "100644:planted"
    cache.write_text(json.dumps(content))
    assert snapshot(tree).files["a.txt"] == "100644:planted"


@pytest.mark.parametrize(
    "damage", ["", "[]", "{", '{"a.txt": []}', '{"a.txt": 7}', '{"a.txt": ["x"]}', "\xff"]
)
def test_a_damaged_cache_costs_time_only(tree: Path, damage: str) -> None:
    before = snapshot(tree).files
    (tree / ".slipway").mkdir(exist_ok=True)
    (tree / ".slipway" / "stat.json").write_bytes(damage.encode("latin-1"))
    assert snapshot(tree).files == before


def test_a_cache_that_cannot_be_written_costs_time_only(tree: Path) -> None:
    (tree / ".slipway" / "stat.json").mkdir(parents=True)
    before = snapshot(tree).files
    (tree / "a.txt").write_text("changed")
    after = snapshot(tree).files
    assert {name for name in after if after[name] != before[name]} == {"a.txt"}


def test_a_folder_outside_git_is_refused_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        snapshot(tmp_path)
    assert refused.value.exit_code == 2
    assert "not in a git repository" in str(refused.value)
    assert "git init" in refused.value.next_step


def test_a_broken_repository_says_what_git_says(tree: Path) -> None:
    (tree / ".git" / "index").write_bytes(b"no index")
    with pytest.raises(UsageError, match="git says"):
        snapshot(tree)


def test_git_missing_is_a_tool_that_is_not_reachable(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scripts.pipeline.errors import UnreachableError

    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UnreachableError) as missing:
        snapshot(tree)
    assert missing.value.exit_code == 4


ORACLE = [
    (["*.py"], ["a.py", "app/web/api.py", "a.pyi", "py"]),
    (["app/"], ["app/web/api.py", "app/x", "web/app/x", "apple"]),
    (["/app"], ["app/x", "web/app/x"]),
    (["app/*"], ["app/x", "app/web/x", "web/app/x"]),
    (["app/**"], ["app/x", "app/web/x", "web/app/x"]),
    (["**/web"], ["web/x", "app/web/x", "app/webs/x"]),
    (["docker/*Dockerfile"], ["docker/Dockerfile", "docker/services.Dockerfile", "docker/x/Dockerfile"]),
    ([".github/**"], [".github/workflows/ci.yml", "x/.github/y"]),
    (["a?.txt"], ["ab.txt", "a.txt", "a/.txt"]),
    (["*.txt", "!keep.txt"], ["x.txt", "keep.txt", "in/keep.txt"]),
    (["a+b(c).txt"], ["a+b(c).txt", "aab(c).txt"]),
    (["name with space"], ["name with space", "in/name with space"]),
]


@pytest.mark.parametrize(("patterns", "names"), ORACLE, ids=" ".join)
def test_patterns_mean_what_they_mean_to_git(tmp_path: Path, patterns: list[str], names: list[str]) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("\n".join(patterns) + "\n")
    asked = subprocess.run(
        ["git", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=tmp_path,
        input="\0".join(names),
        capture_output=True,
        text=True,
        check=False,
    )
    said = {name for name in asked.stdout.split("\0") if name}
    assert {name for name in names if matches(name, patterns)} == said


def test_no_pattern_holds_nothing() -> None:
    assert not matches("a", [])


def seen_by(**more: object) -> Fingerprint:
    tree = Tree(root=Path(), files={"a.py": "1", "b.md": "2"}, commit=None, dirty=False)
    made = check("lint", **{"tools": lambda: {"ruff": "1"}, "parameters": {"level": "high"}, **more})
    return fingerprint(made, tree, {"build": {"digest": "sha256:1"}}, {"CI": "true"})


def test_the_key_depends_on_every_part() -> None:
    keys = {
        seen_by().key,
        seen_by(inputs=("*.py",)).key,
        seen_by(tools=lambda: {"ruff": "2"}).key,
        seen_by(parameters={"level": "low"}).key,
        seen_by(environment=("CI",)).key,
        seen_by(environment=("OTHER",)).key,
        seen_by(needs=("build",)).key,
    }
    assert len(keys) == 7


def test_the_key_does_not_depend_on_order() -> None:
    one = Fingerprint(files={"a": "1", "b": "2"}, facts={"x": "1", "y": "2"})
    other = Fingerprint(files={"b": "2", "a": "1"}, facts={"y": "2", "x": "1"})
    assert one.key == other.key


def test_a_variables_value_is_not_kept() -> None:
    made = check("lint", environment=("TOKEN",))
    tree = Tree(root=Path(), files={}, commit=None, dirty=False)
    found = fingerprint(made, tree, {}, {"TOKEN": "s3cret-value"})
    assert "s3cret-value" not in json.dumps(dict(found.facts))


def test_an_effect_depends_on_no_file_unless_it_names_some() -> None:
    tree = Tree(root=Path(), files={"a.py": "1"}, commit=None, dirty=False)
    assert not fingerprint(effect("push"), tree, {}, {}).files
    assert fingerprint(effect("push", inputs=("*.py",)), tree, {}, {}).files


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"files": {"a": "1"}}, {"files": {"a": "2"}}, ["a changed since run X"]),
        ({"files": {}}, {"files": {"a": "2"}}, ["a is new since run X"]),
        ({"files": {"a": "1"}}, {"files": {}}, ["a is gone since run X"]),
        (
            {"files": {"a": "1", "b": "1", "c": "1"}},
            {"files": {"a": "2", "b": "2", "d": "1"}},
            ["a changed since run X (+3 more)"],
        ),
        ({"facts": {"tool ruff": "0.1"}}, {"facts": {"tool ruff": "0.2"}}, ["ruff 0.1 -> 0.2"]),
        ({"facts": {}}, {"facts": {"tool ruff": "0.2"}}, ["ruff none -> 0.2"]),
        (
            {"facts": {"parameter level": "low"}},
            {"facts": {"parameter level": "high"}},
            ["level: low -> high"],
        ),
        (
            {"facts": {"variable CI": "h1"}},
            {"facts": {"variable CI": "h2"}},
            ["the environment variable CI changed"],
        ),
        (
            {"facts": {"output build digest": "1"}},
            {"facts": {"output build digest": "2"}},
            ["build gave another digest"],
        ),
        ({"files": {"a": "1"}}, {"files": {"a": "1"}}, []),
    ],
)
def test_a_difference_is_said_in_words(old: dict, new: dict, said: list[str]) -> None:
    before, after = Fingerprint(**{"files": {}, **old}), Fingerprint(**{"files": {}, **new})
    assert differences(before, after, "run X") == said


def test_a_long_value_is_shortened() -> None:
    old = Fingerprint(files={}, facts={"parameter words": "x" * 100})
    new = Fingerprint(files={}, facts={"parameter words": "y" * 100})
    (said,) = differences(old, new, "run X")
    assert len(said) < 100


def test_a_name_cannot_move_the_cursor() -> None:
    shown = printable("evil\x1b[2J\n.py" + os.fsdecode(b"\xff"))
    assert shown.isprintable()
    assert shown.startswith("evil")
