"""Buffers for so many rows, and the step over them: captured once as a CUDA graph, then replayed.

A graph holds addresses, so rows come and go by being copied in and out. Sampling happens on the
device, by ``backends.sampling`` itself, and its random numbers lie there beforehand: nothing in a
step waits for the host.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from bigcode_cli.backends.capture import Flight, Landing, Pool, captured
from bigcode_cli.backends.graph_pass import RowPass
from bigcode_cli.backends.plain_ops import settle
from bigcode_cli.backends.sampling import SamplingTensors, cumulative_dtype, penalised, sample
from bigcode_cli.kernels.buffers import Buffers
from bigcode_cli.kernels.step import Step
from bigcode_cli.kernels.weights import Weights
from bigcode_cli.model.cache import KVCache
from bigcode_cli.records import SamplingOptions


class Mode(NamedTuple):
    """What a step does behind the logits.

    Attributes:
        drawn: some row draws its token; else all take the best.
        penalised: some row's repetition penalty does something.
    """

    drawn: bool
    penalised: bool


class Sitter(Protocol):
    """Rows in a seat."""

    def leave(self) -> None:
        """Take everything out of the seat's buffers."""


class Seat:
    """See the module's beginning.

    Args:
        make: the step of so many rows.
    """

    def __init__(
        self,
        weights: Weights,
        rows: int,
        capacity: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        make: Callable[[int], Step],
    ) -> None:
        self._weights = weights
        self._dtype, self._device = dtype, device
        self._make, self._operations = make, make(rows)
        self.buffers = Buffers.allocate(
            weights.geometry, rows, capacity, dtype=dtype, device=device
        )
        vocab = weights.geometry.vocab
        with torch.inference_mode(False):
            self._options = SamplingTensors.of([SamplingOptions()] * rows, vocab, device)
            self.seen = torch.zeros(rows, vocab, dtype=torch.bool, device=device)
            self._uniforms = torch.zeros(
                rows, capacity, dtype=cumulative_dtype(device), device=device
            )
            self._draws = torch.zeros(rows, 1, dtype=torch.int64, device=device)
        self._landings = [Landing(rows, device) for _ in range(2)]
        self._flights = 0
        self._graphs: dict[Mode, torch.cuda.CUDAGraph] = {}
        self._passes: dict[int, RowPass] = {}
        self._pool: Pool | None = None
        self._sitter: weakref.ref[Sitter] | None = None
        self._cache: weakref.ref[KVCache] | None = None

    @property
    def rows(self) -> int:
        """How many sequences it takes."""
        return self.buffers.rows

    @property
    def capacity(self) -> int:
        """How many tokens each may hold."""
        return self.buffers.capacity

    def prepare(self, mode: Mode) -> None:
        """Capture the step in this mode, if it is not yet; the seat must be empty.

        Raises:
            RuntimeError, OSError …: whatever compiling or capturing came upon.
        """
        self.buffers.active.zero_()
        self.buffers.lengths.zero_()
        self._draws.zero_()
        if self._device.type != "cuda" or mode in self._graphs:
            return
        self._graphs[mode] = captured(lambda: self._step(mode), self._device)

    def pass_over(self, tokens: int) -> RowPass:
        """A pass over so many tokens of the one row; its first one still has to be prepared."""
        assert self.rows == 1
        if tokens not in self._passes:
            if self._device.type == "cuda" and self._pool is None:
                self._pool = Pool()
            self._passes[tokens] = RowPass(
                self._weights,
                tokens,
                self.buffers.cache,
                dtype=self._dtype,
                device=self._device,
                step=self._make(tokens),
                pool=self._pool,
            )
        return self._passes[tokens]

    def sit(self, sitter: Sitter, cache: KVCache) -> None:
        """Copy rows in, from place 0 on; the cache lives in the seat's buffers from now on."""
        self._sitter = weakref.ref(sitter)
        self._cache = weakref.ref(cache)
        count, longest = cache.batch, cache.longest
        for own, theirs in zip(self.buffers.cache, cache.layers, strict=True):
            own[:count, :, :longest] = theirs[:count, :, :longest]
        cache.layers = list(self.buffers.cache)
        self.start(range(count))

    def start(self, places: Sequence[int]) -> None:
        """Rows that go on, once they are told where they stand."""
        self.buffers.active[self._index(places)] = 1

    def set_sampling(
        self,
        places: Sequence[int],
        options: Sequence[SamplingOptions],
        uniforms: Sequence[Sequence[float]],
    ) -> None:
        """How the rows at these places draw.

        Args:
            uniforms: each row's numbers in [0, 1), as many as it may draw.
        """
        index = self._index(places)
        own = SamplingTensors.of(options, self.seen.shape[1], self._device)
        for name in ("temperature", "top_k", "top_p", "min_p", "penalty"):
            getattr(self._options, name)[index] = getattr(own, name)
        table = torch.zeros(len(places), max(map(len, uniforms)), dtype=self._uniforms.dtype)
        for row, numbers in zip(table, uniforms, strict=True):
            row[: len(numbers)] = torch.tensor(numbers, dtype=table.dtype)
        self._uniforms[index, : table.shape[1]] = table.to(self._device)

    def place(
        self,
        places: Sequence[int],
        pending: Sequence[int],
        lengths: Sequence[int],
        draws: Sequence[int],
        seen: Tensor | None,
    ) -> None:
        """Where the rows stand that sit at these places.

        Args:
            pending: the token that each row feeds next.
            lengths: tokens that the cache holds of it.
            draws: of its numbers, which one is next.
            seen: bool ``(rows, vocab)``, where a penalty looks at it.
        """
        index, *stand = torch.tensor([places, pending, lengths, draws]).to(self._device)
        self.buffers.ids[index] = stand[0]
        self.buffers.lengths[index] = stand[1].int()
        self._draws[index, 0] = stand[2]
        if seen is not None:
            self.seen[index] = seen

    def vacate(self) -> None:
        """Let whoever sits here take everything along; an abandoned cache that is kept, too."""
        sitter = None if self._sitter is None else self._sitter()
        cache = None if self._cache is None else self._cache()
        self.release()
        if sitter is not None:
            sitter.leave()
        elif cache is not None:
            move_out(cache, range(cache.batch), cache.longest)

    def release(self) -> None:
        """Whoever sat here has left."""
        self._sitter = self._cache = None

    def stop(self, places: Sequence[int]) -> None:
        """Rows that do not go on: they cost no attention any more."""
        index = self._index(places)
        self.buffers.active[index] = 0
        self.buffers.lengths[index] = 0

    def _index(self, places: Sequence[int]) -> Tensor:
        return torch.tensor(list(places)).to(self._device)

    def run(self, mode: Mode) -> Flight:
        """One step, which begins as soon as those before it have ended; nothing waits for it."""
        if self._device.type == "cuda":
            self._graphs[mode].replay()
        else:
            self._step(mode)
        landing = self._landings[self._flights % 2]
        self._flights += 1
        return landing.send(self.buffers.told)

    def _step(self, mode: Mode) -> None:
        buffers = self.buffers
        self._operations.run(self._weights, buffers)
        if mode == Mode(drawn=False, penalised=False):
            self._operations.pick(buffers)
            return
        logits = buffers.logits
        if mode.penalised:
            logits = penalised(logits, self.seen, self._options.penalty)
        if mode.drawn:
            options = SamplingTensors(
                temperature=self._options.temperature,
                top_k=self._options.top_k,
                top_p=self._options.top_p,
                min_p=self._options.min_p,
                penalty=self._options.penalty,
                any_penalty=mode.penalised,
                any_drawn=True,
            )
            ids = sample(logits, options, self._uniforms.gather(1, self._draws)[:, 0])
            self._draws.add_(buffers.active[:, None])
        else:
            ids = logits.argmax(-1)
        if mode.penalised:
            self.seen.scatter_(1, ids[:, None], value=True)
        settle(buffers, ids)


class Seats(Protocol):
    """Where rows find buffers with a captured step."""

    def take(self, rows: int, capacity: int, mode: Mode) -> Seat | None:
        """An empty seat, prepared; ``None`` where there is none to be had."""

    def fits(self, rows: int, seat: Seat) -> bool:
        """Whether so many rows would not be better off in another seat.

        One of twice as many places is too large: of those in between the next ones may join.
        """

    def pass_over(self, seat: Seat, tokens: int, length: int) -> RowPass | None:
        """A pass over so many tokens of the one row in a seat, prepared; ``None`` without one.

        Args:
            length: of what the row's cache holds: see ``RowPass.prepare``.
        """


def move_out(cache: KVCache, rows: Sequence[int], capacity: int) -> None:
    """Give a cache tensors of its own, of these rows of it, with room for ``capacity`` tokens."""
    device = cache.layers[0].device
    index = torch.tensor(list(rows)).to(device)
    longest = max(cache.lengths[row] for row in rows)
    _, heads, _, width = cache.layers[0].shape
    with torch.inference_mode(False):
        shape = (len(cache.layers), len(rows), heads, max(capacity, longest), width)
        layers = torch.zeros(shape, dtype=cache.layers[0].dtype, device=device).unbind(0)
        for own, held in zip(layers, cache.layers, strict=True):
            own[:, :, :longest] = held[:, :, :longest].index_select(0, index)
    cache.layers = list(layers)
    cache.lengths = [cache.lengths[row] for row in rows]
