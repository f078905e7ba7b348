"""Models that are not to be had: exit code 3, one clear line, a hint, nothing on stdout."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bigcode_cli.backends import loading, native_weights
from tests.cli.running import Program, Result

Damage = Callable[[Path], None]


@pytest.fixture
def spoilt(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may spoil."""
    folder = tmp_path / "spoilt"
    shutil.copytree(model_folder, folder)
    return folder


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def huge_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + path.read_bytes()[8:])


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def poison(tensors: dict[str, torch.Tensor]) -> None:
    tensors["transformer.h.1.mlp.c_fc.weight"][3, 5] = torch.nan


def misshape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["transformer.ln_f.bias"] = torch.zeros(5)


def lead_outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "x.safetensors")
    index = {"metadata": {}, "weight_map": {"transformer.wte.weight": "../../x.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


class Evil:
    """Runs code when a pickle of it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


def pickle_that_runs_code(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Evil(folder / "ran")}, folder / "pytorch_model.bin")


DAMAGES: dict[str, tuple[Damage, str]] = {
    "config is missing": (lambda f: (f / "config.json").unlink(), "config.json"),
    "config is not JSON": (lambda f: (f / "config.json").write_text("{oops"), "config.json"),  # type: ignore[dict-item]
    "starcoder2": (lambda f: change_config(f, model_type="starcoder2"), "StarCoder2"),
    "gpt2": (lambda f: change_config(f, model_type="gpt2"), "gpt2"),
    "heads do not divide": (lambda f: change_config(f, n_head=5), "n_head"),
    "tokenizer is missing": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
    "tokenizer is not JSON": (lambda f: (f / "tokenizer.json").write_text("]"), "tokenizer.json"),  # type: ignore[dict-item]
    "weights are missing": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
    "weights are cut off": (cut_weights, "model.safetensors"),
    "header is huge": (huge_header, "model.safetensors"),
    "a tensor is missing": (
        lambda f: change_weights(f, lambda t: t.pop("transformer.h.0.ln_1.bias")),
        "transformer.h.0.ln_1.bias",
    ),
    "a tensor is surplus": (
        lambda f: change_weights(f, lambda t: t.update(extra=torch.zeros(2))),
        "extra",
    ),
    "a tensor is misshapen": (lambda f: change_weights(f, misshape), "transformer.ln_f.bias"),
    "a weight is NaN": (lambda f: change_weights(f, poison), "transformer.h.1.mlp.c_fc.weight"),
    "a shard lies outside": (lead_outside, "../../x"),
    "a pickle would run code": (pickle_that_runs_code, "pytorch_model.bin"),
}


def assert_refused(result: Result, named: str) -> None:
    assert result.code == 3
    assert result.stdout == b""
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert named in lines[0]
    assert len(lines) <= 2
    assert all(line.startswith("hint: ") for line in lines[1:])


@pytest.mark.parametrize("case", DAMAGES)
def test_a_bad_folder_is_refused_in_one_line(case: str, program: Program, spoilt: Path) -> None:
    damage, named = DAMAGES[case]
    damage(spoilt)
    for backend in ("auto", "torch"):
        assert_refused(program("generate", "x", "-m", spoilt, "-n", 1, "--backend", backend), named)
    assert not (spoilt / "ran").exists()


def test_the_undamaged_copy_works(program: Program, spoilt: Path) -> None:
    assert program("generate", "x", "-m", spoilt, "-n", 1).code == 0


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "minni", "../x/y/z"])
def test_an_unknown_name_is_refused(name: str, program: Program) -> None:
    result = program("generate", "x", "-m", name, "--offline")
    assert_refused(result, name.removeprefix("./"))
    assert "hint: " in result.stderr


def test_a_model_beyond_the_memory_is_refused_before_it_is_loaded(
    program: Program, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "free_bytes", lambda _: 1000)
    monkeypatch.setattr(native_weights, "free_host_bytes", lambda: 1000)
    for backend in ("auto", "torch"):
        result = program("generate", "x", "-m", model_folder, "--backend", backend)
        assert_refused(result, "0.0 GB free")
        assert "try a smaller model or --quantize int8" in result.stderr


def test_what_is_not_here_is_a_usage_error(program: Program, model_folder: Path) -> None:
    for flags, named in {
        ("--backend", "native", "--device", "cuda"): "native",
        ("--device", "cuda:99"): "cuda:99",
        ("--attention", "flash", "--device", "cpu"): "flash",
    }.items():
        result = program("generate", "x", "-m", model_folder, *flags)
        assert (result.code, result.stdout) == (2, b"")
        assert named in result.stderr.splitlines()[0]


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_a_quantised_model_generates(quantize: str, program: Program, model_folder: Path) -> None:
    result = program("generate", "def f(", "-m", model_folder, "--quantize", quantize, "-n", 5)
    assert result.code == 0
    assert result.stdout


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_half_precision_model_generates(dtype: str, program: Program, model_folder: Path) -> None:
    result = program("generate", "def f(", "-m", model_folder, "--dtype", dtype, "-n", 5)
    assert result.code == 0
    assert result.stdout
