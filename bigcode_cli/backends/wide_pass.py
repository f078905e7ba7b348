"""Many tokens at once on a GPU: a prompt, or texts that are scored, without the model's modules.

Per layer: norm, projection, attention over views of what it gave, output, norm, up-projection with
its activation, down-projection; each of the products with all that follows it in its epilogue. The
residual stream takes part in two of them as what is added, and so is read by one norm each.

The slow twin is ``model.gpt_bigcode.GPTBigCodeModel``, which serves wherever this does not.
"""

from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right

from bigcode_cli.backends.products import activated, product, weight_of
from bigcode_cli.kernels.triton import launches
from bigcode_cli.kernels.weights import Layer, Matrix, Weights
from bigcode_cli.model.attention import Attend, Scaling, Visible, choose_kernel, flash
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.quantize import dequantize_int8


class WidePass:
    """A model's states for many tokens at once.

    The residual stream is of the activations' dtype, as in the model: in float32 it would be half
    of all bytes that pass between the products. What it rounds is a sum that the product kept in
    float32, and the norm that follows works in float32 too. So it is nearer to float32 than the
    model itself is: of 699 tokens of Python, mini's log-probabilities in bfloat16 are off by 0.100
    (root mean square) where the model's are off by 0.125; a float32 stream would make it 0.069
    (on a CPU, rounded wherever the pass rounds).
    The biases of the products that add to it stay out of it: their sum so far is one vector, which
    each norm adds in float32.

    Attributes:
        measure: what reads its logits; see ``likelihood.Measure``.

    Args:
        attention: what the model was told to use; see ``model.attention.IMPLEMENTATIONS``.
    """

    measure = staticmethod(launches.measure)

    def __init__(self, weights: Weights, *, dtype: torch.dtype, attention: str) -> None:
        self._weights = weights
        self._dtype = dtype
        self._attention = attention
        self._offsets = list(
            accumulate(
                _bias(part) for layer in weights.layers for part in (layer.output, layer.down)
            )
        )

    def states(self, ids: Tensor, wanted: Tensor, cache: KVCache | None = None) -> Tensor:
        """The final norm's output at some of the tokens.

        Args:
            ids: int64 ``(rows, time)``, behind what the cache holds.
            wanted: int64 ``(some,)``, places in ``rows * time``. The last layer does for them
                alone what attention does not need of the others.
            cache: of rows of one length; takes in the tokens. Without one nothing is kept.

        Returns:
            ``(some, width)``.
        """
        weights, past = self._weights, 0 if cache is None else cache.longest
        hidden = self._embedded(ids, past)
        normed, inner = torch.empty_like(hidden), hidden.new_empty(0)
        attend, visible = self._attend(ids, past)
        offset: Tensor | None = None
        for number, layer in enumerate(weights.layers):
            launches.add_norm(layer.before_attention, hidden, normed, offset=offset)
            query, key_value = self._split(product(layer.projection, normed), ids.shape)
            keys, values = (
                key_value.chunk(2, dim=-1) if cache is None else cache.append(number, key_value)
            )
            is_last = number + 1 == len(weights.layers)
            if is_last and not len(wanted):
                break
            attended = attend(query, keys, values, visible, Scaling(layer.attention_factor), 0.0)
            mixed = attended.transpose(1, 2).reshape(hidden.shape)
            if is_last:
                hidden, mixed = hidden[wanted], mixed[wanted]
                normed = normed[: len(wanted)]
            inner = self._inner(layer, inner, len(hidden))
            self._feed_forward(layer, hidden, mixed, normed, inner, self._offsets[2 * number])
            offset = self._offsets[2 * number + 1]
        if cache is not None:
            cache.advance(ids.shape[1])
        if not len(wanted):
            return hidden[:0]
        return launches.add_norm(weights.last, hidden, normed, offset=offset)

    def _feed_forward(
        self,
        layer: Layer,
        hidden: Tensor,
        mixed: Tensor,
        normed: Tensor,
        inner: Tensor,
        offset: Tensor,
    ) -> None:
        """All of a layer behind its attention; ``hidden`` takes in what both branches add."""
        hidden.addmm_(mixed, weight_of(layer.output, self._dtype).T)
        launches.add_norm(layer.before_mlp, hidden, normed, offset=offset)
        activated(layer.up, normed, self._weights.geometry.activation, out=inner)
        hidden.addmm_(inner, weight_of(layer.down, self._dtype).T)

    def _inner(self, layer: Layer, known: Tensor, rows: int) -> Tensor:
        """Room for what the up-projection gives, the same in all layers."""
        width = layer.up.rows
        if known.numel() < rows * width:
            return torch.empty(rows, width, dtype=self._dtype, device=layer.up.weight.device)
        return known[:rows]

    def _embedded(self, ids: Tensor, past: int) -> Tensor:
        """``(rows * time, width)``, at the positions behind ``past``."""
        table = self._weights.tokens
        hidden = functional.embedding(ids, table.weight)
        if table.scale is not None:
            hidden = dequantize_int8(hidden, table.scale[ids], self._dtype)
        hidden = hidden + self._weights.positions[past : past + ids.shape[1]]
        return hidden.flatten(0, 1)

    def _split(self, projected: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Queries, and keys before values, as views of what ``c_attn`` gives.

        Returns:
            ``(rows, heads, time, head_dim)`` and ``(rows, kv_heads, time, 2 * head_dim)``.
        """
        geometry = self._weights.geometry
        if geometry.kv_heads == 1:
            every = projected.view(*shape, -1)
            query = every[..., : geometry.width].view(*shape, geometry.heads, geometry.head_dim)
            return query.transpose(1, 2), every[:, None, :, geometry.width :]
        heads = projected.view(*shape, geometry.heads, -1).transpose(1, 2)
        return heads[..., : geometry.head_dim], heads[..., geometry.head_dim :]

    def _attend(self, ids: Tensor, past: int) -> tuple[Attend, Visible]:
        """The kernel, and what each token sees: all that the cache holds, and up to itself.

        ``is_causal`` is aligned to the top left, so behind a filled cache it would be wrong, and a
        mask would be slow: PyTorch's kernels know the other alignment by a name of its own.
        """
        rows, time = ids.shape
        kernel = choose_kernel(
            self._attention,
            device=ids.device,
            dtype=self._dtype,
            head_dim=self._weights.geometry.head_dim,
            is_plain=True,
            needs_weights=False,
        )
        if not past:
            return kernel.attend, Visible(causal=True)
        if kernel.attend is flash:
            ends = torch.full((rows,), past + time, dtype=torch.int32, device=ids.device)
            return kernel.attend, Visible(ends=ends)
        return kernel.attend, Visible(
            mask=causal_lower_right(time, past + time) if time > 1 else None
        )


def _bias(matrix: Matrix) -> Tensor:
    """Float32 ``(out,)``; zeros where there is none."""
    if matrix.bias is None:
        return torch.zeros(matrix.rows, device=matrix.weight.device)
    return matrix.bias.float()
