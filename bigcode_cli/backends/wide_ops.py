"""A step of many rows: cuBLAS's products, and Triton's kernels between them.

Per layer eight launches, attention counted in: norm, projection, placing, attention, output, norm
(which adds the output), up-projection with its activation, down-projection. What the latter adds
is added by the next norm.
"""

import torch
from torch import Tensor

from bigcode_cli.backends.plain_ops import PlainOps
from bigcode_cli.backends.products import activated, float_product, product
from bigcode_cli.kernels.buffers import Buffers
from bigcode_cli.kernels.triton import launches
from bigcode_cli.kernels.weights import Geometry, Layer, Matrix, Norm


class WideOps(PlainOps):
    """``PlainOps`` with one kernel for each thing that stands between two products.

    The residual stream is float32: a token's rounding would else pile up over all later ones,
    and at so few rows its bytes are nothing beside the weights.

    Args:
        rows: of the buffers; they and their logits are one set.
        overlaps: see ``TritonOps``.
    """

    def __init__(
        self, geometry: Geometry, rows: int, *, device: torch.device, overlaps: bool
    ) -> None:
        super().__init__(geometry)
        self._overlaps = overlaps
        self._branch: Tensor | None = None
        noted = (rows, launches.rank_blocks(geometry.vocab))
        with torch.inference_mode(False):
            self._best = torch.zeros(noted, device=device)
            self._best_id = torch.zeros(noted, dtype=torch.int32, device=device)

    def project(self, layer: Layer, cache: Tensor, buffers: Buffers) -> None:
        """See ``Ops``."""
        projected = product(layer.projection, self._normed(layer.before_attention, buffers))
        launches.place(
            self._geometry,
            projected,
            buffers.query,
            cache,
            buffers.lengths,
            overlaps=self._overlaps,
        )

    def add(self, matrix: Matrix, inputs: Tensor, buffers: Buffers) -> None:
        """See ``Ops``: the next norm adds it."""
        assert self._branch is None, "two additions without a norm between them"
        self._branch = product(matrix, inputs.view(buffers.rows, -1))

    def widen(self, layer: Layer, buffers: Buffers) -> None:
        """See ``Ops``."""
        normed = self._normed(layer.before_mlp, buffers)
        activated(layer.up, normed, self._geometry.activation, out=buffers.inner)

    def name(self, last: Norm, head: Matrix, buffers: Buffers) -> None:
        """See ``Ops``."""
        float_product(head, self._normed(last, buffers), buffers.logits)

    def pick(self, buffers: Buffers) -> None:
        """See ``Ops``."""
        launches.rank(buffers.logits, self._best, self._best_id, overlaps=self._overlaps)
        launches.pick(
            self._best,
            self._best_id,
            buffers.ids,
            buffers.told,
            buffers.lengths,
            buffers.active,
            overlaps=self._overlaps,
        )

    def _normed(self, norm: Norm, buffers: Buffers) -> Tensor:
        branch, self._branch = self._branch, None
        return launches.add_norm(
            norm, buffers.hidden, buffers.normed, branch=branch, overlaps=self._overlaps
        )
