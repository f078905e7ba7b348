"""One token more for every row: the order of a step's operations, whoever carries them out."""

from typing import Protocol

from torch import Tensor

from bigcode_cli.kernels.buffers import Buffers
from bigcode_cli.kernels.weights import Layer, Matrix, Norm, Weights


class Step(Protocol):
    """A step over one set of buffers. It writes into them alone, and nothing waits for it."""

    def run(self, weights: Weights, buffers: Buffers) -> None:
        """Feed ``ids``; ``logits`` tell what comes next. ``lengths`` stay as they are."""

    def pick(self, buffers: Buffers) -> None:
        """Behind ``run``: ``ids`` and ``told`` by the highest of ``logits``, lowest id of equals.

        The token that was fed then counts as held: ``lengths`` of active rows grow by one.
        """


class Ops(Step, Protocol):
    """A step whose operations are launched one by one, in the order of ``run_layers``."""

    def embed(self, weights: Weights, buffers: Buffers) -> None:
        """``hidden``: the embeddings of ``ids`` at positions ``lengths``."""

    def project(self, layer: Layer, cache: Tensor, buffers: Buffers) -> None:
        """Norm and projection of ``hidden``: ``query``, and keys and values at ``lengths``."""

    def attend(self, layer: Layer, cache: Tensor, buffers: Buffers) -> None:
        """``attended``: of ``query`` to the slots up to ``lengths``, that one included."""

    def add(self, matrix: Matrix, inputs: Tensor, buffers: Buffers) -> None:
        """``hidden`` plus what the matrix makes of the inputs ``(rows, …)``.

        It is enough if the norm that comes next finds it so.
        """

    def widen(self, layer: Layer, buffers: Buffers) -> None:
        """``inner``: norm, up-projection and activation of ``hidden``."""

    def name(self, last: Norm, head: Matrix, buffers: Buffers) -> None:
        """``logits``: final norm and vocabulary projection of ``hidden``."""


def run_layers(ops: Ops, weights: Weights, buffers: Buffers) -> None:
    """See ``Step.run``."""
    ops.embed(weights, buffers)
    for layer, cache in zip(weights.layers, buffers.cache, strict=True):
        ops.project(layer, cache, buffers)
        ops.attend(layer, cache, buffers)
        ops.add(layer.output, buffers.attended, buffers)
        ops.widen(layer, buffers)
        ops.add(layer.down, buffers.inner, buffers)
    ops.name(weights.last, weights.head, buffers)
