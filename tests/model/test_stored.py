import mmap
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bigcode_cli.errors import ModelCorruptError, ModelUnsupportedError
from bigcode_cli.model.stored import map_tensor, read_stored
from bigcode_cli.model.tensor_index import TensorEntry, read_header

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8]


def test_mapped_tensors_are_the_stored_ones_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "a.safetensors"
    # Odd byte counts put what follows at odd addresses, and one lies beyond a page's end.
    tensors = {"big": torch.randn(mmap.ALLOCATIONGRANULARITY // 4 + 3, 1)}
    tensors |= {f"{at}": torch.randn(3, 5, at + 1).to(dtype) for at, dtype in enumerate(DTYPES)}
    tensors["empty"] = torch.zeros(0, 3)
    save_file(tensors, path)
    for name, entry in read_header(path).items():
        assert torch.equal(map_tensor("a", entry), tensors[name])


def test_numbers_at_odd_addresses_are_read(tmp_path: Path) -> None:
    expected = torch.randn(5, 3)
    raw = bytes(expected.view(torch.uint8).flatten().tolist())
    for start in range(8):
        path = tmp_path / f"{start}"
        path.write_bytes(bytes(start) + raw)
        entry = TensorEntry(path, "F32", (5, 3), start, start + len(raw))
        assert torch.equal(map_tensor("a", entry), expected)


def test_writing_to_a_mapped_tensor_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(4)}, path)
    before = path.read_bytes()
    map_tensor("a", read_header(path)["a"]).zero_()
    assert path.read_bytes() == before


def test_a_file_that_shrank_meanwhile_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(4)}, path)
    entry = read_header(path)["a"]
    os.truncate(path, 10)
    with pytest.raises(ModelCorruptError, match="cannot be mapped"):
        map_tensor("a", entry)


def test_a_type_that_no_weights_have_is_refused(tmp_path: Path) -> None:
    entry = TensorEntry(tmp_path / "x", "F8_E4M3", (1,), 0, 1)
    with pytest.raises(ModelUnsupportedError, match="a is of type F8_E4M3"):
        map_tensor("a", entry)


def test_names_of_the_bare_transformer_get_their_prefix(tmp_path: Path) -> None:
    names = ["wte.weight", "h.0.attn.c_attn.weight", "h.0.attn.c_attn.bias", "lm_head.weight"]
    masks = ["bias", "h.0.attn.bias", "h.0.attn.masked_bias"]
    save_file({name: torch.ones(1) for name in names + masks}, tmp_path / "model.safetensors")
    assert set(read_stored(tmp_path)) == {
        "transformer.wte.weight",
        "transformer.h.0.attn.c_attn.weight",
        "transformer.h.0.attn.c_attn.bias",
        "lm_head.weight",
    }


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "content",
    [Evil(), {"a": Evil()}, [torch.ones(1)], {"a": 1}, {1: torch.ones(1)}, torch.ones(2)],
    ids=["code", "code inside", "list", "number", "unnamed", "tensor"],
)
def test_a_bin_file_of_anything_but_tensors_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelCorruptError, match="pytorch_model"):
        read_stored(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(50), b"text"])
def test_a_file_that_is_no_bin_file_is_corrupt(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(ModelCorruptError, match="no PyTorch file"):
        read_stored(tmp_path)


def test_a_sparse_tensor_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelCorruptError):
        read_stored(tmp_path)


def test_a_bin_file_cut_off_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.randn(50, 50)}, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 997):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelCorruptError):
            read_stored(tmp_path)
