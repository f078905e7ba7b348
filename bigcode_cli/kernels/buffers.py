"""Where a decoding step keeps what it has: tensors at addresses that a captured graph can hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from bigcode_cli.kernels.weights import Geometry


@dataclass(frozen=True, slots=True, eq=False)
class Buffers:
    """Of ``rows`` sequences with up to ``capacity`` tokens each.

    Attributes:
        cache: for each layer ``(rows, kv_heads, capacity, 2 * head_dim)``, keys before values. Rows
            that are several tokens of one sequence share its memory: the stride of a row is 0.
        ids: int64 ``(rows,)``, the token that each row feeds next.
        lengths: int32 ``(rows,)``, tokens that the cache holds.
        active: int32 ``(rows,)``, 1 where a row goes on, else 0: such a row stays where it is.
        hidden: float32 ``(rows, width)``, the residual stream.
        normed: ``(rows, width)``, of the activations' dtype as those that follow.
        query, attended: ``(rows, heads, head_dim)``.
        inner: ``(rows, inner)``.
        logits: float32 ``(rows, vocab)``.
        told: float64 ``(2, rows)``: each row's new id, and its highest logit.
    """

    cache: tuple[Tensor, ...]
    ids: Tensor
    lengths: Tensor
    active: Tensor
    hidden: Tensor
    normed: Tensor
    query: Tensor
    attended: Tensor
    inner: Tensor
    logits: Tensor
    told: Tensor

    @classmethod
    def allocate(
        cls,
        geometry: Geometry,
        rows: int,
        capacity: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        shared: Sequence[Tensor] = (),
    ) -> Self:
        """Rows that hold nothing and do not go on.

        Args:
            shared: a cache ``(1, kv_heads, capacity, 2 * head_dim)`` a layer that is to be that of
                all rows; by default each has its own.
        """
        shape = geometry
        held = (shape.layers, rows, shape.kv_heads, capacity, 2 * shape.head_dim)
        heads = (rows, shape.heads, shape.head_dim)
        # Ordinary tensors, not those of inference mode, which nothing could change outside of it.
        with torch.inference_mode(False):
            if shared:
                cache = tuple(layer.expand(rows, -1, -1, -1) for layer in shared)
            else:
                cache = torch.zeros(held, dtype=dtype, device=device).unbind(0)
            return cls(
                cache=cache,
                ids=torch.zeros(rows, dtype=torch.int64, device=device),
                lengths=torch.zeros(rows, dtype=torch.int32, device=device),
                active=torch.zeros(rows, dtype=torch.int32, device=device),
                hidden=torch.zeros(rows, shape.width, device=device),
                normed=torch.zeros(rows, shape.width, dtype=dtype, device=device),
                query=torch.zeros(heads, dtype=dtype, device=device),
                attended=torch.zeros(heads, dtype=dtype, device=device),
                inner=torch.zeros(rows, shape.inner, dtype=dtype, device=device),
                logits=torch.zeros(rows, shape.vocab, device=device),
                told=torch.zeros(2, rows, dtype=torch.float64, device=device),
            )

    @property
    def rows(self) -> int:
        """How many sequences."""
        return self.ids.shape[0]

    @property
    def capacity(self) -> int:
        """How many tokens each may hold."""
        return self.cache[0].shape[2]
