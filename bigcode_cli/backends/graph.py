"""The backend for GPUs: one fused pass for many tokens, a captured graph for each token.

Prompts and texts that are scored are ``WideBackend``'s. A token, or several that were guessed of
one row, is one launch of a CUDA graph over static buffers: of the Triton kernels where Triton
works, else of plain PyTorch, else not at all, each with one line to the user.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bigcode_cli.backends.devices import free_bytes
from bigcode_cli.backends.graph_pass import SIZES, RowPass
from bigcode_cli.backends.graph_rows import GraphRows
from bigcode_cli.backends.graph_seat import Mode, Seat
from bigcode_cli.backends.plain_ops import PlainOps
from bigcode_cli.backends.wide_backend import PassMaker, WideBackend, require_kernels
from bigcode_cli.engine.protocol import BackendInfo, Prompt
from bigcode_cli.kernels.step import Step
from bigcode_cli.kernels.weights import Weights
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM

ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Seats there are; with more rows they are as many as a multiple of the last."""

SHORTEST = 256
"""Tokens a row of the smallest seat; larger ones are twice the last."""

WHOLE_BYTES = 2**28
"""A cache that is no larger is as long as the model allows at once: no seat is outgrown."""

MAX_SEATS = 4
"""Seats that are kept, each with its graphs."""

StepMaker = Callable[[Weights, int, torch.device], Step]
"""Makes the step of so many rows."""


def plain(weights: Weights, rows: int, device: torch.device) -> Step:  # noqa: ARG001
    """The operations without Triton."""
    return PlainOps(weights.geometry)


def fused(weights: Weights, rows: int, device: torch.device) -> Step:
    """The operations as Triton kernels.

    Raises:
        ImportError: there is no Triton.
        RuntimeError: the model or the GPU is out of its reach.
    """
    overlaps = require_kernels(weights.geometry, device) >= (9, 0)
    from bigcode_cli.backends.wide_ops import WideOps
    from bigcode_cli.kernels.triton.ops import TritonOps

    wide = WideOps(weights.geometry, rows, device=device, overlaps=overlaps)
    return TritonOps(
        weights.geometry,
        rows,
        device=device,
        number_bytes=weights.positions.element_size(),
        wide=wide,
        overlaps=overlaps,
    )


MAKERS: Sequence[tuple[str, StepMaker]] = (("Triton kernels", fused), ("a graph", plain))
"""What steps may be made of, best first."""


class GraphBackend(WideBackend):
    """One model on a GPU, behind ``engine.protocol.Backend``.

    Args:
        makers: what steps may be made of, best first; one that fails is told and not tried again.
        make_pass: see ``WideBackend``.
    """

    def __init__(
        self,
        model: GPTBigCodeForCausalLM,
        info: BackendInfo,
        *,
        makers: Sequence[tuple[str, StepMaker]] = MAKERS,
        make_pass: PassMaker | None = None,
    ) -> None:
        super().__init__(model, replace(info, name="graph"), make_pass=make_pass)
        self._makers = list(makers)
        self._seats: list[Seat] = []
        self._has_passes = True

    def take(self, rows: int, capacity: int, mode: Mode) -> Seat | None:
        """See ``graph_seat.Seats``."""
        count, length = self._bucket(rows, capacity)
        for maker in list(self._makers):
            name, make = maker
            try:
                seat = self._seat(count, length, make)
                seat.prepare(mode)
            except torch.OutOfMemoryError:
                # Without a seat it still goes: slower, in the memory that the rows have anyway.
                self._drop()
                return None
            except Exception as error:  # whatever compilers and drivers raise
                self._drop()
                self._makers.remove(maker)
                self._tell(f"decoding goes on without {name}", error)
            else:
                return seat
        return None

    def fits(self, rows: int, seat: Seat) -> bool:
        """See ``graph_seat.Seats``."""
        return rows <= seat.rows < 2 * rows

    def pass_over(self, seat: Seat, tokens: int, length: int) -> RowPass | None:
        """See ``graph_seat.Seats``."""
        size = next((size for size in SIZES if size >= tokens), None)
        if size is None or not self._has_passes:
            return None
        try:
            row_pass = seat.pass_over(size)
            row_pass.prepare(length)
        except Exception as error:  # whatever compilers and drivers raise
            self._has_passes = False
            self._tell("guesses are verified without a graph", error)
            return None
        return row_pass

    def _make_rows(
        self,
        cache: KVCache,
        hidden: Tensor,
        prompts: Sequence[Prompt],
        *,
        reused: int,
        history: list[int] | None,
    ) -> GraphRows:
        return GraphRows(
            self._model,
            self.info,
            cache,
            hidden,
            prompts,
            room=self._room,
            seats=self,
            reused=reused,
            history=history,
        )

    def _bucket(self, rows: int, capacity: int) -> tuple[int, int]:
        """Rows and tokens of the seat that so many are given."""
        count = next((size for size in ROWS if size >= rows), -(-rows // ROWS[-1]) * ROWS[-1])
        config = self._model.config
        whole = config.n_positions
        if KVCache.size(config, count, whole, dtype=self._dtype) <= WHOLE_BYTES:
            return count, whole
        length = SHORTEST
        while length < capacity:
            length *= 2
        return count, min(length, whole)

    def _seat(self, rows: int, capacity: int, make: StepMaker) -> Seat:
        """One of this size, empty: one that there is, or a new one.

        Raises:
            torch.OutOfMemoryError: there is no memory for it.
        """
        for seat in self._seats:
            if seat.rows == rows and seat.capacity >= capacity:
                seat.vacate()
                self._seats.remove(seat)
                self._seats.append(seat)
                return seat
        while len(self._seats) >= MAX_SEATS:
            self._seats.pop(0).vacate()
        needed = KVCache.size(self._model.config, rows, capacity, dtype=self._dtype)
        while (free := free_bytes(self._device)) is not None and needed > free:
            if not self._seats:
                raise torch.OutOfMemoryError
            self._seats.pop(0).vacate()
        weights, device = self._weights, self._device
        seat = Seat(
            weights,
            rows,
            capacity,
            dtype=self._dtype,
            device=self._device,
            make=lambda count: make(weights, count, device),
        )
        self._seats.append(seat)
        return seat

    def _drop(self) -> None:
        """Give all seats back."""
        for seat in self._seats:
            seat.vacate()
        self._seats.clear()
