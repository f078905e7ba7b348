import hashlib
import json
import struct
from pathlib import Path

import pytest
import torch

from bigcode_cli.errors import (
    ModelCorruptError,
    ModelError,
    ModelIncompleteError,
    ModelUnsupportedError,
)
from bigcode_cli.hub.pull import pull
from bigcode_cli.hub.verify import Verified, verify
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model, save_model
from bigcode_cli.records import ModelFolder, Silence
from tests.hub.contents import model_files, write_folder
from tests.hub.loopback import LoopbackHub, Repo, git_id

NAME = "owner/tiny"
WEIGHTS = "model.safetensors"


def check(folder: Path) -> Verified:
    return verify(ModelFolder(name="model", path=folder), Silence())


def header_of(weights: bytes | bytearray) -> dict[str, dict[str, list[int]]]:
    (length,) = struct.unpack("<Q", weights[:8])
    header: dict[str, dict[str, list[int]]] = json.loads(weights[8 : 8 + length])
    return header


def test_a_whole_folder_is_verified(tmp_path: Path) -> None:
    verified = check(write_folder(tmp_path / "model", model_files()))
    assert [file.name for file in verified.files] == ["config.json", "tokenizer.json", WEIGHTS]
    assert all(file.digest is None for file in verified.files)
    assert verified.tensors == len(header_of(model_files()[WEIGHTS])) - 1


def test_hashes_of_a_hub_model_are_checked(hub: LoopbackHub) -> None:
    files = model_files()
    hub.repos[NAME] = Repo(files)
    folder = pull(NAME, report=Silence())
    found = {file.name: file.digest for file in verify(folder, Silence()).files}
    assert found == {
        "config.json": git_id(files["config.json"]),
        "tokenizer.json": git_id(files["tokenizer.json"]),
        WEIGHTS: hashlib.sha256(files[WEIGHTS]).hexdigest(),
    }
    blob = (folder.path / WEIGHTS).resolve()
    blob.write_bytes(files[WEIGHTS][:-1] + bytes([files[WEIGHTS][-1] ^ 1]))
    with pytest.raises(ModelCorruptError, match="is damaged: its hash is not") as caught:
        verify(folder, Silence())
    assert f"bigcode models remove {NAME}" in str(caught.value.hint)


@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_every_storage_is_verified(tmp_path: Path, storage: str) -> None:
    source = write_folder(tmp_path / "source", model_files())
    model = load_model(GPTBigCodeForCausalLM, source, device="cpu", dtype=torch.float32)
    save_model(model, model.config, tmp_path / "model", storage=storage)  # type: ignore[arg-type]
    (tmp_path / "model" / "tokenizer.json").write_bytes(model_files()["tokenizer.json"])
    assert check(tmp_path / "model").tensors == len(list(model.parameters()))


def test_shards_are_verified(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", model_files())
    model = load_model(GPTBigCodeForCausalLM, source, device="cpu", dtype=torch.float32)
    save_model(model, model.config, tmp_path / "model", max_shard_bytes=50_000)
    (tmp_path / "model" / "tokenizer.json").write_bytes(model_files()["tokenizer.json"])
    names = [file.name for file in check(tmp_path / "model").files]
    assert names[:3] == ["config.json", "tokenizer.json", "model.safetensors.index.json"]
    assert len(names) > 4


def test_bin_weights_are_verified(tmp_path: Path) -> None:
    files = {name: content for name, content in model_files().items() if name != WEIGHTS}
    folder = write_folder(tmp_path / "model", files)
    source = write_folder(tmp_path / "source", model_files())
    state = load_model(
        GPTBigCodeForCausalLM, source, device="cpu", dtype=torch.float32
    ).state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    assert [file.name for file in check(folder).files][-1] == "pytorch_model.bin"


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_number_that_is_none_is_named(tmp_path: Path, value: str) -> None:
    folder = write_folder(tmp_path / "model", model_files())
    weights = bytearray(model_files()[WEIGHTS])
    (length,) = struct.unpack("<Q", weights[:8])
    start = 8 + length + header_of(weights)["transformer.h.1.ln_1.weight"]["data_offsets"][0]
    weights[start : start + 2] = struct.pack("<f", float(value))[2:]
    (folder / WEIGHTS).write_bytes(weights)
    with pytest.raises(ModelCorruptError, match=r"transformer\.h\.1\.ln_1\.weight holds NaN"):
        check(folder)


def test_truncated_weights_are_corrupt(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", model_files())
    for length in (0, 7, 100, len(model_files()[WEIGHTS]) - 1):
        (folder / WEIGHTS).write_bytes(model_files()[WEIGHTS][:length])
        with pytest.raises(ModelCorruptError, match=WEIGHTS):
            check(folder)


def test_weights_without_a_tensor_are_incomplete(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path / "model", {**model_files(), WEIGHTS: struct.pack("<Q", 2) + b"{}"}
    )
    with pytest.raises(ModelIncompleteError, match="hold no tensor"):
        check(folder)


@pytest.mark.parametrize(
    ("name", "content", "leaf"),
    [
        ("config.json", b"{", ModelCorruptError),
        ("config.json", b'{"model_type": "llama"}', ModelUnsupportedError),
        ("tokenizer.json", b"{", ModelCorruptError),
        ("tokenizer.json", b'{"model": {"type": "Unigram"}}', ModelUnsupportedError),
    ],
)
def test_other_broken_files_are_told(
    tmp_path: Path, name: str, content: bytes, leaf: type[ModelError]
) -> None:
    folder = write_folder(tmp_path / "model", {**model_files(), name: content})
    with pytest.raises(leaf):
        check(folder)
