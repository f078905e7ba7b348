"""The backend for GPUs: the reference model for prompts, a captured graph for each token.

What ``TorchBackend`` does is done by it: prefill, scoring, the reuse of prompts. A token is one
launch of a CUDA graph over static buffers: of the Triton kernels where Triton works, else of plain
PyTorch, else not at all, each with one line to the user.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from bigcode_cli.backends.devices import free_bytes
from bigcode_cli.backends.graph_rows import GraphRows
from bigcode_cli.backends.graph_seat import Mode, Seat
from bigcode_cli.backends.graph_weights import weights_of
from bigcode_cli.backends.loading import Loaded
from bigcode_cli.backends.plain_ops import PlainOps
from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.engine.protocol import BackendInfo, Prompt
from bigcode_cli.kernels.step import Ops
from bigcode_cli.kernels.weights import Geometry
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.records import Reporter, Silence

ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Seats there are; with more rows they are as many as a multiple of the last."""

SHORTEST = 256
"""Tokens a row of the smallest seat; larger ones are twice the last."""

WHOLE_BYTES = 2**28
"""A cache that is no larger is as long as the model allows at once: no seat is outgrown."""

MAX_SEATS = 4
"""Seats that are kept, each with its graphs."""

OpsMaker = Callable[[Geometry, int, torch.device], Ops]


def plain(geometry: Geometry, rows: int, device: torch.device) -> Ops:  # noqa: ARG001
    """The operations without Triton."""
    return PlainOps(geometry)


def fused(geometry: Geometry, rows: int, device: torch.device) -> Ops:
    """The operations as Triton kernels.

    Raises:
        ImportError: there is no Triton.
        RuntimeError: the model or the GPU is out of its reach.
    """
    from bigcode_cli.kernels.triton.ops import TritonOps, unsupported

    reason = unsupported(geometry)
    if reason is not None:
        raise RuntimeError(f"they do not know {reason}")
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    if device.type == "cuda" and capability < (8, 0):
        raise RuntimeError("they need a GPU of compute capability 8.0 or more")
    return TritonOps(
        geometry,
        rows,
        device=device,
        wide=PlainOps(geometry),
        overlaps=capability >= (9, 0),
    )


class GraphBackend(TorchBackend):
    """One model on a GPU, behind ``engine.protocol.Backend``.

    Args:
        makers: what steps may be made of, best first; one that fails is told and not tried again.
    """

    def __init__(
        self,
        model: GPTBigCodeForCausalLM,
        info: BackendInfo,
        *,
        makers: Sequence[tuple[str, OpsMaker]] = (("Triton kernels", fused), ("a graph", plain)),
    ) -> None:
        super().__init__(model, replace(info, name="graph"))
        self._weights = weights_of(model, info.vocab_size)
        self._makers = list(makers)
        self._seats: list[Seat] = []
        self._report: Reporter = Silence()

    @classmethod
    def of(
        cls, loaded: Loaded[GPTBigCodeForCausalLM], vocab_size: int, *, report: Reporter
    ) -> Self:
        """See ``TorchBackend.of``."""
        backend = super().of(loaded, vocab_size, report=report)
        backend._report = report
        return backend

    def take(self, rows: int, capacity: int, mode: Mode) -> Seat | None:
        """See ``graph_rows.Seats``."""
        count, length = self._bucket(rows, capacity)
        while self._makers:
            name, make = self._makers[0]
            try:
                seat = self._seat(count, length, make)
                seat.prepare(mode)
            except torch.OutOfMemoryError:
                # Without a seat it still goes: slower, in the memory that the rows have anyway.
                self._drop()
                return None
            except Exception as error:  # whatever compilers and drivers raise
                self._drop()
                del self._makers[0]
                reason = str(error).strip().partition("\n")[0] or type(error).__name__
                self._report.note(f"decoding goes on without {name}: {reason}")
            else:
                return seat
        return None

    def fits(self, rows: int, seat: Seat) -> bool:
        """See ``graph_rows.Seats``."""
        return rows <= seat.rows < 2 * rows

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

    def _seat(self, rows: int, capacity: int, make: OpsMaker) -> Seat:
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
        geometry = self._weights.geometry
        seat = Seat(
            self._weights,
            rows,
            capacity,
            dtype=self._dtype,
            device=self._device,
            ops=lambda count: make(geometry, count, self._device),
        )
        self._seats.append(seat)
        return seat

    def _drop(self) -> None:
        """Give all seats back."""
        for seat in self._seats:
            seat.vacate()
        self._seats.clear()
