"""What tensors a checkpoint holds and where: read from its headers alone, free of torch.

The safetensors format (https://github.com/huggingface/safetensors#format): eight bytes, the length
N of the header as a little-endian integer; N bytes, a JSON object of tensor names to dtype, shape
and byte range; then the bytes of all tensors without gap or overlap. Nothing in it is trusted.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bigcode_cli.errors import ModelCorruptError, ModelIncompleteError
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.files import folder_file, parse_json_object, read_json

SAFETENSORS_SUFFIX = ".safetensors"
SAFETENSORS_NAME = "model.safetensors"
SAFETENSORS_INDEX_NAME = "model.safetensors.index.json"
BIN_NAME = "pytorch_model.bin"
BIN_INDEX_NAME = "pytorch_model.bin.index.json"

SCALE_SUFFIX = "_scale"
"""``NAME_scale`` holds the float32 factor of each row of the int8 tensor ``NAME``."""

FACTORS = (".up", ".down")
"""``NAME.up`` and ``NAME.down`` of a folder of differences: see ``model.low_rank``."""

INT4_GROUP = 64
"""Columns that share one factor in int4."""

ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_MAX_DIMENSIONS = 8
_FLOAT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_Ranges = dict[str, "TensorEntry"]


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one tensor lies.

    Attributes:
        file: the file that holds it.
        dtype: as the format spells it: ``F32``, ``BF16`` …
        start: its first byte, counted from the file's beginning.
        stop: the byte after its last.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def quantized(self) -> bool:
        """Whether it holds int8 codes, whose factors are another tensor."""
        return self.dtype == "I8"


@dataclass(frozen=True, slots=True)
class TensorIndex:
    """The weights of a model folder.

    Attributes:
        folder: the model's folder.
        kind: ``bin`` files keep their shapes to themselves.
        files: all files that hold weights.
        entries: tensors by name; empty for ``bin``.
    """

    folder: Path
    kind: Literal["safetensors", "bin"]
    files: tuple[Path, ...]
    entries: Mapping[str, TensorEntry]

    def weight_bytes(self, dtype: str, quantize: str) -> int:
        """Bytes that the loaded model's weights take.

        Args:
            dtype: ``float32``, ``float16`` or ``bfloat16``.
            quantize: ``none``, ``int8`` or ``int4``: the matrices take ``matrix_bits``, the rest
                is as ``dtype`` says.

        Raises:
            ModelError: a ``bin`` folder has no usable ``config.json`` to count from.
        """
        if self.kind == "bin":
            shapes = GPTBigCodeConfig.from_file(self.folder).tensor_shapes()
        else:
            shapes = {
                name: entry.shape for name, entry in self.entries.items() if not self.is_scale(name)
            }
        return loaded_bytes(shapes, dtype, quantize)

    def over(self, base: "TensorIndex") -> "TensorIndex":
        """These weights where they are stored, those of ``base`` for all else.

        Factors of a change to a matrix are left out: they are gone once it is loaded.
        """
        kept = {
            name: entry
            for name, entry in base.entries.items()
            if name.removesuffix(SCALE_SUFFIX) not in self.entries
        }
        own = {name: entry for name, entry in self.entries.items() if not name.endswith(FACTORS)}
        return TensorIndex(self.folder, base.kind, (*base.files, *self.files), {**kept, **own})

    def is_scale(self, name: str) -> bool:
        """Whether ``name`` holds the factors of an int8 tensor."""
        base = self.entries.get(name.removesuffix(SCALE_SUFFIX))
        return name.endswith(SCALE_SUFFIX) and base is not None and base.quantized


def loaded_bytes(shapes: Mapping[str, tuple[int, ...]], dtype: str, quantize: str) -> int:
    """Bytes that weights of these names and shapes take: see ``TensorIndex.weight_bytes``."""
    item = _FLOAT_BYTES[dtype]
    return sum(_loaded_bytes(name, shape, item, quantize) for name, shape in shapes.items())


def matrix_bits(name: str, quantize: str) -> Literal[8, 4]:
    """Bits of a quantised matrix, factors left out: its name decides, so that sizes are known.

    With ``int4`` the feed-forward layers take 4 bits, two thirds of a model and more. Attention and
    the first layer keep 8: of all matrices they lose most by rounding for the memory they take.
    """
    is_four = quantize == "int4" and ".mlp." in name and not name.startswith("transformer.h.0.")
    return 4 if is_four else 8


def _loaded_bytes(name: str, shape: tuple[int, ...], item: int, quantize: str) -> int:
    if quantize == "none" or len(shape) != 2 or name.endswith("wpe.weight"):
        return math.prod(shape) * item
    rows, columns = shape
    if matrix_bits(name, quantize) == 8:
        return rows * (columns + 4)
    groups = math.ceil(columns / INT4_GROUP)
    return rows * groups * (INT4_GROUP // 2 + 4)


def read_tensor_index(folder: Path) -> TensorIndex:
    """Find a folder's weights: safetensors before ``.bin``, one file before shards.

    Raises:
        ModelIncompleteError: there are no weights, or a shard or a tensor is missing.
        ModelCorruptError: a header, a byte range or a shard's name is wrong, or a file is cut off.
    """
    if _is_there(folder, SAFETENSORS_NAME):
        path = folder_file(folder, SAFETENSORS_NAME)
        return TensorIndex(folder, "safetensors", (path,), read_header(path))
    if _is_there(folder, SAFETENSORS_INDEX_NAME):
        return _read_shards(folder)
    if _is_there(folder, BIN_NAME):
        return TensorIndex(folder, "bin", (folder_file(folder, BIN_NAME),), {})
    if _is_there(folder, BIN_INDEX_NAME):
        shards = sorted(set(_weight_map(folder, BIN_INDEX_NAME, ".bin").values()))
        files = tuple(folder_file(folder, shard) for shard in shards)
        return TensorIndex(folder, "bin", files, {})
    raise ModelIncompleteError(
        f"{folder} holds no weights", f"{SAFETENSORS_NAME} or {BIN_NAME}, or their shards, go there"
    )


def _is_there(folder: Path, name: str) -> bool:
    path = folder / name
    return path.is_symlink() or path.exists()


def _read_shards(folder: Path) -> TensorIndex:
    weight_map = _weight_map(folder, SAFETENSORS_INDEX_NAME, SAFETENSORS_SUFFIX)
    paths = {shard: folder_file(folder, shard) for shard in sorted(set(weight_map.values()))}
    headers = {shard: read_header(path) for shard, path in paths.items()}
    missing = [name for name, shard in weight_map.items() if name not in headers[shard]]
    if missing:
        name = missing[0]
        raise ModelIncompleteError(f"tensor {name} is missing from {paths[weight_map[name]]}")
    entries = {name: headers[shard][name] for name, shard in weight_map.items()}
    return TensorIndex(folder, "safetensors", tuple(paths.values()), entries)


def _weight_map(folder: Path, name: str, suffix: str) -> dict[str, str]:
    """Tensor names to shard names, out of a shard index."""
    weight_map = read_json(folder, name).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelCorruptError(f"{folder / name} has no weight_map")
    for shard in weight_map.values():
        if not isinstance(shard, str) or not shard.endswith(suffix):
            raise ModelCorruptError(
                f"{folder / name} names {shard!r:.60}, which is no {suffix} file"
            )
    return weight_map


def read_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors of one safetensors file.

    Raises:
        ModelCorruptError: the header is malformed, or the file is longer or shorter than it says.
        ModelIncompleteError: the file cannot be read.
    """
    header, base, size = _read_header(path)
    header.pop("__metadata__", None)
    entries = {name: _entry(path, name, value, base) for name, value in header.items()}
    _check_ranges(path, entries, base, size)
    return entries


def read_metadata(path: Path) -> dict[str, Any]:
    """What a safetensors file says of itself.

    Raises:
        ModelCorruptError, ModelIncompleteError: as ``read_header``.
    """
    told = _read_header(path)[0].get("__metadata__")
    return told if isinstance(told, dict) else {}


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """The JSON object of a header, where the tensors begin, and how long the file is."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
                raise ModelCorruptError(
                    f"{path} is cut off or no safetensors file", "download the model again"
                )
            header = parse_json_object(file.read(length), f"the header of {path}")
    except OSError as error:
        raise ModelIncompleteError(f"{path} cannot be read: {error.strerror}") from error
    return header, 8 + length, size


def _entry(path: Path, name: str, value: object, base: int) -> TensorEntry:
    """One entry of a header, its byte range counted from the file's beginning."""

    def wrong(what: str) -> ModelCorruptError:
        return ModelCorruptError(f"{path}: tensor {name!r:.100} has {what}")

    if not isinstance(value, dict):
        raise wrong("no description")
    dtype = value.get("dtype")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise wrong(f"an unknown dtype {dtype!r:.20}")
    shape = _counts(value.get("shape"))
    if shape is None or len(shape) > _MAX_DIMENSIONS:
        raise wrong("no proper shape")
    offsets = _counts(value.get("data_offsets"))
    if offsets is None or len(offsets) != 2:
        raise wrong("no proper byte range")
    start, stop = offsets
    if stop - start != math.prod(shape) * ITEM_BYTES[dtype]:
        raise wrong("a byte range that does not fit its shape")
    return TensorEntry(path, dtype, shape, base + start, base + stop)


def _counts(value: object) -> tuple[int, ...] | None:
    """A list of sizes or offsets; ``None`` if it is anything else."""
    if not isinstance(value, list):
        return None
    if not all(type(number) is int and 0 <= number < 2**63 for number in value):
        return None
    return tuple(value)


def _check_ranges(path: Path, entries: _Ranges, base: int, size: int) -> None:
    """Tensors cover everything behind the header, without gap or overlap."""
    end = base
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != end:
            raise ModelCorruptError(
                f"{path}: tensor {name!r:.100} overlaps another or leaves a gap"
            )
        end = entry.stop
    if end != size:
        raise ModelCorruptError(
            f"{path} has {size} bytes where its header says {end}", "download the model again"
        )
