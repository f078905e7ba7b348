"""Rows in flight of the graph backend: steps replayed on the device, the host a step behind."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from bigcode_cli.backends.graph_seat import Flight, Mode, Seat, move_out
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

    A token a row is a replay; the one after the one that is told runs while the host works on that
    one: it needs nothing of it. Guesses are verified as ``TorchRows`` do, over the same cache
    where it lies: a step that ran ahead counts for nothing then. Whoever is evicted goes on as
    ``TorchRows`` do, and takes a seat again with the next step.
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
        self._places: list[int] = []
        self._flight: Flight | None = None
        # While the seat's buffers know what comes next, what was sampled since they were told is
        # not yet counted in ``_seen``: this many of each row's tokens are.
        self._counted: list[int] | None = None

    def step(self) -> list[Token]:
        """See ``engine.protocol.Rows.step``."""
        return [token for (token,) in self._pass([()] * len(self), runs_ahead=True)]

    def verify(self, guesses: Sequence[Sequence[int]]) -> list[list[Token]]:
        """See ``engine.protocol.Rows.verify``.

        Nothing runs ahead: there may be guesses for the next pass.
        """
        return self._pass(guesses, runs_ahead=False)

    @torch.inference_mode()
    def replace(self, dropped: Sequence[int], tokens: Sequence[Sequence[int]]) -> None:
        """See ``engine.protocol.Rows.replace``."""
        self._pause()
        super().replace(dropped, tokens)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """See ``engine.protocol.Rows.keep``."""
        if self._seat is None:
            super().keep(rows)
            return
        places = [self._places[row] for row in rows]
        gone = sorted(set(self._places) - set(places))
        self._places = places
        self._keep(rows)
        if self._counted is not None:
            self._counted = [self._counted[row] for row in rows]
        if self._counted is None or not self._seats.fits(len(rows), self._seat):
            self.leave()
        elif gone:
            self._seat.stop(gone)

    @torch.inference_mode()
    def leave(self) -> None:
        """Take everything out of the seat's buffers; a step under way counts for nothing."""
        seat = self._seat
        assert seat is not None
        self._settle()
        whole = max(self._prompted) + self._budget
        move_out(self._cache, self._places, min(whole, self._model.config.n_positions))
        seat.release()
        self._seat = None

    @torch.inference_mode()
    def _pass(self, guesses: Sequence[Sequence[int]], *, runs_ahead: bool) -> list[list[Token]]:
        if not any(guesses) and self._is_ready():
            return [[token] for token in self._replayed(runs_ahead=runs_ahead)]
        self._pause()
        return super().verify(guesses)

    def _is_ready(self) -> bool:
        """Whether the next token of each row can be a replay, once a seat is taken."""
        if self._flight is not None:
            return True
        if self._hidden is not None or max(map(len, self._sampled)) >= self._budget:
            return False
        if self._counted is None and any(count != 1 for count in self._pending_counts()):
            return False
        if self._seat is not None and self._longest() >= self._seat.capacity:
            self.leave()
        if self._seat is None and not self._sit():
            return False
        if self._counted is None:
            self._tell_seat()
        return True

    def _pause(self) -> None:
        """Have the cache, and what is known of the rows, as ``TorchRows`` have them."""
        if self._seat is None:
            return
        self._settle()
        room = self._seat.capacity - self._cache.longest
        if self._places != list(range(self._cache.batch)) or room < max(self._pending_counts()):
            self.leave()

    def _settle(self) -> None:
        """Forget a step under way, and count what was sampled here."""
        self._flight = None
        if self._counted is None:
            return
        for row, place in enumerate(self._places):
            ids, counted = self._sampled[row], self._counted[row]
            self._cache.lengths[place] = self._prompted[row] + len(ids) - 1
            self._count(row, ids[counted:], 1)
        self._counted = None

    def _sit(self) -> bool:
        """Take a seat, if there is one."""
        left = self._budget - max(map(len, self._sampled))
        if self._is_refused or self._cache.longest >= self._model.config.n_positions:
            return False
        mode = Mode(drawn=self._options.any_drawn, penalised=self._options.any_penalty)
        seat = self._seats.take(len(self), self._cache.longest + left, mode)
        if seat is None:
            # Asking again at every step would cost more than the steps.
            self._is_refused = True
            return False
        seat.sit(self, self._cache)
        if mode.drawn or mode.penalised:
            draws = min(self._budget, seat.capacity)
            seat.set_sampling(
                [sampler.options for sampler in self._samplers],
                [[stream[number] for number in range(draws)] for stream in self._streams],
            )
        self._seat, self._mode = seat, mode
        self._places = list(range(len(self)))
        return True

    def _tell_seat(self) -> None:
        """Tell the seat's buffers what each row feeds next, and how far it is."""
        assert self._seat is not None
        self._seat.place(
            [ids[-1] for ids in self._sampled],
            self._cache.lengths,
            [len(ids) for ids in self._sampled],
            self._seen > 0 if self._seen is not None and self._mode.penalised else None,
        )
        self._counted = [len(ids) for ids in self._sampled]

    def _longest(self) -> int:
        return max(self._cache.lengths[place] for place in self._places)

    def _launch(self) -> Flight:
        assert self._seat is not None
        flight = self._seat.run(self._mode)
        for place in self._places:
            self._cache.lengths[place] += 1
        return flight

    def _replayed(self, *, runs_ahead: bool) -> list[Token]:
        """The tokens of the step under way, after the next one was sent on its way."""
        assert self._seat is not None
        flight = self._flight or self._launch()
        # There is room for one token more, and a number to draw it by. Log-probabilities are read
        # off the buffers, which the next step writes.
        runs_ahead = (
            runs_ahead
            and all(count is None for count in self._logprobs)
            and max(map(len, self._sampled)) + 1 < self._budget
            and self._longest() < self._seat.capacity
        )
        self._flight = self._launch() if runs_ahead else None
        # Nothing is noted behind a step that failed, as in ``TorchRows``.
        history, self._history = self._history, None
        tokens = self._arrived(flight)
        for ids, token in zip(self._sampled, tokens, strict=True):
            ids.append(token.id)
        if history is not None:
            history += [token.id for token in tokens]
            self._history = history
        return tokens

    def _arrived(self, flight: Flight) -> list[Token]:
        """A flight's tokens, of the rows that are left.

        Raises:
            ModelCorruptError: the logits of a row are not numbers.
        """
        assert self._seat is not None
        if any(count is not None for count in self._logprobs):
            buffers = self._seat.buffers
            places = torch.tensor(self._places, device=buffers.ids.device)
            return self._tokens(buffers.logits[places], buffers.ids[places], range(len(self)))
        ids, highest = flight.wait()
        if not all(abs(highest[place]) < torch.inf for place in self._places):
            raise ModelCorruptError("the model's logits are not numbers", "try --dtype float32")
        return [Token(int(ids[place])) for place in self._places]
