"""Folders that the engines open, against the model that they were made of, and a run of ours."""

import json
import math
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file

from bigcode_cli.bench import cpu_models, cpu_peers
from bigcode_cli.bench.checkpoints import Checkpoint
from bigcode_cli.bench.cpu_models import write_model, write_shape
from bigcode_cli.bench.cpu_native import Native
from bigcode_cli.bench.cpu_pipe import WIDTHS, Width
from bigcode_cli.engine.protocol import Passage
from bigcode_cli.engine.session import Session
from bigcode_cli.errors import UsageError
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.kernels.native.library import is_built
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model
from bigcode_cli.records import LoadOptions, Quantize, Silence
from bigcode_cli.text.tokenizer import Tokenizer

SMALL = {
    "model_type": "gpt_bigcode", "vocab_size": 300, "n_positions": 600, "n_embd": 96,
    "n_layer": 4, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip

needs_engine = pytest.mark.skipif(not is_built(), reason="the native engine is not compiled")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models with the small shape in it."""
    monkeypatch.setattr(cpu_models, "CPU_SHAPES", {"small": SMALL})
    monkeypatch.setattr(cpu_peers, "CPU_SHAPES", {"small": SMALL})
    write_shape("small", tmp_path / "small")
    return tmp_path


def test_no_two_layers_hold_the_same_numbers(place: Path) -> None:
    tensors = load_file(place / "small" / "f16" / "model.safetensors")
    layers = [tensors[f"transformer.h.{layer}.mlp.c_fc.weight"] for layer in range(4)]
    for one in range(4):
        assert not any(torch.equal(layers[one], layers[other]) for other in range(one))
    assert torch.equal(layers[3], layers[1].roll(2, 0)), "in another order"


def test_the_shape_is_whole_and_read_by_the_reference(place: Path) -> None:
    for folder in (place / "small", place / "small" / "int8"):
        model = load_model(
            GPTBigCodeForCausalLM, folder, device=torch.device("cpu"), dtype=torch.float32
        )
        assert model.config.n_layer == 4


def test_arrays_without_torch_are_the_tensors(place: Path) -> None:
    checkpoint = Checkpoint(place / "small")
    tensors = load_file(place / "small" / "model.safetensors")
    assert set(checkpoint.names()) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(torch.tensor(checkpoint.array(name)), tensor), name


@needs_engine
@pytest.mark.parametrize(("width", "near"), [("f16", 5e-3), ("int8", 0.15), ("int4", 0.3)])
def test_the_native_engine_has_the_references_logits_and_scores(
    place: Path, width: Width, near: float
) -> None:
    folder = place / "small"
    reference = load_model(
        GPTBigCodeForCausalLM, folder, device=torch.device("cpu"), dtype=torch.float32
    ).eval()
    ids = Random(1).choices(range(300), k=40)
    with torch.inference_mode():
        logits = reference(torch.tensor([ids])).logits[0]
    engine = Native()
    told = engine.open(str(folder), width, 2, 64)
    apart = math.dist(logits[-1].tolist(), engine.logits(ids)) / float(logits[-1].norm())
    assert apart < near
    nats = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum")
    assert engine.score(ids) == pytest.approx(float(nats), rel=near)
    stored = load_file(folder / width / "model.safetensors")
    read = sum(tensor.nbytes for name, tensor in stored.items() if "wpe" not in name)
    assert told["read_bytes"] == read
    assert engine.prompt(ids) > 0
    assert engine.decode(8) > 0


@needs_engine
def test_a_models_files_score_as_the_program_does(tmp_path: Path) -> None:
    folder = resolve("mini", report=Silence())
    write_model(folder, tmp_path)
    tokenizer = Tokenizer.load(folder.tokenizer_path)
    ids = [tokenizer.eos_id, *tokenizer.encode(Path(__file__).read_text("utf-8"))[:200]]
    wanted: dict[Width, tuple[Quantize, float]] = {
        "f32": ("none", 1e-5),
        "f16": ("none", 5e-3),
        "int8": ("int8", 2e-2),
        "int4": ("int4", 2e-2),
    }
    for width, (quantize, near) in wanted.items():
        options = LoadOptions(device="cpu", dtype="float32", quantize=quantize)
        backend = Session.open(folder, options).backend
        (theirs,) = backend.score([Passage(tuple(ids), 1)])
        engine = Native()
        engine.open(str(tmp_path), width, 1, 256)
        assert engine.score(ids) == pytest.approx(-math.fsum(theirs.logprobs), rel=near), width


@needs_engine
def test_a_run_of_ours_alone_prints_a_table_and_saves_answers(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu_peers.main(
        None, "small", "f16,int4", threads=2, seconds=0.01, quick=True, models=place, save=tmp_path
    )
    out = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[1:4] for line in out[2:]] == [
        ["small", weights, test] for weights in ("float16", "int4") for test in ("pp128", "tg32")
    ]
    answer = json.loads((tmp_path / "cpu-peers-small-int4.json").read_text())
    told = answer["environment"]
    assert (told["threads"], told["model"], told["weights"]) == (2, "small", "int4")
    assert set(told["read_bandwidth"]) == {"1", "2"}
    prompt, decode = answer["results"]
    assert prompt["n_prompt"] == 128
    share = decode["weight_bytes"] * decode["median_ts"] / told["read_bandwidth"]["2"]
    assert decode["bandwidth_fraction"] == pytest.approx(share)


@pytest.mark.parametrize(("shapes", "widths"), [("large", "f16"), ("33m", "f32x")])
def test_what_is_not_there_is_refused(shapes: str, widths: str) -> None:
    with pytest.raises(UsageError, match="no such"):
        cpu_peers.main(
            None, shapes, widths, threads=1, seconds=1.0, quick=True, models=None, save=None
        )


def test_who_has_such_weights() -> None:
    names = {width: cpu_peers._sides(width, is_large=False) for width in WIDTHS}
    assert {width for width in WIDTHS if "CTranslate2" in names[width]} == {"f16", "int8"}
    assert "CTranslate2" not in cpu_peers._sides("f16", is_large=True)
