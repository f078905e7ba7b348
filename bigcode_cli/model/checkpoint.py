"""A model folder into memory and back: mapped, checked, converted one tensor at a time.

The model is built on the meta device, without memory, and each of its tensors is put in place as
it is read: a tensor that needs no conversion stays mapped from its file, any other is converted and
its mapping given back, so that the weights are never in memory twice. Nothing in a folder is
trusted: no pickle runs code, no name leads out of the folder, and every number is finite.
"""

import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bigcode_cli.errors import (
    ModelCorruptError,
    ModelIncompleteError,
    ModelTooLargeError,
    ModelUnsupportedError,
)
from bigcode_cli.model.attention import require_flash
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.gpt_bigcode import GPTBigCodeForCausalLM
from bigcode_cli.model.quantize import (
    dequantize_int8,
    install,
    is_quantized,
    quantize_int4,
    quantize_int8,
)
from bigcode_cli.model.tensor_index import SCALE_SUFFIX, TensorEntry, read_tensor_index
from bigcode_cli.records import Quantize

LoadProgress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) after each tensor."""

PREFIX = "transformer."
WTE = "transformer.wte.weight"
LM_HEAD = "lm_head.weight"

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a checkpoint: its shape now, its numbers when asked for."""

    shape: tuple[int, ...]
    size: int
    read: Callable[[], Tensor]


def load_model(
    folder: Path,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    quantize: Quantize = "none",
    attention: str = "sdpa",
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
        UsageError: ``attention`` is unknown or cannot work on this device.
    """
    device = torch.device(device)
    if attention == "flash":
        require_flash(device, dtype)
    stored = read_stored(folder)
    config = _fit_config(GPTBigCodeConfig.from_file(folder), stored)
    with torch.device("meta"):
        model = GPTBigCodeForCausalLM(config, attention)
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


def read_stored(folder: Path) -> dict[str, Stored]:
    """All tensors of a folder's weights by the names that the model gives them, in file order.

    Checkpoints of the bare transformer lack its prefix; it is added. Buffers of old versions, the
    causal mask among them, are left out.

    Raises:
        ModelIncompleteError, ModelCorruptError: as ``load_model``.
    """
    index = read_tensor_index(folder)
    if index.kind == "bin":
        found = {name: stored for path in index.files for name, stored in _read_bin(path)}
    else:
        in_order = sorted(index.entries.items(), key=lambda item: (item[1].file, item[1].start))
        found = {
            name: Stored(entry.shape, entry.stop - entry.start, partial(map_tensor, entry))
            for name, entry in in_order
        }
    bare = "wte.weight" in found
    return {
        PREFIX + name if bare and name != LM_HEAD else name: stored
        for name, stored in found.items()
        if not name.endswith((".attn.bias", ".attn.masked_bias"))
        and name not in {"bias", "transformer.bias"}
    }


def map_tensor(entry: TensorEntry) -> Tensor:
    """The tensor's bytes, mapped from its file; writing to it leaves the file as it is.

    Raises:
        ModelCorruptError: the file has changed since its header was read.
        ModelUnsupportedError: the tensor is of a type that no weights have.
    """
    if entry.dtype not in _DTYPES:
        raise ModelUnsupportedError(f"{entry.file} holds weights of type {entry.dtype}")
    dtype = _DTYPES[entry.dtype]
    if entry.start == entry.stop:
        return torch.empty(entry.shape, dtype=dtype)
    before = entry.start % mmap.ALLOCATIONGRANULARITY
    try:
        with entry.file.open("rb") as file:
            mapped = mmap.mmap(
                file.fileno(),
                entry.stop - entry.start + before,
                access=mmap.ACCESS_COPY,
                offset=entry.start - before,
            )
    except (OSError, ValueError) as error:
        raise ModelCorruptError(f"{entry.file} cannot be mapped: {error}") from error
    numbers = torch.frombuffer(mapped, dtype=torch.uint8, offset=before)
    if before % dtype.itemsize:
        numbers = numbers.clone()
    return numbers.view(dtype).view(entry.shape)


def _read_bin(path: Path) -> Iterator[tuple[str, Stored]]:
    """The tensors of a ``.bin`` file, mapped; its pickle may build tensors and nothing else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # what an untrusted pickle raises is up to whoever wrote it
        raise ModelCorruptError(
            f"{path} is no PyTorch file of plain tensors", "use a safetensors version of the model"
        ) from error
    if not isinstance(state, Mapping):
        raise ModelCorruptError(f"{path} holds no named tensors")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ModelCorruptError(f"{path}: {name!r:.100} is no named tensor")
        if value.layout != torch.strided or value.device.type != "cpu":
            raise ModelCorruptError(f"{path}: tensor {name!r:.100} is not a plain dense tensor")
        yield name, Stored(tuple(value.shape), value.nbytes, value.detach)


def _fit_config(config: GPTBigCodeConfig, stored: Mapping[str, Stored]) -> GPTBigCodeConfig:
    """Trust the tensors: vocabulary rows, and whether ``lm_head`` is the embedding itself."""
    if WTE in stored and len(stored[WTE].shape) == 2:
        config = replace(config, vocab_size=stored[WTE].shape[0])
        if LM_HEAD in stored:
            head, embedding = stored[LM_HEAD], stored[WTE]
            tied = head.shape == embedding.shape and torch.equal(head.read(), embedding.read())
            config = replace(config, tie_word_embeddings=tied)
    return config


def _check_names(
    folder: Path, shapes: Mapping[str, tuple[int, ...]], stored: Mapping[str, Stored]
) -> None:
    """Raise unless the folder holds exactly these tensors."""
    missing = [name for name in shapes if name not in stored]
    if missing:
        raise ModelIncompleteError(f"{folder}: {_listed(missing)} missing from the weights")
    scales = {name + SCALE_SUFFIX for name in shapes}
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
        scale = self._scale(name) if raw.dtype == torch.int8 else None
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
            raise ModelUnsupportedError(f"{name} holds {raw.dtype}, which is no type of weights")
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
