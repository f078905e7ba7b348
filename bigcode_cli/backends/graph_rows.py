"""Rows in flight of the graph backend: steps replayed on the device, the host a step behind."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from bigcode_cli.backends.graph_seat import Flight, Mode, Seat, move_out
from bigcode_cli.backends.sampling import SamplingTensors
from bigcode_cli.backends.torch_rows import TorchRows
from bigcode_cli.engine.protocol import BackendInfo, Prompt, Token
from bigcode_cli.errors import ModelCorruptError
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM


class Seats(Protocol):
    """Where rows find buffers with a captured step."""

    def take(self, rows: int, capacity: int, mode: Mode) -> Seat | None:
        """An empty seat, prepared; ``None`` where there is none to be had."""

    def fits(self, rows: int, seat: Seat) -> bool:
        """Whether so few rows would not be better off in a smaller seat."""


class GraphRows(TorchRows):
    """``TorchRows`` that take a seat once their first token is sampled.

    Whoever is evicted goes on as ``TorchRows`` do, and takes a seat again with the next step. The
    step after the one that is told runs while the host works on that one: it needs nothing of it.
    """

    def __init__(
        self,
        model: GPTBigCodeForCausalLM,
        info: BackendInfo,
        cache: KVCache,
        hidden: Tensor,
        prompts: Sequence[Prompt],
        *,
        seats: Seats,
        reused: int = 0,
        history: list[int] | None = None,
    ) -> None:
        super().__init__(model, info, cache, hidden, prompts, reused=reused, history=history)
        self._seats = seats
        self._seat: Seat | None = None
        self._is_refused = False
        self._mode = Mode(drawn=False, penalised=False)
        # What each row may still draw is bounded by the longest budget: rows leave at their own.
        self._budget = max(prompt.max_new_tokens for prompt in prompts)
        self._sampled = 0
        self._places: list[int] = []
        self._flight: Flight | None = None
        self._ahead: list[Token] | None = None

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """See ``engine.protocol.Rows.step``."""
        if self._ahead is not None:
            tokens, self._ahead = self._ahead, None
            with self._noted(tokens):
                return tokens
        if self._seat is not None and self._flight is None and not self._may_launch():
            self.leave()
        if self._seat is None and (self._pending is None or not self._sit()):
            self._sampled += 1
            return super().step()
        tokens = []
        with self._noted(tokens):
            tokens += self._replayed()
        return tokens

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """See ``engine.protocol.Rows.keep``."""
        if self._ahead is not None:
            self._ahead = [self._ahead[row] for row in rows]
        if self._seat is None:
            super().keep(rows)
            return
        self._samplers = [self._samplers[row] for row in rows]
        self._logprobs = [self._logprobs[row] for row in rows]
        places = [self._places[row] for row in rows]
        gone = sorted(set(self._places) - set(places))
        self._places = places
        if not self._seats.fits(len(rows), self._seat):
            self.leave()
        elif gone:
            self._seat.stop(gone)

    @torch.inference_mode()
    def leave(self) -> None:
        """Take everything out of the seat's buffers: a step that is under way, first."""
        seat = self._seat
        assert seat is not None
        if self._flight is not None:
            self._ahead = self._arrived(self._flight)
            self._flight = None
        places = torch.tensor(self._places, device=seat.buffers.ids.device)
        move_out(self._cache, self._places)
        with torch.inference_mode(False):
            self._pending = seat.buffers.ids[places]
        options = [sampler.options for sampler in self._samplers]
        self._options = SamplingTensors.of(options, self._vocab_size, places.device)
        self._seen = seat.seen[places] if self._mode.penalised else None
        self._streams = [random.Random(sampler.seed) for sampler in self._samplers]
        for stream in self._streams:
            for _ in range(self._sampled):
                stream.random()
        seat.release()
        self._seat = None

    def _sit(self) -> bool:
        """Take a seat, if there is one."""
        left = self._budget - self._sampled
        if left < 1 or self._is_refused:
            return False
        mode = Mode(drawn=self._options.any_drawn, penalised=self._options.any_penalty)
        seat = self._seats.take(len(self), self._cache.longest + left, mode)
        if seat is None:
            # Asking again at every step would cost more than the steps.
            self._is_refused = True
            return False
        assert self._pending is not None
        seat.sit(self, self._cache, self._pending)
        if mode.drawn or mode.penalised:
            left = min(left, seat.capacity)
            seat.set_sampling(
                [sampler.options for sampler in self._samplers],
                self._seen,
                [[stream.random() for _ in range(left)] for stream in self._streams],
            )
        self._seat, self._mode = seat, mode
        self._places = list(range(len(self)))
        return True

    def _may_launch(self) -> bool:
        """Whether there is room for one token more, and a number to draw it by."""
        assert self._seat is not None
        longest = max(self._cache.lengths[place] for place in self._places)
        return self._sampled < self._budget and longest < self._seat.capacity

    def _launch(self) -> Flight:
        assert self._seat is not None
        flight = self._seat.run(self._mode)
        self._sampled += 1
        for place in self._places:
            self._cache.lengths[place] += 1
        return flight

    def _replayed(self) -> list[Token]:
        """The tokens of the step under way, after the next one was sent on its way."""
        flight = self._flight or self._launch()
        # Log-probabilities are read off the buffers, which the next step writes.
        runs_ahead = all(count is None for count in self._logprobs) and self._may_launch()
        self._flight = self._launch() if runs_ahead else None
        return self._arrived(flight)

    def _arrived(self, flight: Flight) -> list[Token]:
        """A flight's tokens, of the rows that are left.

        Raises:
            ModelCorruptError: the logits of a row are not numbers.
        """
        assert self._seat is not None
        if any(count is not None for count in self._logprobs):
            buffers = self._seat.buffers
            places = torch.tensor(self._places, device=buffers.ids.device)
            return self._tokens(buffers.logits[places], buffers.ids[places])
        ids, highest = flight.wait()
        if not all(abs(highest[place]) < torch.inf for place in self._places):
            raise ModelCorruptError("the model's logits are not numbers", "try --dtype float32")
        return [Token(int(ids[place])) for place in self._places]

    @contextmanager
    def _noted(self, tokens: list[Token]) -> Iterator[None]:
        """Note the tokens in the history, unless the step fails: see ``TorchRows.step``."""
        history, self._history = self._history, None
        yield
        if history is not None:
            history += [token.id for token in tokens]
            self._history = history
