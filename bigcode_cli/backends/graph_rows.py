"""Rows in flight of the graph backend: steps replayed on the device, the host a step behind."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from bigcode_cli.backends.capture import Flight
from bigcode_cli.backends.graph_seat import Mode, Seat, Seats, move_out
from bigcode_cli.backends.row import Row
from bigcode_cli.backends.sampling import cumulative_dtype, penalised, sample, seen_behind
from bigcode_cli.backends.torch_rows import Room, TorchRows, require_numbers
from bigcode_cli.engine.protocol import BackendInfo, Prompt, Token
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM


class GraphRows(TorchRows):
    """``TorchRows`` that take a seat once their first token is sampled.

    A token a row is a replay; the one after the one that is told runs while the host works on that
    one: it needs nothing of it. Guesses of a row that is alone are verified by a replay too; those
    of several rows, and very long ones, as ``TorchRows`` do, over the same cache where it lies: a
    step that ran ahead counts for nothing then. Whoever is evicted goes on as ``TorchRows`` do, and
    takes a seat again with the next pass.
    """

    def __init__(
        self,
        model: GPTBigCodeForCausalLM,
        info: BackendInfo,
        cache: KVCache,
        hidden: Tensor,
        prompts: Sequence[Prompt],
        *,
        room: Room,
        seats: Seats,
        reused: int = 0,
        history: list[int] | None = None,
    ) -> None:
        super().__init__(
            model, info, cache, hidden, prompts, room=room, reused=reused, history=history
        )
        self._seats = seats
        self._seat: Seat | None = None
        self._is_refused = False
        self._mode = Mode(drawn=False, penalised=False)
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
    def prepare(self, guesses: int) -> None:
        """See ``engine.protocol.Rows.prepare``."""
        if self._hidden is None and self._seat is None:
            self._sit()
        if self._seat is None or len(self) > 1:
            return
        (pending,), (held,) = self._pending_counts(), self._held()
        if pending + guesses > 1 and held < self._seat.capacity:
            self._seats.pass_over(self._seat, pending + guesses, held)

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
        if not self._seats.fits(len(rows), self._seat):
            self.leave()
        elif gone:
            self._seat.stop(gone)

    @torch.inference_mode()
    def join(self, other: Self) -> None:
        """See ``engine.protocol.Rows.join``.

        Places of a seat that are free are taken, also those that rows have left; else all look
        for a larger one. A step that ran ahead counts for nothing, so it had better not.
        """
        if other._seat is not None:
            other.leave()
        self._is_refused = False
        if self._seat is not None:
            self._settle()
            if self._has_places(other):
                self._seat_others(other)
                return
            self.leave()
        super().join(other)

    def _has_places(self, other: Self) -> bool:
        """Whether the rows of another find room in this seat, whose step does what they need."""
        assert self._seat is not None
        asked = zip(other._asked_mode(), self._mode, strict=True)
        return (
            self._seats.fits(len(self) + len(other), self._seat)
            and other._whole() <= self._seat.capacity
            and all(does or not wanted for wanted, does in asked)
        )

    def _seat_others(self, other: Self) -> None:
        assert self._seat is not None
        free = sorted(set(range(self._seat.rows)) - set(self._places))
        places = free[: len(other)]
        self._cache.put(other._cache, places)
        self._seat.start(places)
        self._set_sampling(places, other._rows)
        self._places += places
        self._take_in(other)

    @torch.inference_mode()
    def leave(self) -> None:
        """Take everything out of the seat's buffers; a step under way counts for nothing."""
        seat = self._seat
        assert seat is not None
        self._settle()
        move_out(self._cache, self._places, self._whole())
        seat.release()
        self._seat = None

    @torch.inference_mode()
    def _pass(self, guesses: Sequence[Sequence[int]], *, runs_ahead: bool) -> list[list[Token]]:
        if not any(guesses) and self._is_ready():
            return [[token] for token in self._replayed(runs_ahead=runs_ahead)]
        if self._flight is not None and len(self) == 1:
            return [self._behind_flight(self._fitting(guesses)[0])]
        self._pause()
        if self._seat is None and self._hidden is None and len(self) == 1:
            self._sit()
        return super().verify(guesses)

    def _behind_flight(self, guess: list[int]) -> list[Token]:
        """Take the step under way for what it is: it has sampled the first token already.

        It cannot be called back, and where the first guess is wrong no pass is needed.
        """
        (token,) = self._replayed(runs_ahead=False)
        if guess[:1] != [token.id]:
            return [token]
        return [token, *self._pass([guess[1:]], runs_ahead=False)[0]]

    def _take(self, guesses: Sequence[list[int]]) -> list[list[Token]]:
        """See ``TorchRows``; for a row that is alone in its seat it is one launch."""
        row_pass = None
        if self._seat is not None and self._hidden is None and len(self) == 1:
            row, start, (guess,) = self._rows[0], self._cache.longest, guesses
            fed = [*row.sampled[start - len(row.prompt) :], *guess]
            if start + len(fed) <= self._seat.capacity:
                row_pass = self._seats.pass_over(self._seat, len(fed), start)
        if row_pass is None:
            return super()._take(guesses)
        flight = row_pass.run(fed, start)
        self._cache.advance(len(fed))
        behind = slice(len(fed) - len(guess) - 1, len(fed))
        return [self._agreed(guess, row_pass.logits[behind], flight, behind)]

    def _agreed(
        self, guess: list[int], logits: Tensor, flight: Flight, behind: slice
    ) -> list[Token]:
        """What the one row samples behind its last token and behind each guess that held.

        Args:
            logits: ``(1 + guess, vocab)``.
            flight: what is best there, at the places ``behind`` of all that is told.
        """
        row = self._rows[0]
        if row.logprobs is None and self._asked_mode() == Mode(drawn=False, penalised=False):
            ids, highest = (told[behind] for told in flight.wait())
        else:
            chosen = self._sampled(logits, guess)
            ids, highest = torch.stack([chosen.double(), logits.amax(-1).double()]).tolist()
        count = 1
        while count <= len(guess) and ids[count - 1] == guess[count - 1]:
            count += 1
        require_numbers(highest[:count])
        tokens = self._with_logprobs([int(id_) for id_ in ids[:count]], logits, [0] * count)
        row.sampled.extend(token.id for token in tokens)
        self._count(0, row.sampled[-count:], 1)
        return tokens

    def _sampled(self, logits: Tensor, guess: list[int]) -> Tensor:
        """Ids ``(1 + guess,)``: each as if the guesses before it had been sampled."""
        row = self._rows[0]
        if self._seen is not None:
            seen = seen_behind(self._seen > 0, guess)
            logits = penalised(logits, seen, self._options.penalty)
        numbers = range(len(row.sampled), len(row.sampled) + len(logits))
        uniforms = torch.tensor(
            [row.stream[number] for number in numbers], dtype=cumulative_dtype(self._device)
        )
        return sample(logits, self._options, uniforms.to(self._device))

    def _is_ready(self) -> bool:
        """Whether the next token of each row can be a replay, once a seat is taken."""
        if self._flight is not None:
            return True
        if self._hidden is not None or any(len(row.sampled) >= row.budget for row in self._rows):
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
        for at, (row, place) in enumerate(zip(self._rows, self._places, strict=True)):
            self._cache.lengths[place] = row.length - 1
            self._count(at, row.sampled[self._counted[at] :], 1)
        self._counted = None

    def _sit(self) -> bool:
        """Take a seat, if there is one."""
        if self._is_refused or self._cache.longest >= self._model.config.n_positions:
            return False
        mode = self._asked_mode()
        seat = self._seats.take(len(self), self._whole(), mode)
        if seat is None:
            # Asking again at every step would cost more than the steps.
            self._is_refused = True
            return False
        seat.sit(self, self._cache)
        self._seat, self._mode = seat, mode
        self._places = list(range(len(self)))
        self._set_sampling(self._places, self._rows)
        return True

    def _asked_mode(self) -> Mode:
        return Mode(drawn=self._options.any_drawn, penalised=self._options.any_penalty)

    def _set_sampling(self, places: Sequence[int], rows: Sequence[Row]) -> None:
        """How rows draw, where the seat's step looks at it."""
        assert self._seat is not None
        if not any(self._mode):
            return
        capacity = self._seat.capacity
        self._seat.set_sampling(
            places,
            [row.sampler.options for row in rows],
            [[row.stream[number] for number in range(min(row.budget, capacity))] for row in rows],
        )

    def _tell_seat(self) -> None:
        """Tell the seat's buffers what each row feeds next, and how far it is."""
        assert self._seat is not None
        self._seat.place(
            self._places,
            [row.sampled[-1] for row in self._rows],
            self._held(),
            [len(row.sampled) for row in self._rows],
            self._seen > 0 if self._seen is not None and self._mode.penalised else None,
        )
        self._counted = [len(row.sampled) for row in self._rows]

    def _held(self) -> list[int]:
        if self._seat is None:
            return super()._held()
        return [self._cache.lengths[place] for place in self._places]

    def _longest(self) -> int:
        return max(self._held())

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
            and all(row.logprobs is None for row in self._rows)
            and any(len(row.sampled) + 1 < row.budget for row in self._rows)
            and self._longest() < self._seat.capacity
        )
        self._flight = self._launch() if runs_ahead else None
        # Nothing is noted behind a step that failed, as in ``TorchRows``.
        history, self._history = self._history, None
        tokens = self._arrived(flight)
        for row, token in zip(self._rows, tokens, strict=True):
            row.sampled.append(token.id)
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
        if any(row.logprobs is not None for row in self._rows):
            buffers = self._seat.buffers
            places = torch.tensor(self._places, device=buffers.ids.device)
            return self._tokens(buffers.logits[places], buffers.ids[places], range(len(self)))
        ids, highest = flight.wait()
        require_numbers([highest[place] for place in self._places])
        return [Token(int(ids[place])) for place in self._places]
