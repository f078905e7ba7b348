"""Holes cut from folders: from which files, of which shape, and the same every time."""

import subprocess
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from bigcode_cli.bench.infill_repo import (
    KINDS,
    MAX_HOLE,
    Kind,
    draw_tasks,
    parse_kinds,
)
from bigcode_cli.bench.repeats import repeats
from bigcode_cli.errors import InputError, UsageError

SOURCE = "\ufeff" + "".join(
    f"def function_{n}(first, second):\r\n"
    f"    # été {n}\r\n"
    f"    total = first + second * {n}\r\n\r\n"
    f"    return total\r\n\r\n\r\n"
    for n in range(30)
)


def git(folder: Path, *args: str) -> None:
    subprocess.run(["git", "-C", str(folder), *args], check=True, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of many kinds; three of them are text of a sensible size."""
    files = {
        "a.py": SOURCE.encode(),
        "src/b.py": SOURCE.replace("function", "method").encode(),
        "src/c.txt": b"one word\nand another line\n" * 9,
        "data.json": b'{"a": 1}\n' * 40,
        "binary.py": b"a = 1\n\0\n" * 40,
        "latin.py": "été = 1\n".encode("latin-1") * 40,
        "minified.js": b"a=1;" * 2000,
        "large.py": b"a = 1\n" * 80_000,
        "empty.py": b"",
        "signs.py": b"(\n)\n\n---\n",
        ".hidden/d.py": b"a = 1\n" * 40,
        "__pycache__/e.py": b"a = 1\n" * 40,
    }
    for name, data in files.items():
        path = tmp_path / "repo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "repo" / "link.py").symlink_to("a.py")
    return tmp_path / "repo"


USABLE = {"a.py", "src/b.py", "src/c.txt"}


def model_text(name: str) -> str:
    text = SOURCE.replace("function", "method") if name == "src/b.py" else SOURCE
    if name == "src/c.txt":
        text = "one word\nand another line\n" * 9
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def test_data_and_what_git_ignores_are_no_source(folder: Path) -> None:
    git(folder, "init", "-q")
    (folder / ".gitignore").write_text("src/c.txt\n__pycache__\n.gitignore\n")
    drawn = {task.path for task in draw_tasks([folder], count=60, seed=0)}
    assert drawn == {"a.py", "src/b.py", ".hidden/d.py"}


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_hole_and_its_middle_are_the_file(folder: Path, kind: Kind) -> None:
    tasks = draw_tasks([folder], count=60, seed=1, kinds=[kind])
    assert len(tasks) == 60
    assert {task.path for task in tasks} <= USABLE
    for task in tasks:
        assert task.path is not None
        assert task.prefix + task.middle + task.suffix == model_text(task.path)
        assert task.group == kind
        assert any(character.isalnum() for character in task.middle)
    assert len({(task.path, len(task.prefix), task.middle) for task in tasks}) == 60


def test_each_kind_has_its_shape(folder: Path) -> None:
    tasks = draw_tasks([folder], count=240, seed=2)
    assert Counter(task.group for task in tasks) == dict.fromkeys(KINDS, 60)
    for task in tasks:
        before = task.prefix.rpartition("\n")[2]
        after = task.suffix.partition("\n")[0]
        lines = task.middle.split("\n")
        match task.group:
            case "line":
                assert (before, after, len(lines)) == ("", "", 1)
            case "block":
                assert (before, after) == ("", "")
                assert 2 <= len(lines) <= 8
                assert len(task.middle) <= MAX_HOLE
                assert lines[0].strip()
                assert lines[-1].strip()
            case "rest":
                assert before.strip()
                assert (after, len(lines)) == ("", 1)
            case "span":
                assert before.strip()
                assert after.strip()
                assert len(lines) == 1
                assert task.middle == task.middle.strip()
            case other:
                raise AssertionError(other)
    assert len({task.middle.count("\n") for task in tasks}) == 8


def test_the_seed_says_which(folder: Path) -> None:
    first = draw_tasks([folder], count=20, seed=3)
    assert draw_tasks([folder], count=20, seed=3) == first
    assert draw_tasks([folder], count=20, seed=4) != first
    assert draw_tasks([folder], count=10, seed=3) == first[:10]


def test_folders_and_kinds_take_turns(folder: Path) -> None:
    tasks = draw_tasks([folder / "src", folder], count=40, seed=0, kinds=["line", "rest"])
    from_src = [task.id.startswith("src/") and task.path == "b.py" for task in tasks]
    by_folder = Counter(task.id.split("/")[0] for task in tasks)
    assert any(from_src)
    assert set(by_folder) == {"src", "repo"}
    assert Counter(task.group for task in tasks) == {"line": 20, "rest": 20}


def test_a_pattern_chooses_files(folder: Path) -> None:
    tasks = draw_tasks([folder], count=30, seed=0, glob="src/*.py")
    assert {task.path for task in tasks} == {"src/b.py"}
    with pytest.raises(InputError, match=r"no text files in .* match \*\.rs"):
        draw_tasks([folder], count=30, seed=0, glob="*.rs")


def test_an_id_says_where_the_hole_is(folder: Path) -> None:
    for task in draw_tasks([folder], count=20, seed=5, glob="a.py"):
        place, _, size = task.id.partition("+")
        name, line, column = place.split(":")
        assert name == "repo/a.py"
        assert int(size) == len(task.middle)
        assert task.prefix.count("\n") == int(line) - 1
        assert len(task.prefix.rpartition("\n")[2]) == int(column) - 1


def test_few_lines_give_few_holes(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one\ntwo\n")
    tasks = draw_tasks([tmp_path], count=50, seed=0, kinds=["line"])
    assert sorted(task.middle for task in tasks) == ["one", "two"]


def test_nothing_to_cut_from_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        draw_tasks([tmp_path / "nothing"], count=1, seed=0)
    with pytest.raises(InputError, match="no text files in"):
        draw_tasks([tmp_path], count=1, seed=0)
    (tmp_path / "a.py").write_text("(\n")
    with pytest.raises(InputError, match="no place for a hole"):
        draw_tasks([tmp_path], count=1, seed=0)


def test_kinds_are_a_list() -> None:
    assert parse_kinds(None) == KINDS == ("line", "block", "rest", "span")
    assert parse_kinds("edit,line") == ("edit", "line")
    assert parse_kinds("block, line,block") == ("block", "line")
    with pytest.raises(UsageError, match="no such kind of hole: 'word'"):
        parse_kinds("line,word")


def test_an_edit_is_whole_lines_much_like_others_near_them(folder: Path) -> None:
    tasks = draw_tasks([folder], count=50, seed=4, kinds=["edit"])
    assert tasks == draw_tasks([folder], count=50, seed=4, kinds=["edit"])
    for task in tasks:
        lines = task.middle.split("\n")
        assert task.prefix == "" or task.prefix.endswith("\n")
        assert task.suffix == "" or task.suffix.startswith("\n")
        assert 3 <= len(lines) <= 15
        assert len(task.middle) <= MAX_HOLE
        assert lines[0].strip()
        assert lines[-1].strip()
        assert repeats(task.prefix, task.middle, task.suffix)


def test_without_repetition_there_is_no_edit(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("".join(f"a{n} = b{n} + c{n}\n" for n in range(40)))
    with pytest.raises(InputError, match="no place for a hole"):
        draw_tasks([tmp_path], count=5, seed=0, kinds=["edit"])
