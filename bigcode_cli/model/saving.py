"""A model's weights into a folder: safetensors, in shards where they are large, and config.json.

Apart from ``int8`` storage the folder is one that transformers loads as it is. Every file is
written under another name first, so that a full disk leaves nothing half-written behind.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from bigcode_cli.errors import OutputError, UsageError
from bigcode_cli.model.config import CONFIG_NAME, GPTBigCodeConfig
from bigcode_cli.model.quantize import quantize_int8
from bigcode_cli.model.tensor_index import (
    SAFETENSORS_INDEX_NAME,
    SAFETENSORS_NAME,
    SCALE_SUFFIX,
)

Storage = Literal["float32", "bfloat16", "int8"]

_WTE = "transformer.wte.weight"
_LM_HEAD = "lm_head.weight"
_PART = ".part"


def save_model(
    model: nn.Module | Mapping[str, Tensor],
    config: GPTBigCodeConfig,
    folder: Path,
    storage: Storage = "bfloat16",
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write ``config.json`` and the weights into ``folder``, which is made if it is not there.

    Args:
        model: the model or its state dict, not quantised; an ``lm_head`` equal to the token
            embedding is left out and the configuration says that it is tied.
        storage: ``int8`` keeps each matrix as int8 with a float32 factor for each output row
            beside it, under the matrix's name and ``_scale``, and all else in bfloat16.
        max_shard_bytes: of one file; a single tensor may be larger.

    Raises:
        OutputError: the folder cannot be written to.
        UsageError: the model is quantised.
    """
    state = dict(model.state_dict() if isinstance(model, nn.Module) else model)
    if any(not tensor.is_floating_point() for tensor in state.values()):
        raise UsageError("a quantised model cannot be saved", "load it without --quantize")
    head = state.get(_LM_HEAD)
    tied = head is None or head is state[_WTE] or torch.equal(head, state[_WTE])
    if tied:
        state.pop(_LM_HEAD, None)
    config = replace(config, tie_word_embeddings=tied, vocab_size=state[_WTE].shape[0])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_weights(state, folder, storage, max_shard_bytes)
        _write_json(folder / CONFIG_NAME, _description(config, storage))
    except (OSError, SafetensorError) as error:
        for part in folder.glob(f"*{_PART}"):
            part.unlink(missing_ok=True)
        raise OutputError(f"the model cannot be written to {folder}: {error}") from error


def _description(config: GPTBigCodeConfig, storage: Storage) -> dict[str, object]:
    kept = {"architectures": ["GPTBigCodeForCausalLM"]} | config.to_dict()
    return kept | {"torch_dtype": "float32" if storage == "float32" else "bfloat16"}


def _write_weights(
    state: Mapping[str, Tensor], folder: Path, storage: Storage, max_shard_bytes: int
) -> None:
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
        save_file(tensors, folder / (name + _PART), metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    for name in names:
        (folder / (name + _PART)).replace(folder / name)
    # A loader that meets both forms cannot know which is current.
    if count == 1:
        (folder / SAFETENSORS_INDEX_NAME).unlink(missing_ok=True)
    else:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        _write_json(folder / SAFETENSORS_INDEX_NAME, index)
        (folder / SAFETENSORS_NAME).unlink(missing_ok=True)


def _shards(state: Mapping[str, Tensor], storage: Storage, max_shard_bytes: int) -> list[list[str]]:
    """Names of the tensors of each file, in the model's order."""
    item = {"float32": 4, "bfloat16": 2, "int8": 1}[storage]
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
    dtype = torch.float32 if storage == "float32" else torch.bfloat16
    return {name: tensor.to("cpu", dtype).contiguous()}


def _write_json(path: Path, value: object) -> None:
    part = path.with_name(path.name + _PART)
    part.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(path)
