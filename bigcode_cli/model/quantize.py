"""Weights in eight or four bits, spread out again at each use: they save memory, not time.

Rounding to nearest: int8 with one float32 factor for each output row, the largest magnitude kept
(Dettmers et al. 2022, LLM.int8(), without outliers); int4 with one for each group of 64 columns,
searched for the smallest squared error. What the rounding of int4 does to the mean of each output
is undone in ``model.bias_correction``. These are the slow twins of the kernels that read quantised
weights directly.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from bigcode_cli.model.tensor_index import INT4_GROUP

# Of a matrix in float32: bounds the memory that its copies take, some ten while quantising.
_QUANTIZED_AT_ONCE = 2**19
_SPREAD_AT_ONCE = 2**23

_LARGEST_CODES = (7.0, 6.4, 7.6, 8.0, 8.7)
"""What the number of largest magnitude in a group is divided to, with a minus sign: 8 uses all 16
codes, as llama.cpp's Q4_0 does; more cuts that number off for a finer step; 7 is plain absmax, so
that the search never does worse."""


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """``(rows, columns)`` to int8 of the same shape and float32 factors ``(rows,)``."""
    return _by_rows(_int8, weight)


def _int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    exact = weight.float()
    scale = exact.abs().amax(dim=1) / 127
    codes = (exact / _divisor(scale)[:, None]).round().clamp(-127, 127)
    return codes.to(torch.int8), scale


def dequantize_int8(codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Int8 ``(…, columns)`` times float32 factors ``(…)``, rounded once to ``dtype``."""
    return (codes * scale[..., None]).to(dtype)


def quantize_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """``(rows, columns)`` to packed nibbles and factors.

    A row's columns are filled up with zeros to whole groups of 64. Code ``q`` from -8 to 7 is
    stored as ``q + 8``; the even column takes the low nibble. Factors may be negative.

    Returns:
        uint8 ``(rows, 32 * groups)`` and float32 ``(rows, groups)``.
    """
    return _by_rows(_int4, weight)


def _int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = weight.shape
    padded = functional.pad(weight.float(), (0, -columns % INT4_GROUP))
    grouped = padded.view(rows, -1, INT4_GROUP)
    low, high = grouped.aminmax(dim=2)
    largest = torch.where(high > -low, high, low)
    step, kept = torch.zeros_like(largest), torch.full_like(largest, -1.0)
    for code in _LARGEST_CODES:
        tried = largest / -code
        codes = _int4_codes(grouped, tried)
        # Squared error is what the best factor leaves: |w|^2 - <w, q>^2 / <q, q>.
        energy = (grouped * codes).sum(dim=2).square() / _divisor(codes.square().sum(dim=2))
        better = energy > kept
        step, kept = torch.where(better, tried, step), torch.where(better, energy, kept)
    codes = _int4_codes(grouped, step)
    fitted = (grouped * codes).sum(dim=2) / _divisor(codes.square().sum(dim=2))
    pairs = (codes + 8).to(torch.uint8).view(rows, -1, 2)
    return pairs[..., 0] | (pairs[..., 1] << 4), fitted


def _int4_codes(grouped: Tensor, step: Tensor) -> Tensor:
    """Whole numbers from -8 to 7, float32: ``(rows, groups, 64)`` in steps ``(rows, groups)``."""
    return (grouped / _divisor(step)[..., None]).round_().clamp_(-8, 7)


def dequantize_int4(packed: Tensor, scale: Tensor, columns: int, dtype: torch.dtype) -> Tensor:
    """The inverse of ``quantize_int4``: ``(rows, columns)``, rounded once to ``dtype``."""
    codes = torch.stack([packed & 15, packed >> 4], dim=-1).to(torch.int8) - 8
    grouped = codes.view(packed.shape[0], -1, INT4_GROUP)
    return (grouped * scale[..., None]).to(dtype).flatten(1)[:, :columns]


def _by_rows(
    quantize: Callable[[Tensor], tuple[Tensor, Tensor]], weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Rows are independent: a block at a time bounds the float32 copies."""
    step = _rows_at_once(weight.shape[1], _QUANTIZED_AT_ONCE)
    codes, scale = quantize(weight[:step])
    if step >= weight.shape[0]:
        return codes, scale
    all_codes = codes.new_empty((weight.shape[0], *codes.shape[1:]))
    all_scales = scale.new_empty((weight.shape[0], *scale.shape[1:]))
    for at in range(0, weight.shape[0], step):
        rows = slice(at, at + step)
        all_codes[rows], all_scales[rows] = quantize(weight[rows])
    return all_codes, all_scales


def _rows_at_once(columns: int, numbers: int) -> int:
    return max(1, numbers // columns)


def _divisor(scale: Tensor) -> Tensor:
    """Factors to divide by: a row of zeros has none."""
    return torch.where(scale == 0, 1.0, scale)


class QuantizedLinear(nn.Module):
    """A linear layer whose weight is int8 or int4.

    Attributes:
        weight: int8 ``(out, in)`` or packed uint8 ``(out, 32 * groups)``.
        weight_scale: float32 ``(out,)`` or ``(out, groups)``.
        bias: ``(out,)`` in the activations' dtype, or ``None``.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", scale)
        self.register_buffer("bias", bias)

    def dequantized(self, dtype: torch.dtype, rows: slice = slice(None)) -> Tensor:
        """These rows of the weight, ``(rows, in)``."""
        codes, scale = self.weight[rows], self.weight_scale[rows]
        if codes.dtype == torch.int8:
            return dequantize_int8(codes, scale, dtype)
        return dequantize_int4(codes, scale, self.columns, dtype)

    def forward(self, hidden: Tensor) -> Tensor:
        """``(…, in)`` to ``(…, out)``."""
        step = _rows_at_once(self.columns, _SPREAD_AT_ONCE)
        blocks = [slice(at, at + step) for at in range(0, self.weight.shape[0], step)]
        parts = [functional.linear(hidden, self.dequantized(hidden.dtype, at)) for at in blocks]
        output = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return output if self.bias is None else output + self.bias


class QuantizedEmbedding(nn.Module):
    """An embedding whose rows are int8.

    Attributes:
        weight: int8 ``(vocab, width)``.
        weight_scale: float32 ``(vocab,)``.
    """

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, weight: Tensor, scale: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", scale)

    def forward(self, ids: Tensor) -> Tensor:
        """``(…)`` ids to ``(…, width)``."""
        return dequantize_int8(self.weight[ids], self.weight_scale[ids], self.dtype)


def install(model: nn.Module, name: str, codes: Tensor, scale: Tensor, dtype: torch.dtype) -> None:
    """Put a quantised weight in the place of the parameter ``name``; a bias stays.

    Args:
        model: the module under which names are those of the checkpoint.
        dtype: of the embeddings that ``wte`` gives.
    """
    path = name.removesuffix(".weight")
    module = model.get_submodule(path)
    if isinstance(module, nn.Embedding):
        model.set_submodule(path, QuantizedEmbedding(codes, scale, dtype))
    elif isinstance(module, nn.Linear):
        columns = module.in_features
        model.set_submodule(path, QuantizedLinear(codes, scale, module.bias, columns))
