"""The operations of a step in plain PyTorch: the slow twin of the kernels, made of the model's own.

They run anywhere, and in a captured graph where there is no Triton.
"""

import torch
from torch import Tensor
from torch.nn import functional

from bigcode_cli.backends.products import product
from bigcode_cli.kernels.buffers import Buffers
from bigcode_cli.kernels.step import run_layers
from bigcode_cli.kernels.weights import Geometry, Layer, Matrix, Norm, Weights
from bigcode_cli.model.attention import Scaling, Visible, sdpa
from bigcode_cli.model.layers import ACTIVATION_FUNCTIONS
from bigcode_cli.model.quantize import dequantize_int8


class PlainOps:
    """``kernels.step.Ops`` for any set of buffers."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._activation = ACTIVATION_FUNCTIONS[geometry.activation]

    def run(self, weights: Weights, buffers: Buffers) -> None:
        """See ``Step``."""
        run_layers(self, weights, buffers)

    def embed(self, weights: Weights, buffers: Buffers) -> None:
        """See ``Ops``."""
        table = weights.tokens
        tokens = table.weight[buffers.ids]
        if table.scale is not None:
            tokens = dequantize_int8(tokens, table.scale[buffers.ids], torch.float32)
        buffers.hidden.copy_(tokens.float() + weights.positions[buffers.lengths])

    def project(self, layer: Layer, cache: Tensor, buffers: Buffers) -> None:
        """See ``Ops``."""
        geometry, rows = self._geometry, buffers.rows
        projected = product(layer.projection, self._norm(layer.before_attention, buffers))
        if geometry.kv_heads == 1:
            query = projected[:, : geometry.width]
            key_value = projected[:, None, geometry.width :]
        else:
            heads = projected.view(rows, geometry.heads, 3 * geometry.head_dim)
            query, key_value = heads[..., : geometry.head_dim], heads[..., geometry.head_dim :]
        buffers.query.copy_(query.reshape(buffers.query.shape))
        # Rows that are tokens of one sequence are one row of memory.
        held = cache if cache.stride(0) else cache[:1]
        row = torch.arange(rows, device=cache.device) % len(held)
        held[row, :, buffers.lengths.long()] = key_value

    def attend(self, layer: Layer, cache: Tensor, buffers: Buffers) -> None:
        """See ``Ops``."""
        slots = torch.arange(buffers.capacity, device=cache.device)
        seen = slots <= buffers.lengths[:, None]
        keys, values = cache.chunk(2, dim=-1)
        attended = sdpa(
            buffers.query[:, :, None],
            keys,
            values,
            Visible(mask=seen[:, None, None]),
            Scaling(layer.attention_factor),
        )
        buffers.attended.copy_(attended[:, :, 0])

    def add(self, matrix: Matrix, inputs: Tensor, buffers: Buffers) -> None:
        """See ``Ops``."""
        buffers.hidden.add_(product(matrix, inputs.view(buffers.rows, -1)))

    def widen(self, layer: Layer, buffers: Buffers) -> None:
        """See ``Ops``."""
        wide = product(layer.up, self._norm(layer.before_mlp, buffers))
        buffers.inner.copy_(self._activation(wide))

    def name(self, last: Norm, head: Matrix, buffers: Buffers) -> None:
        """See ``Ops``."""
        logits = product(head, self._norm(last, buffers))
        buffers.logits.copy_(logits[:, : self._geometry.vocab])

    def pick(self, buffers: Buffers) -> None:
        """See ``Ops``."""
        settle(buffers, buffers.logits.argmax(-1))

    def _norm(self, norm: Norm, buffers: Buffers) -> Tensor:
        hidden = buffers.hidden.to(norm.weight.dtype)
        return functional.layer_norm(
            hidden, hidden.shape[-1:], norm.weight, norm.bias, norm.epsilon
        )


def settle(buffers: Buffers, ids: Tensor) -> None:
    """Take ``ids`` as what follows, whoever chose them: see ``Ops.pick``."""
    buffers.ids.copy_(ids)
    buffers.told.copy_(torch.stack([ids.double(), buffers.logits.amax(-1).double()]))
    buffers.lengths.add_(buffers.active)
