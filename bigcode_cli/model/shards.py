"""Weights into safetensors files, each at most of one size, none of them half-written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from bigcode_cli.model.files import write_json
from bigcode_cli.model.quantize import quantize_int8
from bigcode_cli.model.tensor_index import SAFETENSORS_INDEX_NAME, SAFETENSORS_NAME, SCALE_SUFFIX

Storage = Literal["float32", "float16", "bfloat16", "int8"]
"""How weights lie on disk; with ``int8``, matrices do, and all else lies in bfloat16."""

STORED_AS = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.bfloat16,
}
"""The dtype of what is not int8."""

PART = ".part"
"""Ends the name of a file that is not whole yet."""


def write_weights(
    state: Mapping[str, Tensor], folder: Path, storage: Storage, max_shard_bytes: int
) -> None:
    """Write one file, or several and their index, in the place of what was there.

    Args:
        max_shard_bytes: of one file; a single tensor may be larger.

    Raises:
        OSError, SafetensorError: a file cannot be written; parts of it may be left.
    """
    shards = _shards(state, storage, max_shard_bytes)
    count = len(shards)
    names = [f"model-{at:05d}-of-{count:05d}.safetensors" for at in range(1, count + 1)]
    if count == 1:
        names = [SAFETENSORS_NAME]
    weight_map: dict[str, str] = {}
    total = 0
    for name, shard in zip(names, shards, strict=True):
        tensors: dict[str, Tensor] = {}
        for key in shard:
            tensors |= _encoded(key, state[key].detach(), storage)
        _write_tensors(folder / (name + PART), tensors)
        weight_map |= dict.fromkeys(tensors, name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    for name in names:
        (folder / (name + PART)).replace(folder / name)
    # A loader that meets both forms cannot know which is current.
    if count == 1:
        (folder / SAFETENSORS_INDEX_NAME).unlink(missing_ok=True)
    else:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(folder / SAFETENSORS_INDEX_NAME, index)
        (folder / SAFETENSORS_NAME).unlink(missing_ok=True)
    for path in folder.glob("model-?????-of-?????.safetensors"):
        if path.name not in names:
            path.unlink()


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """A safetensors file with the permissions of any new file; the library makes it private."""
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(mode)


def _shards(state: Mapping[str, Tensor], storage: Storage, max_shard_bytes: int) -> list[list[str]]:
    """Names of the tensors of each file, in the model's order."""
    item = 1 if storage == "int8" else STORED_AS[storage].itemsize
    shards: list[list[str]] = [[]]
    filled = 0
    for name, tensor in state.items():
        size = tensor.numel() * item
        if shards[-1] and filled + size > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _encoded(name: str, tensor: Tensor, storage: Storage) -> dict[str, Tensor]:
    """What is stored for one tensor, on the CPU."""
    if storage == "int8" and tensor.dim() == 2:
        codes, scale = quantize_int8(tensor)
        return {name: codes.cpu(), name + SCALE_SUFFIX: scale.cpu()}
    return {name: tensor.to("cpu", STORED_AS[storage]).contiguous()}
