"""Files of tasks in HumanEval-Infilling's format."""

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.bench.infill_tasks import InfillTask, digest, read_tasks, spaced
from bigcode_cli.errors import InputError

LINES = [
    {
        "task_id": "Own/0/L1",
        "entry_point": "double",
        "prompt": "def double(x):\n",
        "suffix": "    return y\n",
        "canonical_solution": "    y = 2 * x\n",
        "test": "\n\ndef check(candidate):\n    assert candidate(2) == 4\n",
    },
    {"task_id": "Own/1", "prompt": "a = ", "suffix": "\n", "canonical_solution": "'é🙂'"},
]


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def test_a_line_is_a_task(tmp_path: Path) -> None:
    first, second = read_tasks(write(tmp_path / "Own.jsonl", *LINES))
    assert (first.id, first.group, first.entry_point) == ("Own/0/L1", "Own", "double")
    assert (first.prefix, first.suffix) == ("def double(x):\n", "    return y\n")
    assert first.middle == "    y = 2 * x\n"
    assert second == InfillTask(id="Own/1", group="Own", prefix="a = ", suffix="\n", middle="'é🙂'")


@pytest.mark.parametrize("name", ["Own.jsonl.gz", "Own.jsonl"])
def test_gzip_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    plain = write(tmp_path / "Own.jsonl", *LINES)
    data = gzip.compress(plain.read_bytes())
    (tmp_path / name).write_bytes(data)
    expected = tmp_path / "other" / "Own.jsonl"
    expected.parent.mkdir()
    assert read_tasks(tmp_path / name) == read_tasks(write(expected, *LINES))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has no tasks"),
        (b"\n\n", "has no tasks"),
        (b"{\n", "tasks.jsonl:1: not JSON"),
        (b"[1]\n", "tasks.jsonl:1: not a JSON object"),
        (b'\n{"task_id": "a", "prompt": "b"}\n', 'tasks.jsonl:2: no text "suffix"'),
        (b'{"task_id": 1, "prompt": "b"}\n', 'tasks.jsonl:1: no text "task_id"'),
        (b'{"task_id": "\\ud800"}\n', 'tasks.jsonl:1: "task_id" holds a lone surrogate'),
        (b"\xff\n", "is not utf-8"),
        (gzip.compress(b"x" * 500, mtime=0)[:-9], "is broken gzip"),
        (b"\x1f\x8b\x08\x00 nothing of the kind", "broken gzip"),
        (b"\x1f\x8bnothing of the kind", "tasks.jsonl"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_tasks(path)
    assert message in caught.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.jsonl: No such file"):
        read_tasks(tmp_path / "nothing.jsonl")


@given(st.integers(1, 300), st.integers(1, 300))
def test_spaced_items_are_in_order_and_even(total: int, count: int) -> None:
    some = spaced(range(total), count)
    assert len(some) == min(count, total)
    assert some[0] == 0
    steps = {after - before for before, after in pairwise(some)}
    assert max(steps, default=1) - min(steps, default=1) <= 1
    assert min(steps, default=1) >= 1


def test_the_program_is_the_filled_text_and_its_test() -> None:
    task = InfillTask(
        prefix="def f():\n",
        suffix="    return a\n",
        middle="    a = 1\n",
        entry_point="f",
        test="def check(candidate):\n    assert candidate() == 1\n",
    )
    expected = (
        "def f():\n    a = 1\n    return a\n\n"
        "def check(candidate):\n    assert candidate() == 1\n\ncheck(f)\n"
    )
    assert task.program("    a = 1\n") == task.program("    a = 1") == expected
    inside = InfillTask(
        prefix="x = ", suffix=" + 1\n", middle="y", entry_point="x", test="check = id\n"
    )
    program = inside.program("z")
    assert program is not None
    assert program.startswith("x = z + 1\n")


def test_there_is_no_program_without_a_test() -> None:
    assert InfillTask(prefix="", suffix="", middle="", test="check = id").program("") is None
    assert InfillTask(prefix="", suffix="", middle="", entry_point="f").program("") is None


def test_digest_tells_tasks_apart() -> None:
    def one(prefix: str, middle: str) -> InfillTask:
        return InfillTask(prefix=prefix, suffix="", middle=middle)

    tasks = [[one("a", "b")], [one("ab", "")], [one("a", "b")] * 2, []]
    assert len({digest(some) for some in tasks}) == len(tasks)
    assert digest([one("a", "b")]) == digest([one("a", "b")])
