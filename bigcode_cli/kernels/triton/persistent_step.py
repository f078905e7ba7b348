"""A step of one row by the persistent kernel: what it can do, its layout, its arguments."""

import math
from collections.abc import Iterator
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from bigcode_cli.kernels.buffers import Buffers
from bigcode_cli.kernels.tables import StepConfig, step_config
from bigcode_cli.kernels.triton import matrix, persistent
from bigcode_cli.kernels.triton.ops import ACTIVATIONS, unsupported
from bigcode_cli.kernels.weights import Geometry, Layer, Matrix, Norm, Weights

WIDEST = 8192
"""Numbers of a row that a program holds in its registers at most."""

_DTYPES = {
    torch.float32: tl.float32,
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.int8: tl.int8,
}


def unsuited(weights: Weights) -> str | None:
    """What the persistent kernel cannot do of a model; ``None`` if nothing."""
    shape = weights.geometry
    reason = unsupported(shape)
    if reason is not None:
        return reason
    if shape.head_dim < 16 or shape.head_dim & (shape.head_dim - 1):
        return f"heads {shape.head_dim} wide"
    if max(shape.width, shape.inner) > WIDEST:
        return f"rows {max(shape.width, shape.inner)} long"
    if (shape.width | shape.inner) % 4:
        return "rows that do not end with a word"
    if len({(one.weight.dtype, one.bits) for one in _matrices(weights)}) > 1:
        return "weights of several kinds"
    if weights.head.bits == 4:
        return "weights of four bits"
    if any(one.bias is None for layer in weights.layers for one in _of(layer)):
        return "matrices without a bias"
    norms = [one for layer in weights.layers for one in (layer.before_attention, layer.before_mlp)]
    if any(norm.epsilon != weights.last.epsilon for norm in norms):
        return "norms of several kinds"
    if len({layer.attention_factor for layer in weights.layers}) > 1:
        return "attention of several kinds"
    return None


class PersistentStep:
    """``kernels.step.Step`` of one row, for one set of buffers.

    Args:
        weights: ``unsuited`` finds nothing in them.
        programs: by default one for each multiprocessor, which is the most that are sure to run at
            once.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        device: torch.device,
        programs: int | None = None,
        config: StepConfig | None = None,
    ) -> None:
        shape = weights.geometry
        # The interpreter knows no such option.
        self._launch = {"launch_cooperative_grid": True} if device.type == "cuda" else {}
        name = "cpu"
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            name, programs = properties.name, programs or properties.multi_processor_count
        # None is without a row of every matrix.
        self._programs = min(programs or 1, shape.width, shape.inner // 2)
        bits = 8 * weights.head.weight.element_size()
        self._config = config or step_config(shape.width, shape.inner, bits, name)
        splits, width = self._config.splits, shape.heads * shape.head_dim
        projected = width + 2 * shape.kv_heads * shape.head_dim
        sizes = {
            "hidden": shape.width,
            "projected": projected,
            "attended": width,
            "inner": shape.inner,
            "parts": splits * width,
            "maxima": splits * shape.heads,
            "sums": splits * shape.heads,
        }
        with torch.inference_mode(False):
            self._words = {
                name: torch.zeros(size, dtype=torch.int64, device=device)
                for name, size in sizes.items()
            }
            self._best = torch.zeros(self._programs, device=device)
            self._best_id = torch.zeros(self._programs, dtype=torch.int32, device=device)
            self._clock = torch.zeros(1, dtype=torch.int32, device=device)
        self._table: Tensor | None = None

    def run(self, weights: Weights, buffers: Buffers) -> None:
        """See ``Step``. The first time, addresses are copied to the device."""
        if self._table is None:
            self._table = _addresses(weights, buffers)
        shape = weights.geometry
        tokens = weights.tokens
        persistent.step[(self._programs,)](
            self._table,
            buffers.ids,
            buffers.lengths,
            tokens.weight,
            tokens.weight if tokens.scale is None else tokens.scale,
            weights.positions,
            *self._words.values(),
            buffers.logits,
            self._best,
            self._best_id,
            self._clock,
            shape.layers,
            weights.last.epsilon,
            weights.layers[0].attention_factor * math.log2(math.e),
            buffers.capacity,
            **fixed(shape, self._config, weights.head.weight.dtype, buffers.cache[0].dtype),
            **self._launch,
        )

    def pick(self, buffers: Buffers) -> None:
        """See ``Step``."""
        matrix.pick[(1,)](
            self._best,
            self._best_id,
            buffers.ids,
            buffers.told,
            buffers.lengths,
            buffers.active,
            1,
            BLOCKS=self._programs,
            PADDED=_power_of_two(self._programs),
            PDL=False,
            num_warps=4,
        )


def fixed(
    shape: Geometry, config: StepConfig, weight: torch.dtype, number: torch.dtype
) -> dict[str, Any]:
    """What ``persistent.step`` is compiled for.

    Args:
        weight: of the matrices as they are stored.
        number: of all else.
    """
    return {
        "WIDTH": shape.width,
        "INNER": shape.inner,
        "VOCAB": shape.vocab,
        "HEADS": shape.heads,
        "HEAD_DIM": shape.head_dim,
        "KV_HEADS": shape.kv_heads,
        "ACTIVATION": ACTIVATIONS[shape.activation],
        "WEIGHT": _DTYPES[weight],
        "WORD": 4 // weight.itemsize,
        "NUMBER": _DTYPES[number],
        "BN": config.block_n,
        "BK": _power_of_two(shape.width),
        "LONG_BN": config.long_n,
        "LONG_BK": _power_of_two(shape.inner),
        "SPLITS": config.splits,
        "BLOCK": config.slots,
        "num_warps": config.warps,
    }


def _of(layer: Layer) -> tuple[Matrix, ...]:
    return layer.projection, layer.output, layer.up, layer.down


def _matrices(weights: Weights) -> Iterator[Matrix]:
    yield from (one for layer in weights.layers for one in _of(layer))
    yield weights.head


def _addresses(weights: Weights, buffers: Buffers) -> Tensor:
    """Int64 ``(layers + 1, FIELDS)``, see ``persistent.step``."""
    rows = [
        [
            *_norm(layer.before_attention),
            *_matrix(layer.projection),
            *_matrix(layer.output),
            *_norm(layer.before_mlp),
            *_matrix(layer.up),
            *_matrix(layer.down),
            cache.data_ptr(),
        ]
        for layer, cache in zip(weights.layers, buffers.cache, strict=True)
    ]
    last = [*_norm(weights.last), *_matrix(weights.head)]
    rows.append(last + [0] * (len(rows[0]) - len(last)))
    return torch.tensor(rows, dtype=torch.int64, device=buffers.ids.device)


def _norm(norm: Norm) -> tuple[int, int]:
    return norm.weight.data_ptr(), norm.bias.data_ptr()


def _matrix(matrix_: Matrix) -> tuple[int, int, int]:
    """Addresses that nothing is read from are those of the weights."""
    weight, scale, bias = matrix_.weight, matrix_.scale, matrix_.bias
    return (
        weight.data_ptr(),
        (weight if scale is None else scale).data_ptr(),
        (weight if bias is None else bias).data_ptr(),
    )


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
