"""Only what git knows enters the image, in one form, from wherever it is built."""

import subprocess
from pathlib import Path

import pytest

from scripts.image import context


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@t", *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository whose path holds a space."""
    root = tmp_path / "a tree"
    for name, content in {
        "app/__init__.py": "",
        "app/web/page.html": "<p>",
        "config/.env.staging": "A=1\n",
        "setup.cfg": "[metadata]\n",
        "docs/guide.md": "words\n",
        ".gitignore": "*.log\n.env\n__pycache__/\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


def names(root: Path) -> list[str]:
    return [str(path) for path in context.files(root)]


def test_the_build_sees_app_config_and_recipe_alone(root: Path) -> None:
    assert names(root) == ["app/__init__.py", "app/web/page.html", "config/.env.staging", "setup.cfg"]


def test_ignored_files_and_secrets_never_enter_however_they_got_there(root: Path) -> None:
    before = names(root)
    (root / "app/debug.log").write_text("junk")
    (root / "app/__pycache__").mkdir()
    (root / "app/__pycache__/x.pyc").write_bytes(b"junk")
    (root / "config/.env").write_text("SECRET_KEY=hunter2")
    git(root, "add", "--force", "config/.env")
    (root / "app/link").symlink_to("/etc/passwd")
    assert names(root) == before


def test_a_new_file_that_git_would_track_enters(root: Path) -> None:
    (root / "app/new.py").write_text("")
    assert "app/new.py" in names(root)


def test_a_deleted_file_is_left_out(root: Path) -> None:
    (root / "app/web/page.html").unlink()
    assert "app/web/page.html" not in names(root)


def test_a_copy_has_one_form_whatever_the_umask(root: Path, tmp_path: Path) -> None:
    (root / "app/__init__.py").chmod(0o600)
    (root / "setup.cfg").chmod(0o777)
    copy = tmp_path / "copy"
    copy.mkdir()
    assert context.lay_out(root, copy) == 4
    assert (copy / "app/web/page.html").read_text() == "<p>"
    assert {path.stat().st_mode & 0o777 for path in copy.rglob("*") if path.is_file()} == {0o644}
    assert {path.stat().st_mode & 0o777 for path in copy.rglob("*") if path.is_dir()} == {0o755}


def test_a_tree_without_git_gives_the_same_files_less_what_never_enters(root: Path, tmp_path: Path) -> None:
    before = names(root)
    (root / "config/.env").write_text("SECRET_KEY=hunter2")
    (root / ".git").rename(tmp_path / "gone")
    assert names(root) == before
    assert context.revision(root) == "unknown"


def test_the_revision_is_the_last_commit_that_changed_what_enters(root: Path) -> None:
    first = git(root, "rev-parse", "HEAD")
    assert context.revision(root) == first
    (root / "docs/guide.md").write_text("more words\n")
    git(root, "commit", "-qam", "second")
    assert context.revision(root) == first
    (root / "app/__init__.py").write_text("a = 1\n")
    assert context.revision(root) == f"{first}-dirty"
    git(root, "commit", "-qam", "third")
    assert context.revision(root) == git(root, "rev-parse", "HEAD") != first
