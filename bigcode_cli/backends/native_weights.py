"""A model folder's weights for the native engine: found, checked and mapped, without torch.

The engine multiplies weights as they are stored, so that nothing is converted and nothing copied.
Its activations are float32 whatever the weights are: ``--dtype`` can ask for no more than weights
that are stored so. What it cannot use in place is told by ``NativeUnsupportedError``.
"""

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass

from bigcode_cli.backends.mapped import map_tensors
from bigcode_cli.backends.memory import free_host_bytes, gigabytes, require_memory
from bigcode_cli.errors import ModelError, OutputError, UsageError
from bigcode_cli.kernels.native.assembly import unsupported
from bigcode_cli.kernels.native.library import FORMATS
from bigcode_cli.kernels.native.tensors import Tensor
from bigcode_cli.model.checks import check_names, check_shapes
from bigcode_cli.model.config import BASE_KEY, GPTBigCodeConfig
from bigcode_cli.model.names import HEADS, LM_HEAD, WTE, is_quantized, with_model_names
from bigcode_cli.model.quantized_files import metadata, quantized_path
from bigcode_cli.model.tensor_index import (
    FACTORS,
    ITEM_BYTES,
    SCALE_SUFFIX,
    TensorEntry,
    TensorIndex,
    read_header,
    read_tensor_index,
)
from bigcode_cli.records import LoadOptions, ModelFolder, Quantize, Reporter

_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "I8": "int8"}


class NativeUnsupportedError(UsageError):
    """A model, or a way to load it, that PyTorch takes and the native engine does not."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "use --backend torch")


@dataclass(frozen=True, slots=True)
class Opened:
    """Weights that lie ready.

    Attributes:
        config: as the tensors have it: rows of the vocabulary, and whether ``lm_head`` is tied.
        tensors: by the checkpoint's names, ``lm_head.weight`` only if it is not tied.
        weights: what the matrices are stored in: ``float32`` …, ``int8`` or ``int4``.
        quantises: products of int8 matrices may round activations to int8 too.
    """

    config: GPTBigCodeConfig
    tensors: Mapping[str, Tensor]
    weights: str
    quantises: bool
    dtype: str = "float32"

    @property
    def weight_bytes(self) -> int:
        """What the weights occupy."""
        return sum(_size(tensor) for tensor in self.tensors.values())


def open_tensors(folder: ModelFolder, options: LoadOptions, report: Reporter) -> Opened:
    """Map a folder's weights, quantised ones once they have been made.

    Raises:
        NativeUnsupportedError: the engine does not take them as they are, and PyTorch does.
        ModelError: they are missing, corrupt, of another architecture or too large.
    """
    config = GPTBigCodeConfig.from_file(folder.path)
    check_config(config)
    index = read_tensor_index(folder.path)
    has_factors = any(name.endswith(FACTORS) for name in index.entries)
    if folder.base is not None:
        index = index.over(read_tensor_index(folder.base))
    is_ready = not has_factors and _is_stored_as(index, options.quantize)
    if options.quantize != "none" and not is_ready:
        tensors = _quantised(folder, index, options.quantize, report)
        return _opened(config, tensors, options.quantize, quantises=True)
    if has_factors:
        raise NativeUnsupportedError(
            "the native engine maps weights as they are stored, and this model's are to be added up"
        )
    found = _usable(index, options)
    fitting = _fitted(config, found)
    shapes = fitting.tensor_shapes()
    check_names(
        folder.path, shapes, found, is_difference=folder.base is None and BASE_KEY in config.extra
    )
    check_shapes(folder.path, shapes, found, is_own=True)
    if unused := [name for name in found if name in HEADS and name != LM_HEAD]:
        left_out = " and ".join(unused)
        report.note(f"{folder.path} has {left_out}, left out of a GPTBigCodeForCausalLM")
    needed = {*shapes, *(name + SCALE_SUFFIX for name in shapes)}
    entries = {name: entry for name, entry in found.items() if name in needed}
    _require_memory(folder, sum(entry.stop - entry.start for entry in entries.values()))
    weights = _NAMES[entries[WTE].dtype]
    return _opened(config, map_tensors(entries), weights, quantises=options.quantize != "none")


def check_config(config: GPTBigCodeConfig) -> None:
    """Refuse what the engine cannot calculate.

    Raises:
        NativeUnsupportedError: names it.
    """
    if (reason := unsupported(config)) is not None:
        raise NativeUnsupportedError(reason)


def _opened(
    config: GPTBigCodeConfig, tensors: dict[str, Tensor], weights: str, *, quantises: bool
) -> Opened:
    if LM_HEAD in tensors and _same(tensors, LM_HEAD, WTE):
        tensors = {
            name: tensor
            for name, tensor in tensors.items()
            if name not in {LM_HEAD, LM_HEAD + SCALE_SUFFIX}
        }
        config = config.with_changes(tie_word_embeddings=True)
    return Opened(_fitted(config, tensors), tensors, weights, quantises)


def _fitted(
    config: GPTBigCodeConfig, found: Mapping[str, Tensor] | Mapping[str, TensorEntry]
) -> GPTBigCodeConfig:
    """Trust the tensors: rows of the vocabulary, and a head of its own if there is one."""
    if WTE in found and len(found[WTE].shape) == 2:
        config = config.with_changes(vocab_size=found[WTE].shape[0])
    return config.with_changes(tie_word_embeddings=False) if LM_HEAD in found else config


def _same(tensors: Mapping[str, Tensor], name: str, other: str) -> bool:
    """Whether two matrices hold the same bytes, their factors too."""
    first, second = tensors[name], tensors[other]
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    views = [(ctypes.c_char * _size(one)).from_address(one.address) for one in (first, second)]
    if memoryview(views[0]) != memoryview(views[1]):
        return False
    scales = name + SCALE_SUFFIX, other + SCALE_SUFFIX
    return scales[0] not in tensors or _same(tensors, *scales)


def _size(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * ITEM_BYTES[tensor.dtype]


def _is_stored_as(index: TensorIndex, quantize: Quantize) -> bool:
    """Whether all matrices are stored in the bits asked for."""
    matrices = [
        entry for name, entry in with_model_names(index.entries).items() if is_quantized(name)
    ]
    return quantize == "int8" and bool(matrices) and all(entry.quantized for entry in matrices)


def _usable(index: TensorIndex, options: LoadOptions) -> dict[str, TensorEntry]:
    """The tensors by the names of a model with a head, each of a type that the engine takes.

    Raises:
        NativeUnsupportedError: they are not safetensors, or of another type, or not of the one
            asked for.
    """
    if index.kind == "bin":
        raise NativeUnsupportedError("the native engine maps safetensors, and not .bin files")
    found = with_model_names(index.entries)
    for name, entry in found.items():
        # Bytes are codes of 4 bits to the engine, which no folder but its own has.
        if entry.dtype not in FORMATS or entry.dtype == "U8":
            raise NativeUnsupportedError(
                f"the native engine has no type {entry.dtype}, which {name:.100} is of"
            )
        scale = found.get(name + SCALE_SUFFIX)
        if entry.quantized and scale is not None and scale.dtype != "F32":
            raise NativeUnsupportedError(
                f"the native engine takes factors of type F32, and {name:.100} has {scale.dtype}"
            )
        if options.dtype in {"float16", "bfloat16"} and is_quantized(name):
            stored = _NAMES[entry.dtype]
            if stored not in {options.dtype, "int8"}:
                raise NativeUnsupportedError(
                    f"the native engine uses weights as they are stored, which is in {stored}"
                )
    return found


def _quantised(
    folder: ModelFolder, index: TensorIndex, quantize: Quantize, report: Reporter
) -> dict[str, Tensor]:
    """The weights in int8 or int4: as they are kept, else made now and kept."""
    path = quantized_path(index, quantize)
    try:
        return map_tensors(read_header(path))
    except ModelError:  # not there, or damaged: the next ones take its place
        pass
    needed = index.weight_bytes("float32", quantize)
    _require_memory(folder, needed)
    report.note(f"{folder.name} is quantised to {quantize} once, and kept")
    label = f"quantising {folder.name}"
    report.progress(label, 0, None, "")  # the import is what takes long
    from bigcode_cli.model.quantized_weights import quantized_state, write_quantized

    state = quantized_state(
        folder.path,
        folder.base,
        quantize,
        lambda done, total: report.progress(label, done, total, "B"),
    )
    report.progress(label, 1, 1, "")
    try:
        write_quantized(state, path, metadata(folder.name, quantize))
    except OutputError as error:
        report.note(f"the quantised weights are not kept: {error.message}")
        from bigcode_cli.backends.torch_tensors import borrowed

        return borrowed(state)
    return map_tensors(read_header(path))


def _require_memory(folder: ModelFolder, needed: int) -> None:
    require_memory(
        needed,
        free_host_bytes(),
        f"{folder.name} needs {gigabytes(needed)}",
        "try a smaller model or --quantize int8",
    )
