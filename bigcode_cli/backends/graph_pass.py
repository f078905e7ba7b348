"""A pass over several tokens of the one row in a seat: captured once as a CUDA graph, replayed.

It is a step of so many rows that share a row of the cache, each a slot further than the one
before. A layer puts the keys and values of all of them into the cache before any attends to it,
and each attends up to its own slot: so the operations of a step serve as they are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from bigcode_cli.backends.capture import Flight, Landing, Pool, captured
from bigcode_cli.kernels.buffers import Buffers
from bigcode_cli.kernels.step import Step
from bigcode_cli.kernels.weights import Weights

SIZES = (2, 4, 8, 16)
"""Tokens of the passes there are; more are not guessed."""


class RowPass:
    """See the module's beginning.

    Args:
        tokens: that it takes at most.
        cache: the seat's, of one row.
        pool: see ``capture.captured``.
    """

    def __init__(
        self,
        weights: Weights,
        tokens: int,
        cache: Sequence[Tensor],
        *,
        dtype: torch.dtype,
        device: torch.device,
        step: Step,
        pool: Pool | None,
    ) -> None:
        self._weights, self._device, self._step, self._pool = weights, device, step, pool
        self._buffers = Buffers.allocate(
            weights.geometry, tokens, cache[0].shape[2], dtype=dtype, device=device, shared=cache
        )
        with torch.inference_mode(False):
            self._fed = torch.zeros(2, tokens, dtype=torch.int64, device=device)
        self._landing = Landing(tokens, device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._is_prepared = False

    @property
    def logits(self) -> Tensor:
        """Float32 ``(tokens, vocab)``: behind each token of the last run, until the next one."""
        return self._buffers.logits

    def prepare(self, length: int) -> None:
        """Compile and capture the pass, if it is not yet.

        It is run for that, and leaves something in the slot that is written next, ``length``.

        Raises:
            RuntimeError, OSError …: whatever compiling or capturing came upon.
        """
        if self._is_prepared:
            return
        self._tell([0], length)
        if self._device.type == "cuda":
            self._graph = captured(self._run, self._device, pool=self._pool)
            # A graph's first launch takes longer than those that follow.
            self._graph.replay()
            torch.cuda.synchronize(self._device)
        else:
            self._run()
        self._is_prepared = True

    def run(self, ids: Sequence[int], length: int) -> Flight:
        """Feed so many tokens behind the ``length`` that the row's cache holds; nothing waits.

        Returns:
            the id that is best behind each token, on its way.
        """
        self._tell(ids, length)
        if self._graph is not None:
            self._graph.replay()
        else:
            self._run()
        return self._landing.send(self._buffers.told)

    def _tell(self, ids: Sequence[int], length: int) -> None:
        # Where there are fewer, the rest are the last one again: they write what it writes.
        spare = self._buffers.rows - len(ids)
        slots = range(length, length + len(ids))
        fed = torch.tensor([[*ids, *[ids[-1]] * spare], [*slots, *[slots[-1]] * spare]])
        self._fed.copy_(fed, non_blocking=True)

    def _run(self) -> None:
        buffers = self._buffers
        buffers.ids.copy_(self._fed[0])
        buffers.lengths.copy_(self._fed[1])
        self._step.run(self._weights, buffers)
        self._step.pick(buffers)
