"""``bigcode score --diff``."""

import subprocess
from pathlib import Path

import pytest

from bigcode_cli.engine.session import Session
from tests.cli.infilling import parsed, refusal
from tests.cli.running import Program
from tests.cli.scores import Score, content, objects, rows, scored

OLD = "a = 1\nb = 2\nc = 3\n"
NEW = "a = 1\nnew = 5\nb = 2\nc = 3\nlast = 6\n"


def git(*words: str) -> None:
    identity = ("-c", "user.name=N", "-c", "user.email=e")
    subprocess.run(["git", *identity, *words], check=True, capture_output=True)


@pytest.fixture(autouse=True)
def repository(_alone: None) -> None:
    """A repository in which one of two files changed."""
    Path("a.py").write_text(OLD)
    Path("b.py").write_text(OLD)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    Path("a.py").write_text(NEW)


def test_only_added_lines_count(score: Score, session: Session, model_folder: Path) -> None:
    wanted = scored(session, NEW, lines=frozenset({2, 5}))
    done = parsed(score("a.py", "--diff", "HEAD", "--json").stdout)
    assert done == {"path": "a.py", **content(wanted, model_folder)}
    assert 0 < done["scored_tokens"] < done["tokens"]


def test_lines_and_tokens_are_those_added(score: Score) -> None:
    by_line = rows(score("a.py", "--diff", "HEAD", "--by", "line"))
    assert [(row[2], row[3]) for row in by_line] == [
        ("a.py:2", '"new = 5"'),
        ("a.py:5", '"last = 6"'),
    ]
    by_token = rows(score("a.py", "--diff", "HEAD", "--by", "token"))
    assert {row[3].split(":")[1] for row in by_token} == {"2", "5"}


def test_without_files_all_that_changed_is_scored(score: Score) -> None:
    result = score("--diff", "HEAD", stdin=None)
    assert (result.code, result.stderr) == (0, "")
    assert [row[2] for row in rows(result)] == ["a.py"]
    Path("b.py").write_text(OLD + "d = 4\n")
    assert [one.get("path") for one in objects(score("--diff", "HEAD", "--json"))] == [
        "a.py", "b.py", None
    ]  # fmt: skip
    assert [row[2] for row in rows(score("--diff", "HEAD", "--glob", "b*"))] == ["b.py"]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_nothing_added_is_a_note(program: Program, form: list[str]) -> None:
    git("commit", "-qam", "second")
    result = program("score", "-m", "no/such/model", "--diff", "HEAD", *form)
    assert (result.code, result.stdout) == (0, b"")
    assert result.stderr == "note: no lines were added since HEAD\n"
    assert program("score", "-m", "no/model", "--diff", "HEAD", "--quiet").stderr == ""


def test_an_unknown_revision_is_refused(score: Score) -> None:
    assert "nowhere" in refusal(score("--diff", "nowhere"))


def test_texts_without_a_history_are_refused(score: Score) -> None:
    assert "--diff" in refusal(score("-", "--diff", "HEAD", stdin=b"x"))
    Path("r").write_text('{"text": "x"}\n')
    assert refusal(score("--jsonl", "r", "--diff", "HEAD")).startswith("--diff")


def test_some_lines_are_not_compared_with_all(score: Score) -> None:
    assert refusal(score("--diff", "HEAD", "--baseline", "base")).startswith("--diff scores some")
