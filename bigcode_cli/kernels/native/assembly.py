"""A model's tensors, by the names of a checkpoint, as the structures that the engine reads.

Matrices are used where they lie. Norms, biases and factors are small, and are float32 to the
engine: those that are stored otherwise are converted here.
"""

import ctypes
import struct
from collections.abc import Mapping

from bigcode_cli.errors import ModelCorruptError, ModelIncompleteError, ModelUnsupportedError
from bigcode_cli.kernels.native.library import ACTIVATIONS, FORMATS, Geometry, Layer, Matrix
from bigcode_cli.kernels.native.shape import Shape
from bigcode_cli.kernels.native.tensors import Tensor

GROUP = 64
"""Columns of an int4 matrix that share a factor: ``kGroup`` of ``kernels.h``."""

_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1}
_FLOATS = frozenset({"F32", "F16", "BF16"})
_TABLES = _FLOATS | {"I8"}
_MATRICES = _TABLES | {"U8"}


def unsupported(config: Shape) -> str | None:
    """What keeps the engine from running such a model; ``None`` where nothing does."""
    if config.add_cross_attention:
        return "the native engine has no cross-attention"
    if config.activation_function not in ACTIVATIONS:
        return f"the native engine has no activation {config.activation_function!r}"
    return None


class Assembly:
    """The structures of one model, and all that they point to.

    Raises:
        ModelUnsupportedError: see ``unsupported``.
        ModelIncompleteError: a tensor is missing.
        ModelCorruptError: one has another shape or dtype than it must have.
    """

    def __init__(self, config: Shape, tensors: Mapping[str, Tensor]) -> None:
        if (reason := unsupported(config)) is not None:
            raise ModelUnsupportedError(reason, "use --backend torch")
        self._shapes, self._tensors = config.tensor_shapes(), tensors
        self._kept: list[object] = []
        self._factor = config.head_dim**-0.5 if config.scale_attn_weights else 1.0
        self.geometry = Geometry(
            width=config.n_embd,
            inner=config.inner_dim,
            heads=config.n_head,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            layers=config.n_layer,
            positions=config.n_positions,
            vocab=config.vocab_size,
            activation=ACTIVATIONS[config.activation_function],
            epsilon=config.layer_norm_epsilon,
        )
        self.tokens = self._matrix("transformer.wte", _TABLES)
        self.positions = self._matrix("transformer.wpe", _TABLES)
        tied = config.tie_word_embeddings
        self.head = self.tokens if tied else self._matrix("lm_head", _MATRICES)
        self.layers = (Layer * config.n_layer)(*map(self._layer, range(config.n_layer)))
        self.gain, self.shift = self._norm("transformer.ln_f")

    def _layer(self, number: int) -> Layer:
        path = f"transformer.h.{number}"
        return Layer(
            *self._norm(f"{path}.ln_1"),
            *self._norm(f"{path}.ln_2"),
            self._matrix(f"{path}.attn.c_attn", _MATRICES),
            self._matrix(f"{path}.attn.c_proj", _MATRICES),
            self._matrix(f"{path}.mlp.c_fc", _MATRICES),
            self._matrix(f"{path}.mlp.c_proj", _MATRICES),
            self._factor,
        )

    def _norm(self, path: str) -> tuple[int, int]:
        return self._floats(f"{path}.weight"), self._floats(f"{path}.bias")

    def _matrix(self, path: str, dtypes: frozenset[str]) -> Matrix:
        name = f"{path}.weight"
        rows, columns = self._shapes[name]
        dtype = self._named(name, dtypes).dtype
        groups = -(-columns // GROUP)
        stored = (rows, groups * GROUP // 2) if dtype == "U8" else (rows, columns)
        scales = None
        if dtype not in _FLOATS:
            factors = (rows, groups) if dtype == "U8" else (rows,)
            scales = self._aligned(self._shaped(f"{name}_scale", factors, frozenset({"F32"})))
        weights = self._aligned(self._shaped(name, stored, dtypes))
        bias = self._floats(f"{path}.bias") if f"{path}.bias" in self._shapes else None
        return Matrix(FORMATS[dtype], rows, columns, weights, scales, bias)

    def _floats(self, name: str) -> int:
        """Where a vector's float32 numbers lie."""
        (count,) = self._shapes[name]
        tensor = self._shaped(name, (count,), _FLOATS)
        if tensor.dtype == "F32":
            return self._aligned(tensor)
        return self._keep(_widened(tensor, count))

    def _named(self, name: str, dtypes: frozenset[str]) -> Tensor:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise ModelIncompleteError(f"tensor {name} is missing")
        if tensor.dtype not in dtypes:
            raise ModelCorruptError(
                f"tensor {name} is {tensor.dtype}, not {' or '.join(sorted(dtypes))}"
            )
        return tensor

    def _shaped(self, name: str, shape: tuple[int, ...], dtypes: frozenset[str]) -> Tensor:
        tensor = self._named(name, dtypes)
        if tensor.shape != shape:
            raise ModelCorruptError(f"tensor {name} has shape {tensor.shape}, not {shape}")
        return tensor

    def _aligned(self, tensor: Tensor) -> int:
        """Where its numbers lie; of those that no processor's rules allow there, a copy's."""
        item = _ITEM_BYTES[tensor.dtype]
        if tensor.address % item == 0:
            self._kept.append(tensor.owner)
            return tensor.address
        count = item
        for size in tensor.shape:
            count *= size
        return self._keep(ctypes.create_string_buffer(ctypes.string_at(tensor.address, count)))

    def _keep(self, numbers: ctypes.Array[ctypes.c_float] | ctypes.Array[ctypes.c_char]) -> int:
        self._kept.append(numbers)
        return ctypes.addressof(numbers)


def _widened(tensor: Tensor, count: int) -> ctypes.Array[ctypes.c_float]:
    """Half-precision numbers as float32."""
    raw = ctypes.string_at(tensor.address, 2 * count)
    if tensor.dtype == "F16":
        return (ctypes.c_float * count)(*struct.unpack(f"<{count}e", raw))
    # A bfloat16 is the upper half of a float32.
    wide = bytearray(4 * count)
    wide[2::4], wide[3::4] = raw[::2], raw[1::2]
    return (ctypes.c_float * count).from_buffer_copy(wide)
