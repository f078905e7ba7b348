"""``bigcode score`` with several models."""

import math
import os
import threading
from functools import partial
from pathlib import Path

import pytest

from bigcode_cli.bench.intervals import bootstrap_ratio_difference
from bigcode_cli.engine.session import Session
from bigcode_cli.records import LoadOptions, ModelFolder, Scored
from tests.cli.infilling import refusal
from tests.cli.running import Program
from tests.cli.scores import (
    Score,
    content,
    gone_meanwhile,
    objects,
    rows,
    save_random_model,
    scored,
)

TEXTS = {
    f"{name}.py": f"def {name}(x):\n    return {name} * x\n" * n
    for n, name in enumerate("abcdef", 1)
}


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model than ``model_folder``."""
    return save_random_model(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture(scope="module")
def other(other_folder: Path) -> Session:
    """The session on it."""
    return Session.open(ModelFolder(name=str(other_folder), path=other_folder), LoadOptions())


@pytest.fixture
def both(program: Program, model_folder: Path, other_folder: Path) -> Score:
    """``bigcode score -m MODEL -m OTHER …``."""
    return partial(program, "score", "-m", model_folder, "-m", other_folder)


@pytest.fixture
def files(_alone: None) -> list[str]:
    """Files in the working folder."""
    for name, text in TEXTS.items():
        Path(name).write_text(text)
    return list(TEXTS)


@pytest.fixture
def expected(session: Session, other: Session) -> list[list[Scored]]:
    """What each model makes of the files."""
    return [[scored(one, text) for text in TEXTS.values()] for one in (session, other)]


def ratio(scores: list[Scored]) -> float:
    """Bits per byte of all."""
    return sum(one.nll_sum for one in scores) / math.log(2) / sum(one.n_bytes for one in scores)


def test_rows_have_a_column_for_each_model(
    both: Score, files: list[str], expected: list[list[Scored]]
) -> None:
    result = both(*files)
    assert result.code == 0
    for place, row in enumerate(rows(result)):
        assert row[2:] == [files[place]]
        assert [float(cell) for cell in row[:2]] == [
            pytest.approx(scores[place].bits_per_byte, rel=1e-5) for scores in expected
        ]


def test_json_has_each_model_s_lines_sums_and_the_difference(
    both: Score,
    files: list[str],
    expected: list[list[Scored]],
    model_folder: Path,
    other_folder: Path,
) -> None:
    result = both(*files, "--json")
    *lines, comparison = objects(result)
    assert (result.code, result.stderr) == (0, "")
    for model, scores in zip((model_folder, other_folder), expected, strict=True):
        *each, total = (line for line in lines if line["model"] == str(model))
        assert each == [
            {"path": name, **content(one, model)} for name, one in zip(files, scores, strict=True)
        ]
        assert total["total"] is True
        assert total["bits_per_byte"] == pytest.approx(ratio(scores), rel=1e-5)
    parts = [[(one.nll_sum / math.log(2), one.n_bytes) for one in scores] for scores in expected]
    low, high = bootstrap_ratio_difference(parts[0], parts[1])
    assert comparison == {
        "comparison": True,
        "model": str(other_folder),
        "against": str(model_folder),
        "files": len(files),
        "difference": pytest.approx(ratio(expected[1]) - ratio(expected[0]), rel=1e-4),
        "low": pytest.approx(low, rel=1e-4),
        "high": pytest.approx(high, rel=1e-4),
    }
    assert low < comparison["difference"] < high


def test_a_pipe_is_told_the_difference_on_stderr(
    both: Score, files: list[str], model_folder: Path, other_folder: Path
) -> None:
    comparison = objects(both(*files, "--json"))[-1]
    total, difference = both(*files).stderr.splitlines()
    assert total.startswith("note: total of 6 texts: bits/byte ")
    assert difference == (
        f"note: {other_folder} against {model_folder}: {comparison['difference']:+.4f} bits/byte, "
        f"95 % interval {comparison['low']:+.4f} to {comparison['high']:+.4f}"
    )
    assert both(*files, "--quiet").stderr == ""


def test_one_text_has_a_difference_without_an_interval(both: Score) -> None:
    Path("a").write_text("x = 1\n")
    first, second, comparison = objects(both("a", "--json"))
    assert comparison["low"] is comparison["high"] is None
    assert comparison["files"] == 1
    assert comparison["difference"] == pytest.approx(
        second["bits_per_byte"] - first["bits_per_byte"]
    )
    assert "interval" not in both("a").stderr


def test_a_third_model_is_compared_with_the_first(
    both: Score, files: list[str], model_folder: Path, other_folder: Path
) -> None:
    result = both(*files, "-m", model_folder, "--json")
    one, two = (line for line in objects(result) if line.get("comparison"))
    assert (one["model"], one["against"]) == (str(other_folder), str(model_folder))
    assert (two["difference"], two["low"], two["high"]) == (0, 0, 0)
    assert len(rows(both(*files, "-m", model_folder))[0]) == 4


def test_empty_texts_and_texts_without_a_byte_count_for_nothing(both: Score) -> None:
    Path("a").write_text("x = 1\n")
    Path("empty").touch()
    result = both("empty", "a")
    assert rows(result)[0] == ["nan", "nan", "empty"]
    assert objects(both("empty", "a", "--json"))[-1]["files"] == 1
    Path("b").touch()
    none = objects(both("empty", "b", "--json"))[-1]
    assert (none["files"], none["difference"], none["low"]) == (0, None, None)
    bare = both("empty", "b")
    assert bare.code == 0
    assert "against" not in bare.stderr


def test_a_text_that_fails_is_told_once_and_left_out(both: Score, files: list[str]) -> None:
    Path("binary").write_bytes(b"\0")
    result = both("a.py", "binary", "b.py")
    assert result.code == 1
    assert result.stderr.count("error: ") == 1
    assert [row[2] for row in rows(result)] == files[:2]


def test_no_further_model_is_loaded_when_all_failed(
    score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        Path(name).write_text("x")
    gone_meanwhile(monkeypatch, "a", "b")
    result = score("a", "b", "-m", "no/such/model", "--offline")
    assert (result.code, result.stdout) == (1, b"")
    assert result.stderr.count("error: ") == 2


def test_a_pipe_is_read_once_for_all_models(both: Score, files: list[str]) -> None:
    assert rows(both(stdin=TEXTS["a.py"].encode()))[0][:2] == rows(both("a.py"))[0][:2]
    os.mkfifo("fifo")
    writer = threading.Thread(target=lambda: Path("fifo").write_text(TEXTS["a.py"]))
    writer.start()
    assert rows(both("fifo"))[0][:2] == rows(both(files[0]))[0][:2]
    writer.join()


def test_any_model_may_miss_the_threshold(
    both: Score, program: Program, expected: list[list[Scored]], files: list[str],
    model_folder: Path, other_folder: Path,
) -> None:  # fmt: skip
    perplexities = [max(one.perplexity or 0 for one in scores) for scores in expected]
    worse = (model_folder, other_folder)[perplexities.index(max(perplexities))]
    between = sum(perplexities) / 2
    result = both(*files, "--fail-above", between)
    assert result.code == 4
    assert len(rows(result)) == len(files)
    assert f" of {len(files)} texts " in result.stderr
    assert program("score", "-m", worse, *files, "--fail-above", between).code == 4
    assert both(*files, "--fail-above", max(perplexities) * 1.01).code == 0


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (["--by", "line"], "--by line"),
        (["--by", "token", "--json"], "--by token"),
        (["--heatmap"], "--heatmap"),
        (["--html", "x"], "--html"),
        (["--baseline", "x"], "--baseline"),
    ],
)
def test_what_is_of_one_model_is_refused(both: Score, args: list[str], name: str) -> None:
    assert refusal(both(*args, stdin=b"x")) == f"{name} is of one --model, not of 2"
    assert not Path("x").exists()


def test_stats_are_told_of_each(both: Score, model_folder: Path, other_folder: Path) -> None:
    told = both("--stats", "--quiet", stdin=b"x = 1").stderr.splitlines()
    assert [line.partition(":")[0] for line in told] == [str(model_folder), str(other_folder)]
