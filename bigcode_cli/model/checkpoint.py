"""A model folder into memory and back: mapped, checked, converted one tensor at a time.

The model is built on the meta device, without memory, and each of its tensors is put in place as
it is read: a tensor that needs no conversion stays mapped from its file, any other is converted and
its mapping given back, so that the weights are never in memory twice. Nothing in a folder is
trusted: no pickle runs code, no name leads out of the folder, and every number is finite.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from bigcode_cli.errors import (
    ModelCorruptError,
    ModelIncompleteError,
    ModelTooLargeError,
    ModelUnsupportedError,
    OutputError,
    UsageError,
)
from bigcode_cli.model.attention import require_flash
from bigcode_cli.model.config import CONFIG_NAME, GPTBigCodeConfig
from bigcode_cli.model.gpt_bigcode import GPTBigCodeForCausalLM
from bigcode_cli.model.quantize import (
    dequantize_int8,
    install,
    is_quantized,
    quantize_int4,
    quantize_int8,
)
from bigcode_cli.model.stored import LM_HEAD, WTE, Stored, read_stored
from bigcode_cli.model.tensor_index import SAFETENSORS_INDEX_NAME, SAFETENSORS_NAME, SCALE_SUFFIX
from bigcode_cli.records import Quantize

LoadProgress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) after each tensor."""

Storage = Literal["float32", "bfloat16", "int8"]

_PART = ".part"


def load_model(
    folder: Path,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    quantize: Quantize = "none",
    attn_implementation: str = "auto",
    progress: LoadProgress | None = None,
) -> GPTBigCodeForCausalLM:
    """Load the model in ``folder``, in evaluation mode.

    Where the rows of ``wte`` disagree with the configuration's ``vocab_size``, or an ``lm_head``
    of its own is stored, the tensors are right: see the loaded model's ``config``.

    Raises:
        ModelIncompleteError: a file or a tensor is missing.
        ModelCorruptError: a file is malformed, or a tensor holds NaN or infinity or has a wrong
            shape.
        ModelUnsupportedError: another architecture, tensors that GPTBigCode does not have, or
            weights beyond the range of ``dtype``.
        ModelTooLargeError: the device has no memory for the weights.
        UsageError: ``attn_implementation`` is unknown or cannot work on this device.
    """
    device = torch.device(device)
    stored = read_stored(folder)
    config = _fit_config(GPTBigCodeConfig.from_file(folder), stored)
    if attn_implementation == "flash_attention_2":
        require_flash(device, dtype, config.head_dim)
    with torch.device("meta"):
        model = GPTBigCodeForCausalLM(config, attn_implementation)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    _check_names(folder, shapes, stored)
    reader = _Reader(model, stored, device, dtype, quantize)
    total, done = sum(stored[name].size for name in shapes), 0
    for name in [name for name in stored if name in shapes]:
        try:
            reader.load(name)
        except torch.OutOfMemoryError as error:
            raise ModelTooLargeError(
                f"{device} has no memory left for the weights", "try --quantize int8"
            ) from error
        done += stored[name].size
        if progress is not None:
            progress(done, total)
    return model.eval()


def _fit_config(config: GPTBigCodeConfig, stored: Mapping[str, Stored]) -> GPTBigCodeConfig:
    """Trust the tensors: vocabulary rows, and whether ``lm_head`` is the embedding itself."""
    if WTE in stored and len(stored[WTE].shape) == 2:
        config = replace(config, vocab_size=stored[WTE].shape[0])
        if LM_HEAD in stored:
            head, embedding = stored[LM_HEAD], stored[WTE]
            tied = _same(head.read(), embedding.read())
            config = replace(config, tie_word_embeddings=tied)
    return config


def _same(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(first, second)


def _check_names(
    folder: Path, shapes: Mapping[str, tuple[int, ...]], stored: Mapping[str, Stored]
) -> None:
    """Raise unless the folder holds exactly these tensors."""
    missing = [name for name in shapes if name not in stored]
    if missing:
        raise ModelIncompleteError(f"{folder}: {_listed(missing)} missing from the weights")
    scales = {name + SCALE_SUFFIX for name in shapes if stored[name].quantized}
    surplus = [name for name in stored if name not in shapes and name not in scales | {LM_HEAD}]
    if surplus:
        raise ModelUnsupportedError(f"{folder}: GPTBigCode has no {_listed(surplus)}")
    for name, shape in shapes.items():
        if stored[name].shape != shape:
            raise ModelCorruptError(
                f"{folder}: {name} has shape {stored[name].shape} where config.json says {shape}"
            )


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"{name:.100}" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more tensors"


@dataclass(frozen=True, slots=True)
class _Reader:
    """Puts stored tensors into a model that has no memory yet."""

    model: GPTBigCodeForCausalLM
    stored: Mapping[str, Stored]
    device: torch.device
    dtype: torch.dtype
    quantize: Quantize

    def load(self, name: str) -> None:
        """Read, check, convert and put in place one tensor, a tied ``lm_head`` with ``wte``."""
        names = [name]
        if name == WTE and self.model.config.tie_word_embeddings:
            names.append(LM_HEAD)
        raw = self.stored[name].read()
        scale = self._scale(name) if self.stored[name].quantized else None
        if self.quantize == "none" or not is_quantized(name):
            parameter = nn.Parameter(self._dense(name, raw, scale, self.dtype))
            for place in names:
                module = self.model.get_submodule(place.rpartition(".")[0])
                setattr(module, place.rpartition(".")[2], parameter)
            return
        if self.quantize == "int4" and name not in {WTE, LM_HEAD}:
            codes, scale = quantize_int4(self._dense(name, raw, scale, torch.float32))
        elif scale is None:
            codes, scale = quantize_int8(self._dense(name, raw, None, torch.float32))
        else:
            codes = raw.to(self.device)
        for place in names:
            install(self.model, place, codes, scale, self.dtype)

    def _scale(self, name: str) -> Tensor:
        """The float32 factors ``(rows,)`` of an int8 tensor."""
        shape = self.stored[name].shape[:1]
        factors = self.stored.get(name + SCALE_SUFFIX)
        if factors is None:
            raise ModelIncompleteError(f"{name + SCALE_SUFFIX} is missing from the weights")
        if factors.shape != shape:
            raise ModelCorruptError(f"{name + SCALE_SUFFIX} has shape {factors.shape}, not {shape}")
        return self._dense(name + SCALE_SUFFIX, factors.read(), None, torch.float32)

    def _dense(self, name: str, raw: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
        """The tensor in ``dtype`` on the device, all of it finite."""
        if scale is not None:
            numbers = dequantize_int8(raw.to(self.device), scale, dtype)
        elif raw.is_floating_point():
            numbers = raw.to(self.device, dtype)
        else:
            raise ModelUnsupportedError(f"{name} is of type {raw.dtype}, which no weights have")
        if not is_finite(numbers):
            if scale is None and not is_finite(raw):
                raise ModelCorruptError(f"{name} holds NaN or infinity", "download the model again")
            raise ModelUnsupportedError(
                f"{name} holds numbers beyond {str(dtype).removeprefix('torch.')}",
                "try --dtype bfloat16 or float32",
            )
        return numbers


def is_finite(numbers: Tensor) -> bool:
    """Whether no number is NaN or infinite, in one pass and without a copy."""
    if numbers.numel() == 0:
        return True
    low, high = torch.aminmax(numbers)
    return bool(torch.isfinite(low) & torch.isfinite(high))


def save_model(
    model: nn.Module | Mapping[str, Tensor],
    config: GPTBigCodeConfig,
    folder: Path,
    storage: Storage = "bfloat16",
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write ``config.json`` and the weights into ``folder``, which is made if it is not there.

    Apart from ``int8`` storage, transformers loads the folder as it is. Every file is written under
    another name first, so that a full disk leaves nothing half-written behind.

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
    head = state.get(LM_HEAD)
    tied = head is None or _same(head, state[WTE])
    if tied:
        state.pop(LM_HEAD, None)
    config = replace(config, tie_word_embeddings=tied, vocab_size=state[WTE].shape[0])
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
        _write_tensors(folder / (name + _PART), tensors)
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


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """A safetensors file with the permissions of any new file; the library makes it private."""
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(mode)


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
