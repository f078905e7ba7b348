import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from bigcode_cli.errors import BigcodeError, ModelCorruptError, ModelIncompleteError
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model, save_model
from bigcode_cli.model.shards import Storage
from bigcode_cli.model.tensor_index import read_header, read_tensor_index
from bigcode_cli.records import Quantize
from tests.model.models import small_config, wide_model

ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def file_of(header: bytes | dict[str, Any], data: bytes = bytes(24)) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def test_the_index_says_what_the_library_says(path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5),
        "b": torch.randn(7).to(torch.bfloat16),
        "c": torch.randint(0, 9, (2, 2, 2), dtype=torch.int8),
        "empty": torch.zeros(0, 4),
    }
    save_file(tensors, path, metadata={"format": "pt"})
    entries = read_header(path)
    data = path.read_bytes()
    assert set(entries) == set(tensors)
    with safe_open(path, framework="pt") as file:
        for name, entry in entries.items():
            assert list(entry.shape) == file.get_slice(name).get_shape()
            assert entry.dtype == file.get_slice(name).get_dtype()
            raw = bytes(tensors[name].view(torch.uint8).flatten().tolist())
            assert data[entry.start : entry.stop] == raw


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x02\0\0\0",
        b"\xff" * 8,
        (2**40).to_bytes(8, "little") + b"{}",
        file_of(b""),
        file_of(b"{"),
        file_of(b"[]", b""),
        file_of(b"\xff\xff", b""),
        file_of(b"[" * 50_000, b""),
        file_of(b'{"a": ' + b"9" * 5000 + b"}", b""),
        file_of({"a": None}),
        file_of({"a": []}),
        file_of({"a": ENTRY | {"dtype": "F3"}}),
        file_of({"a": ENTRY | {"dtype": ["F32"]}}),
        file_of({"a": ENTRY | {"shape": None}}),
        file_of({"a": ENTRY | {"shape": [2, -3]}}),
        file_of({"a": ENTRY | {"shape": [2, 3.0]}}),
        file_of({"a": ENTRY | {"shape": [True, 6]}}),
        file_of({"a": ENTRY | {"shape": [2**62, 2**62, 2**62]}}),
        file_of({"a": ENTRY | {"shape": [10**30]}}),
        file_of({"a": ENTRY | {"shape": [1] * 9 + [6]}}),
        file_of({"a": ENTRY | {"data_offsets": [0]}}),
        file_of({"a": ENTRY | {"data_offsets": [24, 0]}}),
        file_of({"a": ENTRY | {"data_offsets": [-24, 0]}}),
        file_of({"a": ENTRY | {"data_offsets": [0, 23]}}),
        file_of({"a": ENTRY | {"data_offsets": [4, 28]}}, bytes(28)),
        file_of({"a": ENTRY}, bytes(23)),
        file_of({"a": ENTRY}, bytes(25)),
        file_of({"a": ENTRY, "b": ENTRY}),
        file_of({"a": ENTRY, "b": ENTRY | {"data_offsets": [20, 44]}}, bytes(44)),
        file_of(b'{"a": %b, "a": %b}' % ((json.dumps(ENTRY).encode(),) * 2)),
    ],
)
def test_a_malformed_file_is_corrupt(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ModelCorruptError) as caught:
        read_header(path)
    assert "model.safetensors" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_cut_off_anywhere_is_corrupt(path: Path) -> None:
    whole = file_of({"a": ENTRY})
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelCorruptError):
            read_header(path)
    path.write_bytes(whole)
    assert read_header(path)["a"].shape == (2, 3)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1),
    cut=st.integers(0, 40) | st.just(0),
)
def test_random_damage_gives_a_clear_error_or_a_model(
    tmp_path: Path, flips: list[tuple[float, int]], cut: int
) -> None:
    config = small_config(n_layer=1, n_embd=4, n_head=2, vocab_size=5, n_positions=6)
    save_model(wide_model(config), config, tmp_path, "float32")
    path = tmp_path / "model.safetensors"
    damaged = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(damaged[:8], "little")
    for place, value in flips:
        damaged[int(place * header)] = value
    path.write_bytes(damaged[: len(damaged) - cut])
    try:
        load_model(GPTBigCodeForCausalLM, tmp_path, device="cpu", dtype=torch.float32)
    except BigcodeError:
        return
    assert not cut


def write_shards(folder: Path) -> dict[str, str]:
    config = small_config(n_layer=1)
    save_model(wide_model(config), config, folder, "float32", max_shard_bytes=8_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    weight_map: dict[str, str] = index["weight_map"]
    return weight_map


def rewrite(folder: Path, index: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_shards_are_found_through_their_index(tmp_path: Path) -> None:
    weight_map = write_shards(tmp_path)
    index = read_tensor_index(tmp_path)
    assert len(index.files) > 3
    assert {name: entry.file.name for name, entry in index.entries.items()} == weight_map


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "../../x.safetensors",
        "/etc/x.safetensors",
        "sub/x.safetensors",
        "..\\x.safetensors",
        "C:x.safetensors",
        "config.json",
        "x.safetensors\0",
        "",
        None,
        7,
        ["x.safetensors"],
    ],
)
def test_a_shard_outside_the_folder_is_refused(tmp_path: Path, name: object) -> None:
    weight_map = write_shards(tmp_path / "model")
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    rewrite(tmp_path / "model", {"weight_map": weight_map | {"lm_head.weight": name}})
    with pytest.raises(ModelCorruptError):
        read_tensor_index(tmp_path / "model")


def test_a_shard_that_links_outside_the_folder_is_refused(tmp_path: Path) -> None:
    weight_map = write_shards(tmp_path / "model")
    shard = tmp_path / "model" / next(iter(weight_map.values()))
    shard.rename(tmp_path / "moved.safetensors")
    shard.symlink_to("../moved.safetensors")
    with pytest.raises(ModelCorruptError, match="links to a file outside"):
        read_tensor_index(tmp_path / "model")


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": ["a"]}, []])
def test_an_index_without_a_weight_map_is_corrupt(tmp_path: Path, index: object) -> None:
    write_shards(tmp_path)
    rewrite(tmp_path, index)
    with pytest.raises(ModelCorruptError):
        read_tensor_index(tmp_path)


def test_a_missing_shard_or_tensor_is_named(tmp_path: Path) -> None:
    weight_map = write_shards(tmp_path)
    first, *_ = weight_map.values()
    rewrite(tmp_path, {"weight_map": weight_map | {"transformer.more": first}})
    with pytest.raises(ModelIncompleteError, match=r"transformer\.more is missing from"):
        read_tensor_index(tmp_path)
    rewrite(tmp_path, {"weight_map": weight_map})
    (tmp_path / first).unlink()
    with pytest.raises(ModelIncompleteError, match=first):
        read_tensor_index(tmp_path)


def test_a_folder_without_weights_is_incomplete(tmp_path: Path) -> None:
    with pytest.raises(ModelIncompleteError, match="holds no weights"):
        read_tensor_index(tmp_path)


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("quantize", ["none", "int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weight_bytes_are_what_loading_takes(
    tmp_path: Path, storage: Storage, quantize: Quantize, dtype: torch.dtype
) -> None:
    config = small_config(n_embd=96, n_inner=200)
    save_model(wide_model(config), config, tmp_path, storage)
    model = load_model(
        GPTBigCodeForCausalLM, tmp_path, device="cpu", dtype=dtype, quantize=quantize
    )
    tensors = [*model.parameters(), *model.buffers()]
    taken = sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())
    name = str(dtype).removeprefix("torch.")
    assert read_tensor_index(tmp_path).weight_bytes(name, quantize) == taken


def test_weight_bytes_of_bin_files_follow_from_the_configuration(tmp_path: Path) -> None:
    config = small_config()
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    torch.save(wide_model(config).state_dict(), tmp_path / "pytorch_model.bin")
    index = read_tensor_index(tmp_path)
    assert index.kind == "bin"
    assert index.weight_bytes("float16", "none") == 2 * config.parameter_count()
    save_model(wide_model(config), config, tmp_path / "other")
    for quantize in ("int8", "int4"):
        exact = read_tensor_index(tmp_path / "other").weight_bytes("float16", quantize)
        assert index.weight_bytes("float16", quantize) == exact


def test_looking_at_a_model_does_not_import_torch() -> None:
    code = (
        "import sys, bigcode_cli.model.config, bigcode_cli.model.tensor_index;"
        "print({'torch', 'safetensors'} & set(sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "set()"
