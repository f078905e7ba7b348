"""What does not need transformers: turns, ratios, agreement, and which files are taken."""

import time
from pathlib import Path

import pytest

from bigcode_cli.bench import score_speed
from bigcode_cli.errors import BigcodeError


def test_both_sides_take_turns_and_the_ratio_is_theirs_over_ours() -> None:
    turns: list[str] = []

    def ours() -> float:
        turns.append("ours")
        time.sleep(0.01)
        return 1000.0

    def theirs() -> float:
        turns.append("theirs")
        time.sleep(0.04)
        return 1000.001

    measured = score_speed._alternate(ours, theirs, 100, 3, "float32")
    assert turns == ["ours", "theirs"] * 4  # the first turn warms up
    assert 1.5 < measured["ratio"] < 8
    assert measured["ours_tokens_per_s"] > measured["theirs_tokens_per_s"]
    assert len(measured["seconds"]["ours"]) == 3
    assert measured["relative_difference"] == pytest.approx(1e-6, rel=1e-3)


def test_sums_that_are_apart_are_not_the_same_work() -> None:
    with pytest.raises(BigcodeError, match="not the same work"):
        score_speed._alternate(lambda: 1000.0, lambda: 1001.0, 1, 1, "float32")


def test_whole_files_are_taken_until_there_are_enough_bytes(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name, size in (("a.py", 40), ("b.py", 100), ("inner/c.py", 30), ("d.py", 0), ("e.txt", 9)):
        (tmp_path / name).write_text("x" * size)
    assert [len(text) for text in score_speed._read([tmp_path], 75)] == [40, 30]
