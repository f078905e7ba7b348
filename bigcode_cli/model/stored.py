"""The tensors of a checkpoint as they lie on disk: named, shaped, mapped when asked for."""

import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bigcode_cli.errors import ModelCorruptError, ModelIncompleteError, ModelUnsupportedError
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.low_rank import with_factors
from bigcode_cli.model.names import with_model_names
from bigcode_cli.model.tensor_index import SCALE_SUFFIX, TensorEntry, read_tensor_index

FLOATS = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
"""The dtypes that a configuration may name and a model may run in."""

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
    """One tensor of a checkpoint: what it is now, its numbers when asked for.

    Attributes:
        size: bytes.
        quantized: int8 codes, whose factors are another tensor.
        factors: two more tensors whose product is to be added: see ``model.low_rank``.
    """

    shape: tuple[int, ...]
    size: int
    quantized: bool
    read: Callable[[], Tensor]
    factors: tuple["Stored", "Stored"] | None = None


def read_stored(folder: Path, base: Path | None = None) -> dict[str, Stored]:
    """All tensors of a folder's weights by the names of ``with_model_names``, in file order.

    Args:
        base: a folder of tensors that this one does not hold, or holds the factors of a change to.

    Raises:
        ModelIncompleteError, ModelCorruptError: as ``load_model``.
    """
    if base is not None:
        own = read_stored(folder)
        below = read_stored(base).items()
        kept = {name: at for name, at in below if name.removesuffix(SCALE_SUFFIX) not in own}
        return with_factors(own, kept)
    index = read_tensor_index(folder)
    if index.kind == "bin":
        found = {name: stored for path in index.files for name, stored in _read_bin(path)}
    else:
        in_order = sorted(index.entries.items(), key=lambda item: (item[1].file, item[1].start))
        found = {
            name: Stored(
                entry.shape,
                entry.stop - entry.start,
                entry.quantized,
                partial(map_tensor, name, entry),
            )
            for name, entry in in_order
        }
    return with_model_names(found)


def dtype_meant(config: GPTBigCodeConfig, stored: Mapping[str, Stored]) -> torch.dtype:
    """What the configuration names as the model's dtype, else the widest that is stored."""
    for key in ("dtype", "torch_dtype"):
        named = config.extra.get(key)
        if isinstance(named, str) and named in FLOATS:
            return FLOATS[named]
    return widest_dtype(stored)


def widest_dtype(stored: Mapping[str, Stored]) -> torch.dtype:
    """The widest type of the tensors that are no codes: what loses nothing.

    Raises:
        ModelIncompleteError: there is no tensor.
    """
    dtypes = {tensor.read().dtype for tensor in stored.values()}
    if not dtypes:
        raise ModelIncompleteError("the weights hold no tensor")
    floats = {dtype for dtype in dtypes if dtype.is_floating_point}
    return max(floats or {torch.float32}, key=lambda dtype: dtype.itemsize)


def map_tensor(name: str, entry: TensorEntry) -> Tensor:
    """The tensor's bytes, mapped from its file; writing to it leaves the file as it is.

    Raises:
        ModelCorruptError: the file has changed since its header was read.
        ModelUnsupportedError: the tensor is of a type that no weights have.
    """
    if entry.dtype not in _DTYPES:
        raise ModelUnsupportedError(f"{name} is of type {entry.dtype}, which no weights have")
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
        quantized = value.dtype == torch.int8
        yield name, Stored(tuple(value.shape), value.nbytes, quantized, value.detach)
