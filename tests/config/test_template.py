"""What is generated from the classes is what is in the files."""

import re
from pathlib import Path

import pytest

from config.environments import Production
from config.kinds import Integer
from config.settings import GROUPS
from config.sources import PROJECT
from config.template import entry, env_template, markdown, necessity, needs, variables_table
from config.variables import Variable, variables_of
from scripts.configuration import generated, template
from scripts.pipeline.errors import UsageError
from tests.config.world import World

VARIABLES = variables_of(GROUPS["all"])
GUIDE = (PROJECT / "docs" / "configuration_guide.md").read_text(encoding="utf-8")


def test_the_generated_files_are_up_to_date() -> None:
    for path, text in generated(PROJECT).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `invoke config.template`"


def test_the_template_as_it_is_sets_nothing_and_starts(world: World) -> None:
    world.shared("development", env_template())
    assert world.found("development") == set()


def test_the_template_with_every_line_uncommented_is_understood(world: World) -> None:
    """Every default and example in it is a value of its kind; what is not on this machine is no fault."""
    text = re.sub(r"^#(?=[A-Z_]+=)", "", env_template(), flags=re.MULTILINE)
    assert set(re.findall(r"^([A-Z_]+)=", text, re.MULTILINE)) == {"ENVIRONMENT", *VARIABLES}
    text = re.sub(r"^(STACK_NAME|PUBLIC_URL)=.*<.*$", "", text, flags=re.MULTILINE)
    found = world.yours(text).found("development")
    assert {id_ for _, id_, _ in found} <= {"missing", "registry", "ledger-token", "root-certificate"}


@pytest.mark.parametrize("name", VARIABLES)
def test_every_variable_is_in_the_template_and_in_the_guide(name: str) -> None:
    assert env_template().count(f"\n#{name}=") == 1
    assert variables_table().count(f"\n| `{name}` |") == 1
    assert VARIABLES[name].meaning in env_template().replace("\n#   ", " ")


def test_every_problem_that_can_be_found_is_explained_in_the_guide() -> None:
    ids = set()
    for path in (PROJECT / "config").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        ids |= set(re.findall(r'(?:trouble|values\.problem)\(\s*"([a-z-]+)"', text))
    assert len(ids) > 25
    table = GUIDE.partition("### Ids")[2].partition("## ")[0]
    assert set(re.findall(r"`([a-z-]+)`", table)) == ids


def test_the_default_says_what_differs_where() -> None:
    assert necessity(VARIABLES["DB_ADAPTER_ORDER"]) == "sqlite; direct in staging and production"
    assert necessity(VARIABLES["LOG_LEVEL"]) == "INFO; WARNING in testing"
    assert necessity(VARIABLES["SECRET_KEY"]) == "made up for each start; required in staging and production"
    assert necessity(VARIABLES["LEDGER_TOKEN"]) == "none; required in staging and production"
    assert necessity(VARIABLES["DB_HOST"]) == "none"
    assert necessity(VARIABLES["DB_PORT"]) == "5432"


def test_an_entry_of_the_template() -> None:
    port = Variable(
        name="A_PORT",
        attribute="port",
        group="a",
        meaning="Port of A",
        kind=Integer(minimum=1, maximum=9),
        default=5,
        example="7",
        rotates=False,
    )
    assert entry(port) == "\n# Port of A: a whole number from 1 to 9. Default: 5. Example: 7.\n#A_PORT=5\n"
    assert not needs(Production, port)


def test_an_entry_without_a_default_shows_its_example() -> None:
    assert entry(VARIABLES["DB_HOST"]).endswith("\n#DB_HOST=db.internal\n")
    assert entry(VARIABLES["DB_PASSWORD"]).endswith("\n#DB_PASSWORD=\n")


def test_cells_of_a_table_are_escaped() -> None:
    lines = list(markdown(("a", "b"), [("x|y", "<z>")]))
    assert lines == ["| a | b |", "|---|---|", "| x\\|y | &lt;z> |"]


def test_generating_twice_changes_nothing_the_second_time(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "configuration_guide.md").write_text(GUIDE, encoding="utf-8")
    first = template(tmp_path)
    assert first.text == "written: config/.env.template"
    assert template(tmp_path).text == "nothing to change"
    guide = tmp_path / "docs" / "configuration_guide.md"
    guide.write_text(GUIDE.replace("`DB_PORT`", "`DB_PROT`"), encoding="utf-8")
    assert template(tmp_path).text == "written: docs/configuration_guide.md"
    assert guide.read_text(encoding="utf-8") == GUIDE


def test_a_guide_without_its_marks_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    guide = tmp_path / "docs" / "configuration_guide.md"
    guide.write_text("# Guide\n<!-- variables -->\n", encoding="utf-8")
    with pytest.raises(UsageError, match="marks <!-- variables --> and <!-- /variables --> are missing"):
        template(tmp_path)
    assert guide.read_text(encoding="utf-8") == "# Guide\n<!-- variables -->\n"
