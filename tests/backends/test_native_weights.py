"""A folder's weights for the native engine: what PyTorch loads, or a reason why not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor as TorchTensor

from bigcode_cli.backends import mapped, native_weights
from bigcode_cli.backends.native_weights import NativeUnsupportedError, Opened, open_tensors
from bigcode_cli.errors import (
    BigcodeWarning,
    ModelCorruptError,
    ModelIncompleteError,
    ModelTooLargeError,
    ModelUnsupportedError,
)
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model, save_difference, save_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.files import write_json
from bigcode_cli.model.quantize import dequantize_int8
from bigcode_cli.model.shards import Storage
from bigcode_cli.model.tensor_index import read_header
from bigcode_cli.records import LoadOptions, ModelFolder, Silence
from tests.backends.native_folders import (
    CONFIG,
    Notes,
    numbers,
    rewrite,
    write_misaligned,
    write_model,
)

WEIGHTS = "model.safetensors"


def opened(folder: ModelFolder, **options: str) -> Opened:
    return open_tensors(folder, LoadOptions(**options), Silence())  # type: ignore[arg-type]


def floats(tensors: Opened) -> dict[str, TorchTensor]:
    """All tensors in float32, codes times their factors."""
    read = {name: numbers(tensor) for name, tensor in tensors.tensors.items()}
    return {
        name: dequantize_int8(value, read[f"{name}_scale"], torch.float32)
        if value.dtype == torch.int8
        else value.float()
        for name, value in read.items()
        if not name.endswith("_scale")
    }


def loaded(folder: ModelFolder) -> dict[str, TorchTensor]:
    """The twin: what PyTorch loads of it."""
    model = load_model(
        GPTBigCodeForCausalLM, folder.path, base=folder.base, device="cpu", dtype=torch.float32
    )
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    return state


def assert_as_pytorch(folder: ModelFolder, **options: str) -> Opened:
    found, expected = opened(folder, **options), loaded(folder)
    read = floats(found)
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], expected[name]) for name in expected)
    return found


@pytest.mark.parametrize("storage", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("tied", [True, False])
def test_mapped_numbers_are_those_that_pytorch_loads(
    tmp_path: Path, storage: Storage, tied: bool
) -> None:
    folder, _ = write_model(tmp_path / "m", storage, tie_word_embeddings=tied)
    found = assert_as_pytorch(folder)
    assert (found.weights, found.dtype, found.quantises) == (storage, "float32", False)
    assert found.config.tie_word_embeddings == tied
    entries = read_header(folder.path / WEIGHTS).values()
    assert found.weight_bytes == sum(entry.stop - entry.start for entry in entries)


def test_nothing_is_copied_and_a_file_is_mapped_once(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path / "m")
    found = opened(folder)
    owners = {id(tensor.owner) for tensor in found.tensors.values()}
    assert len(owners) == 1
    entries = read_header(folder.path / WEIGHTS)
    starts = {tensor.address - entries[name].start for name, tensor in found.tensors.items()}
    assert len(starts) == 1


def test_the_mapping_lives_as_long_as_a_tensor(tmp_path: Path) -> None:
    folder, model = write_model(tmp_path / "m")
    tensor = opened(folder).tensors["transformer.wpe.weight"]
    (folder.path / WEIGHTS).unlink()
    assert torch.equal(numbers(tensor), model.transformer.wpe.weight)


def test_shards_are_mapped_each(tmp_path: Path) -> None:
    folder, model = write_model(tmp_path / "m")
    save_model(model, model.config, folder.path, "float32", max_shard_bytes=4000)
    assert len(list(folder.path.glob("model-*.safetensors"))) > 1
    assert_as_pytorch(folder)


def test_a_tensor_at_an_odd_address_is_copied_to_an_even_one(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path / "m")
    tensors = load_file(folder.path / WEIGHTS)
    write_misaligned(folder.path / WEIGHTS, tensors)
    found = assert_as_pytorch(folder)
    assert all(tensor.address % 4 == 0 for tensor in found.tensors.values())


def test_bare_checkpoints_and_old_buffers_are_read(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path / "m")
    tensors = load_file(folder.path / WEIGHTS)
    bare = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    rewrite(folder.path, bare)
    assert_as_pytorch(folder)


def test_a_head_that_is_left_out_is_told_of_as_by_pytorch(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path / "m")
    tensors = load_file(folder.path / WEIGHTS)
    rewrite(folder.path, {**tensors, "score.weight": torch.ones(3, 16)})
    notes = Notes()
    found = open_tensors(folder, LoadOptions(), notes)
    assert "score.weight" not in found.tensors
    with pytest.warns(BigcodeWarning) as warned:
        loaded(folder)
    assert [str(warning.message) for warning in warned] == notes.notes


def test_a_head_equal_to_the_embedding_is_tied(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path / "m", "bfloat16", tie_word_embeddings=False)
    tensors = load_file(folder.path / WEIGHTS)
    rewrite(folder.path, {**tensors, "lm_head.weight": tensors["transformer.wte.weight"].clone()})
    found = assert_as_pytorch(folder)
    assert found.config.tie_word_embeddings
    other = tensors["transformer.wte.weight"].clone()
    other[-1, -1] += 1
    rewrite(folder.path, {**tensors, "lm_head.weight": other})
    assert not assert_as_pytorch(folder).config.tie_word_embeddings


def test_equal_codes_with_other_factors_are_not_tied(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path / "m", "int8", tie_word_embeddings=False)
    tensors = load_file(folder.path / WEIGHTS)
    codes, scale = tensors["transformer.wte.weight"], tensors["transformer.wte.weight_scale"]
    twice = {"lm_head.weight": codes.clone(), "lm_head.weight_scale": scale * 2}
    rewrite(folder.path, {**tensors, **twice})
    assert not opened(folder).config.tie_word_embeddings


def test_rows_of_the_vocabulary_are_the_tensors(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path / "m")
    write_json(folder.path / "config.json", {**CONFIG, "vocab_size": 77})
    assert opened(folder).config.vocab_size == CONFIG["vocab_size"]


def test_what_is_stored_over_a_base_wins(tmp_path: Path) -> None:
    below, _ = write_model(tmp_path / "below", seed=1)
    changed = load_file(below.path / WEIGHTS)["transformer.ln_f.bias"] + 1
    config = GPTBigCodeConfig.from_dict(CONFIG)
    path = tmp_path / "over"
    save_difference({"transformer.ln_f.bias": changed}, config, "GPTBigCodeForCausalLM", path)
    folder = ModelFolder(name="over", path=path, base=below.path)
    found = assert_as_pytorch(folder)
    assert torch.equal(numbers(found.tensors["transformer.ln_f.bias"]), changed)


def _factors(tensors: dict[str, TorchTensor]) -> None:
    tensors["transformer.h.0.mlp.c_fc.up"] = torch.ones(64, 1)


def _double(tensors: dict[str, TorchTensor]) -> None:
    name = "transformer.h.0.mlp.c_fc.weight"
    tensors[name] = tensors[name].double()


def _bytes(tensors: dict[str, TorchTensor]) -> None:
    name = "transformer.h.0.mlp.c_fc.weight"
    tensors[name] = tensors[name].to(torch.uint8)


@pytest.mark.parametrize(
    ("change", "reason"),
    [(_factors, "added up"), (_double, "type F64"), (_bytes, "type U8")],
)
def test_what_cannot_be_used_in_place_is_told(
    tmp_path: Path, change: Callable[[dict[str, TorchTensor]], None], reason: str
) -> None:
    folder, _ = write_model(tmp_path / "m")
    tensors = load_file(folder.path / WEIGHTS)
    change(tensors)
    rewrite(folder.path, tensors)
    with pytest.raises(NativeUnsupportedError, match=reason):
        opened(folder)


def test_factors_of_codes_are_float32(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path / "m", "int8")
    tensors = load_file(folder.path / WEIGHTS)
    name = "transformer.wte.weight_scale"
    rewrite(folder.path, {**tensors, name: tensors[name].half()})
    with pytest.raises(NativeUnsupportedError, match="has F16"):
        opened(folder)


def test_bin_files_and_cross_attention_are_left_to_pytorch(tmp_path: Path) -> None:
    folder, model = write_model(tmp_path / "m")
    (folder.path / WEIGHTS).unlink()
    torch.save(model.state_dict(), folder.path / "pytorch_model.bin")
    with pytest.raises(NativeUnsupportedError, match=r"\.bin files"):
        opened(folder)
    crossed, _ = write_model(tmp_path / "c", add_cross_attention=True, multi_query=False)
    with pytest.raises(NativeUnsupportedError, match="cross-attention"):
        opened(crossed)


def test_a_dtype_asks_for_weights_that_are_stored_so(tmp_path: Path) -> None:
    half, _ = write_model(tmp_path / "half", "bfloat16")
    assert_as_pytorch(half, dtype="float32")
    assert opened(half, dtype="bfloat16").weights == "bfloat16"
    with pytest.raises(NativeUnsupportedError, match="stored, which is in bfloat16"):
        opened(half, dtype="float16")
    coded, _ = write_model(tmp_path / "coded", "int8")
    assert opened(coded, dtype="bfloat16").weights == "int8"


def test_missing_surplus_and_misshapen_tensors_are_refused_as_by_pytorch(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path / "m")
    tensors = load_file(folder.path / WEIGHTS)
    name = "transformer.h.1.ln_2.bias"
    lacking = {key: value for key, value in tensors.items() if key != name}
    for changed, error in [
        (lacking, ModelIncompleteError),
        ({**tensors, "transformer.h.2.ln_1.bias": torch.ones(16)}, ModelUnsupportedError),
        ({**tensors, name: torch.ones(17)}, ModelCorruptError),
    ]:
        rewrite(folder.path, changed)
        with pytest.raises(error) as ours:
            opened(folder)
        with pytest.raises(error) as theirs:
            loaded(folder)
        assert ours.value.message == theirs.value.message


def test_a_file_cut_off_after_its_header_was_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = write_model(tmp_path / "m")
    weights = folder.path / WEIGHTS
    real = mapped.MappedFile

    def cut_first(path: Path) -> mapped.MappedFile:
        weights.write_bytes(weights.read_bytes()[:-1])
        return real(path)

    monkeypatch.setattr(mapped, "MappedFile", cut_first)
    with pytest.raises(ModelCorruptError, match="shorter"):
        opened(folder)

    def empty_first(path: Path) -> mapped.MappedFile:
        weights.write_bytes(b"")
        return real(path)

    folder, _ = write_model(tmp_path / "m")
    monkeypatch.setattr(mapped, "MappedFile", empty_first)
    with pytest.raises(ModelCorruptError, match="cannot be mapped"):
        opened(folder)


def test_a_model_that_does_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = write_model(tmp_path / "m")
    monkeypatch.setattr(native_weights, "free_host_bytes", lambda: 1000)
    with pytest.raises(ModelTooLargeError, match="m needs"):
        opened(folder)
