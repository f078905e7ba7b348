import json
from pathlib import Path

import pytest
import torch

from bigcode_cli.backends import memory
from bigcode_cli.bench.shapes import SHAPES, Subject
from bigcode_cli.engine.protocol import Prompt, Sampler
from bigcode_cli.errors import (
    InputError,
    ModelTooLargeError,
    ModelUnsupportedError,
    UsageError,
)
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import LoadOptions, SamplingOptions, Silence

BILLIONS = {
    "tiny_starcoder_py": 0.164,
    "santacoder": 1.12,
    "starcoderbase-1b": 1.14,
    "starcoderbase-3b": 3.04,
    "starcoderbase-7b": 7.33,
    "starcoder": 15.5,
    "granite-20b-code": 20.1,
    "granite-34b-code": 33.7,
}
TINY = {
    "model_type": "gpt_bigcode", "vocab_size": 300, "n_positions": 64, "n_embd": 32,
    "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_the_shapes_are_as_large_as_the_models(name: str) -> None:
    count = GPTBigCodeConfig.from_dict(SHAPES[name]).parameter_count()
    assert count / 1e9 == pytest.approx(BILLIONS[name], rel=0.02)
    assert Subject.shape(name).name == name


def test_a_shape_may_be_a_file_or_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY))
    assert Subject.shape(str(path)).config == Subject.shape(str(tmp_path)).config
    assert Subject.shape(str(path)).config.n_embd == 32


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("{", InputError, "cannot read"),
        ("[]", InputError, "is no configuration"),
        ('{"model_type": "llama"}', ModelUnsupportedError, "llama"),
    ],
)
def test_a_bad_file_is_told(
    tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(error, match=message):
        Subject.shape(str(path))


def test_an_unknown_shape_names_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="no such shape: 'llama'") as told:
        Subject.shape("llama")
    assert "santacoder" in str(told.value.hint)


@pytest.mark.parametrize("quantize", ["none", "int8", "int4"])
def test_random_weights_run_and_repeat(quantize: str) -> None:
    subject = Subject("tiny", GPTBigCodeConfig.from_dict(TINY))
    sampler = Sampler(options=SamplingOptions(), seed=0)
    chosen = []
    for _ in range(2):
        options = LoadOptions(device="cpu", quantize=quantize)  # type: ignore[arg-type]
        backend, session = subject.open(options, Silence())
        assert session is None
        assert backend.info.vocab_size == 300
        rows = backend.prefill([Prompt(ids=(1, 2, 3), samplers=(sampler,), max_new_tokens=8)])
        chosen.append([rows.step()[0].id for _ in range(8)])
        assert backend.info.weight_bytes > 0
    assert chosen[0] == chosen[1]


def test_a_peer_gets_the_very_weights() -> None:
    subject = Subject("tiny", GPTBigCodeConfig.from_dict(TINY))
    backend, _ = subject.open(LoadOptions(device="cpu", backend="torch"), Silence())
    own = backend._model.state_dict()  # type: ignore[attr-defined]
    other = subject.plain_model(torch.device("cpu"), torch.float32).state_dict()
    assert own.keys() == other.keys()
    for name, weight in own.items():
        assert torch.equal(weight, other[name])
        assert weight.abs().max() > 0


def test_what_does_not_fit_is_refused_before_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_host_bytes", lambda: 10**9)
    monkeypatch.setattr("bigcode_cli.backends.devices.free_host_bytes", lambda: 10**9)
    with pytest.raises(ModelTooLargeError, match=r"starcoder needs 62 GB in float32, 1.0 GB free"):
        Subject.shape("starcoder").open(LoadOptions(device="cpu"), Silence())
