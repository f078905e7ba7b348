import json
from pathlib import Path

import pytest

from tests.cli.running import Program

LINES = [{"text": f"{'ab'[at % 2] * 3} {at}", "label": "pq"[at % 2]} for at in range(40)]


@pytest.fixture
def data() -> Path:
    path = Path("data.jsonl")
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def test_what_is_trained_classifies(program: Program, model_folder: Path, data: Path) -> None:
    words = ("train", "head", data, "--task", "sequence", "-m", model_folder, "--hold-out", "0.25")
    plan = ("--learning-rate", "0.05")
    told = program(*words, *plan, "--out", "one", "--json")
    assert told.code == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["macro_f1"] == 1.0
    assert [label["support"] for label in found["labels"]] == [5, 5]
    rows = program(*words, *plan, "--out", "two")
    assert rows.stdout == (
        b"p\t1.0000\t1.0000\t1.0000\t5\nq\t1.0000\t1.0000\t1.0000\t5\n-\t-\t-\t1.0000\t10\n"
    )
    table = program(*words, *plan, "--out", "three", stdout_terminal=True).stdout.decode()
    assert table.splitlines()[0].split() == ["LABEL", "PRECISION", "RECALL", "F1", "SUPPORT"]
    assert table.splitlines()[-1].split() == ["macro-F1", "-", "-", "1.0000", "10"]
    labelled = program("classify", "-m", "one", "--base", model_folder, stdin=b"aaa 8")
    assert labelled.stdout.startswith(b"p\t"), labelled.stderr
    lost = program("classify", "-m", "one", stdin=b"aaa 8")
    assert lost.code == 3
    assert f"--base {model_folder}" in lost.stderr


def test_bad_lines_are_all_told_and_nothing_is_trained(
    program: Program, model_folder: Path, data: Path
) -> None:
    data.write_text('{"text": "a"}\nnonsense\n{"text": "a", "label": "b"}\n')
    told = program("train", "head", data, "--task", "sequence", "-m", model_folder, "--out", "o")
    assert told.code == 2
    assert "data.jsonl:1: a label" in told.stderr
    assert "data.jsonl:2: not JSON" in told.stderr
    assert "2 of the lines are no labelled text" in told.stderr
    assert not Path("o").exists()


def test_ctrl_c_leaves_nothing_and_says_so(
    program: Program, model_folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigcode_cli.training.head import HeadTrainer

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(HeadTrainer, "run", interrupted)
    before = set(Path().iterdir())
    told = program("train", "head", data, "--task", "sequence", "-m", model_folder, "--out", "o")
    assert told.code == 130
    assert "interrupted: o was not written" in told.stderr
    assert set(Path().iterdir()) == before
