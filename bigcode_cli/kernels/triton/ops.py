"""The operations of a step by the Triton kernels: which layout, which grid, which arguments."""

import math

import torch
from torch import Tensor

from bigcode_cli.kernels.buffers import Buffers
from bigcode_cli.kernels.step import Ops, run_layers
from bigcode_cli.kernels.tables import HEAD_BLOCK, AttentionConfig, attention_config, config_of
from bigcode_cli.kernels.triton import attention, matrix
from bigcode_cli.kernels.triton.launches import launch_options, power_of_two
from bigcode_cli.kernels.weights import Geometry, Layer, Matrix, Norm, Weights

MATMUL_ROWS = 16
"""Rows of one program of ``matmul``: the matrix units' least."""

NARROW = 1024
"""Width up to which launches, and not products, take most of a step's time."""

NARROW_ROWS = 8
"""Rows up to which ``matmul`` serves a narrow model."""

ACTIVATIONS = {
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "tanh": "tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_WIDEST_NORM = 16384
_WIDEST_HEAD = 256
_EMBED_BLOCK = 1024


def unsupported(geometry: Geometry) -> str | None:
    """What these kernels cannot do of a model; ``None`` if nothing."""
    if geometry.activation not in ACTIVATIONS:
        return f"the activation {geometry.activation}"
    if geometry.width > _WIDEST_NORM:
        return f"hidden states {geometry.width} wide"
    if geometry.head_dim > _WIDEST_HEAD:
        return f"heads {geometry.head_dim} wide"
    return None


def most_rows(width: int) -> int:
    """For how many rows the products here are faster than those of ``Ops`` by cuBLAS.

    Measured on an H100 in bf16, 500 tokens deep. One row is a product with a vector, faster than
    cuBLAS's in every shape. More are a block of 16, however few are in it: 8 rows take 3.8 ms a
    step in a model 2,048 wide, where even 32 by cuBLAS take 2.8 ms, and 22 ms in one 6,144 wide,
    where one row's products by cuBLAS add up to 11.5 ms. In a model 768 wide the 8 take 0.94 ms,
    the 32 by cuBLAS 1.37 ms: that saves launches. What lies between was not measured.
    """
    return NARROW_ROWS if width <= NARROW else 1


class TritonOps:
    """``kernels.step.Ops`` for one set of buffers.

    Args:
        wide: takes over the products of unquantised matrices with more than ``most_rows``. Those
            of quantised ones stay: it would unpack each matrix whole, at every step. ``None`` where
            there is but one row.
        number_bytes: of a number in the cache.
        overlaps: kernels may begin before the last one has ended (programmatic dependent launch).
        attention: its layout; by default what the table has for it.
    """

    def __init__(
        self,
        geometry: Geometry,
        rows: int,
        *,
        device: torch.device,
        number_bytes: int,
        wide: Ops | None,
        overlaps: bool,
        attention: AttentionConfig | None = None,
    ) -> None:
        self._geometry = geometry
        self._rows = rows
        self._wide = wide
        self._is_wide = rows > most_rows(geometry.width)
        assert wide is not None or rows == 1
        self._overlaps = overlaps
        self._launch = launch_options(overlaps)
        self._device = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        shared = geometry.heads // geometry.kv_heads
        self._head_groups = geometry.kv_heads * -(-shared // HEAD_BLOCK)
        groups = rows * self._head_groups
        self._attention = attention or attention_config(
            geometry.heads,
            geometry.kv_heads,
            geometry.head_dim,
            groups,
            self._device,
            number_bytes=number_bytes,
        )
        self._padded_head = max(16, power_of_two(geometry.head_dim))
        shares = self._padded_head // self._attention.columns
        self._attention_programs = shares * self._attention.splits
        noted = (groups * shares, self._attention.splits, HEAD_BLOCK)
        with torch.inference_mode(False):
            self._maxima = torch.zeros(noted, device=device)
            self._sums = torch.zeros(noted, device=device)
            self._parts = torch.zeros(*noted, self._attention.columns, device=device)
            self._tickets = torch.zeros(groups * shares, dtype=torch.int32, device=device)
            # As many as the smallest blocks of the head make.
            self._best = torch.zeros(rows, geometry.vocab, device=device)
            self._best_id = torch.zeros(rows, geometry.vocab, dtype=torch.int32, device=device)
        self._blocks = 0

    def run(self, weights: Weights, buffers: Buffers) -> None:
        """See ``Step``."""
        run_layers(self, weights, buffers)

    def embed(self, weights: Weights, buffers: Buffers) -> None:
        """See ``Ops``."""
        tokens, width = weights.tokens, self._geometry.width
        matrix.embed[(self._rows, -(-width // _EMBED_BLOCK))](
            buffers.ids,
            buffers.lengths,
            tokens.weight,
            tokens.weight if tokens.scale is None else tokens.scale,
            weights.positions,
            buffers.hidden,
            K=width,
            BITS=tokens.bits,
            BLOCK_K=_EMBED_BLOCK,
            PDL=self._overlaps,
            **self._launch,
        )

    def project(self, layer: Layer, cache: Tensor, buffers: Buffers) -> None:
        """See ``Ops``."""
        if (wide := self._wide_for(layer.projection)) is not None:
            wide.project(layer, cache, buffers)
            return
        self._product(
            layer.projection,
            buffers.hidden,
            buffers.query,
            buffers,
            matrix.APPEND.value,
            norm=layer.before_attention,
            cache=cache,
        )

    def attend(self, layer: Layer, cache: Tensor, buffers: Buffers) -> None:
        """See ``Ops``."""
        geometry, layout = self._geometry, self._attention
        attention.attend[(self._rows, self._head_groups, self._attention_programs)](
            buffers.query,
            cache,
            buffers.lengths,
            buffers.attended,
            self._parts,
            self._maxima,
            self._sums,
            self._tickets,
            layer.attention_factor * math.log2(math.e),
            buffers.capacity,
            cache.stride(0),
            HEADS=geometry.heads,
            KV_HEADS=geometry.kv_heads,
            HEAD_DIM=geometry.head_dim,
            PADDED=self._padded_head,
            COLUMNS=layout.columns,
            SPLITS=layout.splits,
            BLOCK=layout.slots,
            WHOLE=layout.whole,
            LEAST=layout.least,
            JOINED=layout.joined,
            WARPS=layout.warps,
            STAGES=layout.stages,
            PDL=self._overlaps,
            num_warps=layout.warps,
            **self._launch,
        )

    def add(self, matrix_: Matrix, inputs: Tensor, buffers: Buffers) -> None:
        """See ``Ops``."""
        if (wide := self._wide_for(matrix_)) is not None:
            wide.add(matrix_, inputs, buffers)
            return
        self._product(matrix_, inputs, buffers.hidden, buffers, matrix.ADD.value)

    def widen(self, layer: Layer, buffers: Buffers) -> None:
        """See ``Ops``."""
        if (wide := self._wide_for(layer.up)) is not None:
            wide.widen(layer, buffers)
            return
        self._product(
            layer.up,
            buffers.hidden,
            buffers.inner,
            buffers,
            matrix.STORE.value,
            norm=layer.before_mlp,
            activation=ACTIVATIONS[self._geometry.activation],
        )

    def name(self, last: Norm, head: Matrix, buffers: Buffers) -> None:
        """See ``Ops``."""
        if (wide := self._wide_for(head)) is not None:
            wide.name(last, head, buffers)
            return
        self._blocks = self._product(
            head,
            buffers.hidden,
            buffers.logits,
            buffers,
            matrix.RANK.value,
            norm=last,
            outputs=self._geometry.vocab,
        )

    def pick(self, buffers: Buffers) -> None:
        """See ``Ops``."""
        if not self._blocks and self._wide is not None:
            self._wide.pick(buffers)
            return
        matrix.pick[(self._rows,)](
            self._best,
            self._best_id,
            buffers.ids,
            buffers.told,
            buffers.lengths,
            buffers.active,
            self._rows,
            BLOCKS=self._blocks,
            PADDED=power_of_two(self._blocks),
            PDL=self._overlaps,
            num_warps=8,
            **self._launch,
        )

    def _wide_for(self, matrix_: Matrix) -> Ops | None:
        """Who multiplies by a matrix in the place of the kernels here."""
        return self._wide if self._is_wide and matrix_.scale is None else None

    def _product(
        self,
        matrix_: Matrix,
        inputs: Tensor,
        out: Tensor,
        buffers: Buffers,
        epilogue: int,
        *,
        norm: Norm | None = None,
        cache: Tensor | None = None,
        activation: str = "none",
        outputs: int | None = None,
    ) -> int:
        """Launch ``matvec``, or ``normalise`` and ``matmul``; how many blocks of outputs there are.

        Args:
            outputs: rows of the matrix that are wanted, by default all.
        """
        rows = matrix_.rows if outputs is None else outputs
        weight = matrix_.weight
        bits = 8 * weight.element_size() if matrix_.bits == 16 else matrix_.bits
        # ``matvec`` reads codes as words, and so takes no rows that end within one.
        is_vector = self._rows == 1 and (matrix_.bits == 16 or weight.shape[1] % 4 == 0)
        kernel = "matvec" if is_vector else "matmul"
        if is_vector and matrix_.bits != 16:
            weight = weight.view(torch.int32)
        config = config_of(kernel, rows, matrix_.columns, bits, self._device)
        programs = -(-rows // (config.block_n * config.tiles))
        cache = buffers.cache[0] if cache is None else cache
        ends = (out, cache, buffers.lengths, self._best, self._best_id)
        # Pointers that a kernel does not look at are never followed.
        scale = weight if matrix_.scale is None else matrix_.scale
        bias = weight if matrix_.bias is None else matrix_.bias
        geometry = self._geometry
        fixed = {
            "N": rows,
            "K": matrix_.columns,
            "BITS": matrix_.bits,
            "HAS_BIAS": matrix_.bias is not None,
            "EPILOGUE": epilogue,
            "ACTIVATION": activation,
            "HEADS": geometry.heads,
            "HEAD_DIM": geometry.head_dim,
            "KV_HEADS": geometry.kv_heads,
            "BLOCK_N": config.block_n,
            "BLOCK_K": config.block_k,
            "PDL": self._overlaps,
            "num_warps": config.warps,
            **self._launch,
        }
        if is_vector:
            norm_weight = weight if norm is None else norm.weight
            norm_bias = weight if norm is None else norm.bias
            epsilon = 0.0 if norm is None else norm.epsilon
            matrix.matvec[(programs,)](
                inputs, weight, scale, bias, norm_weight, norm_bias, *ends,
                epsilon, buffers.capacity, PADDED=power_of_two(matrix_.columns),
                NORM=norm is not None, TILES=config.tiles, PTX=inputs.is_cuda, **fixed,
            )  # fmt: skip
            return programs * config.tiles
        if norm is not None:
            self._normalise(norm, inputs, buffers.normed)
            inputs = buffers.normed
        matrix.matmul[(programs, -(-self._rows // MATMUL_ROWS))](
            inputs, weight, scale, bias, *ends, self._rows, buffers.capacity,
            cache.stride(0),
            BLOCK_M=MATMUL_ROWS, STAGES=config.stages, **fixed,
        )  # fmt: skip
        return programs

    def _normalise(self, norm: Norm, inputs: Tensor, out: Tensor) -> None:
        matrix.normalise[(self._rows,)](
            inputs,
            norm.weight,
            norm.bias,
            out,
            norm.epsilon,
            K=self._geometry.width,
            PADDED=power_of_two(self._geometry.width),
            PDL=self._overlaps,
            num_warps=4,
            **self._launch,
        )
