"""The whole path, from data folders to a model folder, on a tiny configuration."""

import json
import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bigcode_cli.errors import BigcodeError, InputError, UsageError
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model
from bigcode_cli.records import ModelFolder, Silence
from bigcode_cli.text.tokenizer import Tokenizer
from bigcode_cli.training.data.corpus import Corpus
from bigcode_cli.training.lm import TrainRequest, train_lm
from bigcode_cli.training.recipe import Recipe

Lines = list[dict[str, Any]]


def make_request(recipe_file: Path, data: Path, out: Path, **training: Any) -> TrainRequest:
    recipe = Recipe.load(recipe_file)
    if training.keys() & {"steps", "minutes"}:
        training = {"steps": None, "minutes": None, **training}
    recipe = replace(recipe, training=replace(recipe.training, **training))
    return TrainRequest(recipe=recipe, data=(data,), out=out, seed=5, device="cpu")


def unseen(line: dict[str, Any]) -> None:
    """An observer that looks away: the log holds the same."""
    del line


def run(request: TrainRequest) -> tuple[str, Lines]:
    """How a run ended, and its log."""
    ending = train_lm(request, report=Silence(), observer=unseen)
    lines = (request.out / "log.jsonl").read_text("utf-8").splitlines()
    return ending, [json.loads(line) for line in lines]


def without_times(lines: Lines) -> Lines:
    return [
        {name: value for name, value in line.items() if name not in {"seconds", "tokens_per_s"}}
        for line in lines
    ]


def weights(out: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(out / "checkpoint.pt", weights_only=True)["model"]
    return state


def test_resumed_training_equals_uninterrupted_bit_for_bit(
    recipe_file: Path, data: Path, tmp_path: Path
) -> None:
    plan = {"circles": 2, "restarts": (0.5,)}
    whole = make_request(recipe_file, data, tmp_path / "whole", **plan)
    ending, expected = run(whole)
    assert ending == "finished"
    parts = make_request(recipe_file, data, tmp_path / "parts", **plan)
    pausing = replace(parts, pause_after=0.0)
    endings = [run(pausing)[0]]
    while endings[-1] == "paused":
        ending, lines = run(replace(pausing, resume=True))
        endings.append(ending)
    assert endings == ["paused"] * 5 + ["finished"]
    assert without_times(lines) == without_times(expected)
    first, second = weights(whole.out), weights(parts.out)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_loss_falls_below_the_unigram_entropy(
    recipe_file: Path, data: Path, corpus: Corpus, tmp_path: Path
) -> None:
    held_out = tmp_path / "held"
    (held_out / "json").mkdir(parents=True)
    (held_out / "json" / "m.py").write_text("import json\n\nprint(json.dumps([1, 2]))\n" * 9)
    request = replace(
        make_request(recipe_file, data, tmp_path / "out", steps=70), validate=held_out
    )
    _, lines = run(request)
    tokenizer = Tokenizer.load(request.out)
    counts = Counter(id_ for text in corpus.texts() for id_ in tokenizer.encode(text))
    total = sum(counts.values())
    entropy = -sum(n / total * math.log(n / total) for n in counts.values())
    assert lines[0]["loss"] > math.log(512) - 0.5
    assert lines[-2]["loss"] < entropy
    assert 0 < lines[-1]["bits_per_byte"]["json"] == lines[-1]["bits_per_byte"]["macro_mean"] < 8


def test_the_exported_folders_load(recipe_file: Path, data: Path, tmp_path: Path) -> None:
    request = make_request(recipe_file, data, tmp_path / "out", steps=1)
    run(request)
    trained = weights(request.out)["transformer.wte.weight"]
    for name, tolerance in (("model", 1 / 127), ("model-bfloat16", 1 / 256)):
        folder = request.out / name
        model = load_model(GPTBigCodeForCausalLM, folder, device="cpu", dtype=torch.float32)
        difference = (model.transformer.wte.weight - trained).abs().max()
        assert difference <= tolerance * trained.abs().max()
        assert Tokenizer.load(folder).vocab_size == model.config.vocab_size
        assert model.config.eos_token_id == Tokenizer.load(folder).eos_id
    again = replace(
        make_request(recipe_file, data, tmp_path / "next", steps=1),
        init=ModelFolder(name="first", path=request.out / "model"),
    )
    _, lines = run(again)
    assert lines[-1]["step"] == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from bigcode_cli.records import Silence
from bigcode_cli.training import checkpoints
from bigcode_cli.training.lm import TrainRequest, train_lm
from bigcode_cli.training.recipe import Recipe

recipe, out = map(Path, sys.argv[1:])
checkpoints.os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
request = TrainRequest(recipe=Recipe.load(recipe), data=(), out=out, seed=5, resume=True,
                       device="cpu", pause_after=0.0)
train_lm(request, report=Silence(), observer=lambda line: None)
"""


def test_a_kill_while_a_checkpoint_is_written_leaves_the_last_one(
    recipe_file: Path, data: Path, tmp_path: Path
) -> None:
    request = replace(make_request(recipe_file, data, tmp_path / "out"), pause_after=0.0)
    run(request)
    before = (request.out / "checkpoint.pt").read_bytes()
    killed = subprocess.run([sys.executable, "-c", KILLED, recipe_file, request.out], check=False)
    assert killed.returncode == -9
    assert (request.out / "checkpoint.tmp").stat().st_size > 0
    assert (request.out / "checkpoint.pt").read_bytes() == before
    ending, lines = run(replace(request, resume=True, pause_after=None))
    assert ending == "finished"
    assert lines[-1]["step"] == 6


def test_a_finished_training_that_is_resumed_takes_no_step(
    recipe_file: Path, data: Path, tmp_path: Path
) -> None:
    request = make_request(recipe_file, data, tmp_path / "out", steps=2)
    _, lines = run(request)
    assert run(replace(request, resume=True)) == ("finished", lines)


def test_an_interrupt_saves_and_a_clocked_plan_ends(
    recipe_file: Path, data: Path, tmp_path: Path
) -> None:
    request = make_request(recipe_file, data, tmp_path / "out", minutes=0.005)
    ending = train_lm(request, report=Silence(), observer=unseen, should_stop=lambda: True)
    assert ending == "interrupted"
    assert not (request.out / "model").exists()
    resumed, lines = run(replace(request, resume=True))
    assert resumed == "finished"
    assert lines[-1]["position"] >= 1


def test_what_does_not_belong_together_is_not_resumed(
    recipe_file: Path, data: Path, tmp_path: Path
) -> None:
    request = replace(make_request(recipe_file, data, tmp_path / "out"), pause_after=0.0)
    with pytest.raises(InputError):
        run(replace(request, resume=True))
    run(request)
    with pytest.raises(InputError, match="another recipe"):
        run(replace(request, resume=True, seed=6))


def test_divergence_is_told(recipe_file: Path, data: Path, tmp_path: Path) -> None:
    request = make_request(recipe_file, data, tmp_path / "out", learning_rate=1e30)
    with pytest.raises(BigcodeError, match="diverged"):
        run(request)


def test_missing_held_out_files_are_told_before_anything_is_made(
    recipe_file: Path, data: Path, tmp_path: Path
) -> None:
    request = make_request(recipe_file, data, tmp_path / "out")
    with pytest.raises(InputError, match="no held-out files"):
        run(replace(request, validate=tmp_path))
    assert not request.out.exists()


def test_a_run_without_data_is_refused(recipe_file: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        run(replace(make_request(recipe_file, data, tmp_path / "out"), data=()))


def test_a_run_is_not_overwritten_by_another(recipe_file: Path, data: Path, tmp_path: Path) -> None:
    request = replace(make_request(recipe_file, data, tmp_path / "run"), pause_after=0.0)
    run(request)
    before = (request.out / "checkpoint.pt").read_bytes()
    with pytest.raises(UsageError, match="holds a run"):
        run(request)
    assert (request.out / "checkpoint.pt").read_bytes() == before
