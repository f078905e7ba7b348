import json
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.running import Program, command, environment
from tests.cli.test_terminal import DEADLINE_S

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


def test_texts_on_both_sides_are_told(program: Program, model_folder: Path, data: Path) -> None:
    words = ("train", "head", data, "--task", "sequence", "-m", model_folder, "--epochs", 1)
    lines = [*LINES[:3], {"text": "new", "label": "p"}]
    Path("held").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = program(*words, "--validate", "held", "--out", "one")
    assert "note: 3 of the texts held out are among those to learn from\n" in told.stderr
    assert "to learn from" not in program(*words, "--out", "two").stderr


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


@pytest.mark.parametrize("out", ["o", "new/deep/o"])
def test_ctrl_c_leaves_nothing_and_says_so(model_folder: Path, data: Path, out: str) -> None:
    before = set(Path().rglob("*"))
    with subprocess.Popen(
        command(
            "train", "head", data, "--task", "sequence", "-m", model_folder, "--out", out,
            "--tune", "low-rank", "--epochs", 100_000,
        ),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        told = b""
        while b"epoch 2 of" not in told:
            line = process.stderr.readline()
            assert line, told
            told += line
        assert list(Path(out).parent.glob(".o.*.part"))
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, rest[0]) == (130, b"")
    assert rest[1].decode().splitlines()[-1] == f"note: interrupted: {out} was not written"
    assert {path for path in Path().rglob("*") if path.is_file()} == {data}
    assert set(Path().rglob("*")) - before <= {Path("new"), Path("new/deep")}


def test_what_is_trained_with_it_is_stored_and_used(
    program: Program, model_folder: Path, data: Path
) -> None:
    lines = [
        {"text": f"a{at} b", "spans": [{"start": 0, "end": 2, "label": "X"}]} for at in range(9)
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ("train", "head", data, "--task", "token", "-m", model_folder, "--hold-out", "0.3")
    plan = ("--tune", "low-rank", "--rank", 3, "--read-twice", "--context", 32, "--epochs", 1)
    told = program(*words, *plan, "--out", "one", "--json")
    assert told.code == 0, told.stderr
    stored = load_file("one/model.safetensors")
    assert stored["transformer.h.0.attn.c_attn.down"].shape[0] == 3
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    config = json.loads(Path("one/config.json").read_text())
    assert (config["read_twice"], config["read_context"]) == (True, 32)
    labelled = program("classify", "-m", "one", "--base", model_folder, "--json", stdin=b"a b")
    assert labelled.code == 0, labelled.stderr
    longer = ("--context", 2049, "-m", "one", "--base", model_folder)
    assert "exceeds the model's 2048" in program("classify", *longer, stdin=b"a b").stderr
    whole = program(*words, *plan, "--out", "whole", "--full")
    assert whole.code == 0, whole.stderr
    stored = load_file("whole/model.safetensors")
    assert "transformer.h.0.attn.c_attn.weight" in stored
    assert {value.dtype for value in stored.values()} == {torch.float32}
    wide = program(*words, *plan, "--out", "wide", "--storage", "float32")
    assert wide.code == 0, wide.stderr
    assert load_file("wide/model.safetensors")["classifier.bias"].dtype == torch.float32


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--rank", 4], "--rank is for --tune low-rank"),
        (["--rank", 4, "--tune", "norms"], "--rank is for --tune low-rank"),
        (["--tune", "low-rank", "--rank", 33], "a rank is from 1 to 32 here, not 33"),
        (["--tune", "norms", "--unfreeze", 1], "--unfreeze trains whole layers"),
        (["--unfreeze", 9], "--unfreeze 9: "),
        (["--unfreeze", -2], "--unfreeze must be at least -1"),
        (["--context", 2049, "--read-twice"], "exceeds the model's 2048"),
        (["--hold-out", 1], "--hold-out must be from 0 to below 1"),
        (["--hold-out", 0.001], "too few to hold out"),
        (["--minutes", 0], "--minutes must be above 0"),
        (["--learning-rate", "nan"], "--learning-rate must be above 0"),
        (["--multi-label", "--task", "token"], "--multi-label is for whole texts"),
        (["--encoding", "none"], "none"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_written(
    program: Program, model_folder: Path, data: Path, words: list[object], complaint: str
) -> None:
    before = set(Path().iterdir())
    told = program(
        "train", "head", data, "--task", "sequence", "-m", model_folder, "--out", "o", *words
    )
    assert told.code == 2
    assert complaint in told.stderr.splitlines()[-1] + told.stderr.splitlines()[0]
    assert set(Path().iterdir()) == before


def test_a_run_that_diverges_is_no_result(program: Program, model_folder: Path, data: Path) -> None:
    before = set(Path().iterdir())
    told = program(
        "train", "head", data, "--task", "sequence", "-m", model_folder, "--out", "o",
        "--learning-rate", "1e38", "--unfreeze", -1,
    )  # fmt: skip
    assert told.code == 1
    assert "training diverged: the loss is nan" in told.stderr
    assert "hint: use a smaller --learning-rate" in told.stderr
    assert set(Path().iterdir()) == before
