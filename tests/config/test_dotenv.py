"""python-decouple reads env files; what it reads wrongly is mended or reported with its line."""

import time
from pathlib import Path

import pytest
from decouple import RepositoryEnv
from hypothesis import given
from hypothesis import strategies as st

from config.dotenv import LARGEST, Assignment, EnvFile, Fault, parse, text_of


def read(tmp_path: Path, text: str) -> EnvFile:
    """Read an env file with this text."""
    path = tmp_path / ".env"
    path.write_bytes(text.encode())
    return EnvFile(path)


def faults(file: EnvFile) -> list[tuple[int, str]]:
    """Return line and rule of each fault."""
    return [(fault.line, fault.rule) for fault in file.faults]


def test_plain_lines_are_what_decouple_reads(tmp_path: Path) -> None:
    text = "A=1\n# comment\n\n  B = two words \nC=a=b\nD=\nE=#fff\n"
    ours, theirs = read(tmp_path, text), RepositoryEnv(tmp_path / ".env")
    assert ours.data == theirs.data == {"A": "1", "B": "two words", "C": "a=b", "D": "", "E": "#fff"}
    assert ours.lines == {"A": 1, "B": 4, "C": 5, "D": 6, "E": 7}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=5 # five", "5"),
        ("A=5\t# five", "5"),
        ("A= # nothing", ""),
        ("A=a#b", "a#b"),
        ("A='a # b' # c", "a # b"),
        ("export A=5", "5"),
        ("  export   A=5", "5"),
        ("export A='x'", "x"),
        ("A='single'", "single"),
        ("A='x' # it's", "x"),
        ('A="x" # say "y"', "x"),
        ('A="one\\\ntwo"', "one\\\ntwo"),
        ('A="double"', "double"),
        ("A=''", ""),
        ("A='' # it's", ""),
        ("A = 'spaced' ", "spaced"),
        ("A='it\"s'", 'it"s'),
        ('A="say \\"hi\\""', 'say "hi"'),
        ('A="one\\ntwo\\tthree\\\\"', "one\ntwo\tthree\\"),
        ("A='one\\ntwo'", "one\\ntwo"),
        ("A='one\ntwo'", "one\ntwo"),
        ('A="one\nB=2\nthree"', "one\nB=2\nthree"),
        ("A=$HOME/${x}", "$HOME/${x}"),
        ("A=it's", "it's"),
    ],
)
def test_the_value_of_a_line(tmp_path: Path, line: str, value: str) -> None:
    file = read(tmp_path, f"{line}\n")
    assert file.data == {"A": value}
    assert file.faults == []


def test_decouple_alone_reads_these_wrongly(tmp_path: Path) -> None:
    """Why the layer above it exists: when one of these turns right upstream, it can go."""
    read(tmp_path, 'A=5 # five\nexport B=1\nC="one\ntwo"\nD=1\nD=2\nE 5\n')
    theirs = RepositoryEnv(tmp_path / ".env").data
    assert theirs["A"] == "5 # five"
    assert "B" not in theirs
    assert theirs["C"] == '"one'
    assert theirs["D"] == "2"
    assert "E" not in theirs


def test_a_duplicate_names_both_lines_and_the_first_is_kept(tmp_path: Path) -> None:
    file = read(tmp_path, "A=1\nB=2\nA=3\n")
    assert faults(file) == [(3, "a name is set once; line 1 sets the same one")]
    assert file.faults[0].fix == "Delete one of the two lines"
    assert file.lines["A"] == 1


@pytest.mark.parametrize("line", ["NAME value", "=value", "1A=2", "A-B=1", "?", "export", "two words=1"])
def test_a_line_that_is_none_is_reported(tmp_path: Path, line: str) -> None:
    file = read(tmp_path, f"\n{line}\nB=1\n")
    assert faults(file) == [(2, "a line is NAME=value, a comment or blank")]
    assert file.data == {"B": "1"}


@pytest.mark.parametrize("quote", ["'", '"'])
def test_an_open_quote_is_reported_where_it_opens_and_the_rest_is_read(tmp_path: Path, quote: str) -> None:
    file = read(tmp_path, f"A={quote}open\nB=1\n")
    assert faults(file) == [(1, "a quote that is opened is closed")]
    assert file.faults[0].fix == f"Add the missing {quote}"
    assert file.data == {"B": "1"}


def test_an_escaped_quote_does_not_close(tmp_path: Path) -> None:
    assert faults(read(tmp_path, 'A="open\\"\n')) == [(1, "a quote that is opened is closed")]


@pytest.mark.parametrize("line", ["A='x'y", 'A="x" y', "A='x'#y"])
def test_text_behind_a_closing_quote_is_reported(tmp_path: Path, line: str) -> None:
    file = read(tmp_path, f"{line}\nB=1\n")
    assert faults(file) == [(1, "nothing but a comment follows a closing quote")]
    assert file.faults[0].fix == "Quote the whole value, or put a blank before the #"
    assert file.data == {"B": "1"}


def test_what_decouple_reads_rightly_is_known() -> None:
    found = list(parse("A=1\nB = 2 \nC=3 # x\nexport D=4\nE='5'\n"))
    assert [isinstance(each, Assignment) and each.plain for each in found] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_file_may_be_as_large_as_it_may_be(tmp_path: Path) -> None:
    assert read(tmp_path, "A=" + "x" * (LARGEST - 2)).lines == {"A": 1}


def test_lines_are_counted_across_a_value_of_several(tmp_path: Path) -> None:
    file = read(tmp_path, "A='1\n2\n3'\nB=4\n")
    assert file.lines == {"A": 1, "B": 4}


def test_a_quote_that_never_closes_spoils_its_own_line_only(tmp_path: Path) -> None:
    file = read(tmp_path, "A='1\nB=2\nC=\"3\nD=4 # x\n")
    assert [(fault.line, fault.fix) for fault in file.faults] == [
        (1, "Add the missing '"),
        (3, 'Add the missing "'),
    ]
    assert file.data == {"B": "2", "D": "4"}


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_line_endings_of_every_system_are_read(tmp_path: Path, ending: str) -> None:
    assert read(tmp_path, f"A=1 # x\r\nB=2{ending}").data == {"A": "1", "B": "2"}


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffA=1\n").data == {"A": "1"}


@pytest.mark.parametrize(
    "line",
    [
        "ENVIRONMENT production",
        " export ENVIRONMENT='production",
        "ENVIRONMENT",
        "ENVIRONMENT='a'b",
        "ENVIRONMENT: x",
    ],
)
def test_a_fault_knows_the_name_that_it_would_have_set(line: str) -> None:
    assert [each.name for each in parse(line)] == ["ENVIRONMENT"]


def test_nul_is_not_text(tmp_path: Path) -> None:
    """A file in UTF-16 without a mark has one in each letter; an env file cannot hold one anyway."""
    for text in ("A=b\0c\n", "A=1\n".encode("utf-16-le").decode()):
        with pytest.raises(ValueError, match="an env file is text without NUL"):
            read(tmp_path, text)
    assert text_of(tmp_path / ".env", errors="replace") == "A\0=\0001\0\n\0"


@pytest.mark.parametrize(
    "line", ["A=x{}x", "A={}x # y", "A='x'{}# y", "A{}=x", "{}A=x", "export{}A", "A=x{}"]
)
def test_blanks_take_no_more_time_than_other_letters(line: str) -> None:
    """A pattern that tried each of them as the beginning of a comment took 12 s."""
    started = time.process_time()
    list(parse(line.format(" " * 60_000)))
    assert time.process_time() - started < 1


def test_the_process_environment_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONLY_IN_THE_PROCESS", "1")
    file = read(tmp_path, "A=1\n")
    assert "ONLY_IN_THE_PROCESS" not in file
    assert "A" in file
    assert "ONLY_IN_THE_PROCESS" in RepositoryEnv(tmp_path / ".env")


@given(st.text())
def test_any_text_is_read_without_a_crash_and_every_line_is_in_it(text: str) -> None:
    for found in parse(text):
        assert 1 <= found.line <= text.count("\n") + 1


@given(st.text(st.characters(exclude_characters="'", codec="utf-8"), max_size=60))
def test_what_is_quoted_singly_is_read_back_exactly(value: str) -> None:
    assert list(parse(f"A='{value}'")) == [Assignment("A", value, 1, plain=False)]


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_what_is_quoted_doubly_with_its_escapes_is_read_back_exactly(value: str) -> None:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    assert list(parse(f'A="{escaped}"')) == [Assignment("A", value, 1, plain=False)]


def test_a_fault_and_an_assignment_do_not_show_the_value() -> None:
    shown = repr(list(parse("A='s3ntinel'\nSECRET_KEY s3ntinel\nB='s3ntinel\n")))
    assert "s3ntinel" not in shown
    assert shown.count(Fault.__name__) == 2
