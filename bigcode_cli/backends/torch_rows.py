"""Rows in flight of the PyTorch backend: sampling, one token or several a pass."""

from array import array
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor

from bigcode_cli.backends.row import Row
from bigcode_cli.backends.sampling import SamplingTensors, cumulative_dtype, penalised, sample
from bigcode_cli.engine.protocol import BackendInfo, Prompt, Token
from bigcode_cli.errors import ModelCorruptError, ModelTooLargeError
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM

Room = Callable[[int, int], KVCache]
"""An empty cache with room for so many rows of so many tokens; raises ``ModelTooLargeError``."""

ROUNDED = 256
"""Tokens a row of a larger cache are a multiple: whoever joins later may be somewhat longer."""


class TorchRows:
    """Rows in flight, behind ``engine.protocol.Rows``.

    What a row has yet to feed is known by its lengths: the ids that were sampled, less those that
    its cache holds behind the prompt.

    Args:
        cache: of all rows, filled with their prompts.
        hidden: of the prompts' last tokens, ``(rows, n_embd)``: the first tokens are read from it.
        room: where rows that join find a larger cache.
        reused: see ``engine.protocol.Rows``.
        history: where a row that is alone notes the ids that it samples.
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
        reused: int = 0,
        history: list[int] | None = None,
    ) -> None:
        self.reused = reused
        self._history = history
        self._model = model
        self._vocab_size = info.vocab_size
        self._max_rows = info.max_rows
        self._room = room
        self._cache = cache
        self._hidden: Tensor | None = hidden
        self._device = hidden.device
        self._rows = Row.of(prompts)
        self._options = self._gathered_options()
        self._seen = self._count_seen() if self._options.any_penalty else None
        self._allowed = self._allowed_mask(prompts)

    def __len__(self) -> int:
        """How many rows are left."""
        return len(self._rows)

    def step(self) -> list[Token]:
        """See ``engine.protocol.Rows.step``."""
        return [token for (token,) in self.verify([()] * len(self))]

    def prepare(self, guesses: int) -> None:
        """See ``engine.protocol.Rows.prepare``: nothing."""

    @torch.inference_mode()
    def verify(self, guesses: Sequence[Sequence[int]]) -> list[list[Token]]:
        """See ``engine.protocol.Rows.verify``."""
        # Nothing is noted behind a pass that failed: the notes must not disagree with the cache.
        history, self._history = self._history, None
        try:
            taken = self._take(self._fitting(guesses))
        finally:
            self._crop()
        self._hidden = self._allowed = None
        if history is not None:
            history += [token.id for token in taken[0]]
            self._history = history
        return taken

    @torch.inference_mode()
    def replace(self, dropped: Sequence[int], tokens: Sequence[Sequence[int]]) -> None:
        """See ``engine.protocol.Rows.replace``."""
        pairs = zip(self._rows, dropped, strict=True)
        kept = [len(row.sampled) - drop for row, drop in pairs]
        ends = [len(row.prompt) + count for row, count in zip(self._rows, kept, strict=True)]
        self._cache.crop(list(map(min, self._cache.lengths, ends)))
        for place, (count, new) in enumerate(zip(kept, tokens, strict=True)):
            sampled = self._rows[place].sampled
            old, sampled[count:] = sampled[count:], new
            self._count(place, old, -1)
            self._count(place, new, 1)
        if self._history is not None:
            self._history[ends[0] :] = tokens[0]
        self._crop()
        self._hidden = self._allowed = None

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """See ``engine.protocol.Rows.keep``."""
        self._cache.keep(rows)
        self._keep(rows)

    @torch.inference_mode()
    def join(self, other: Self) -> None:
        """See ``engine.protocol.Rows.join``.

        A cache without room for them gives way to a larger one, twice as large while there is
        memory: so a row is moved but a few times, however many join. The cache of a row that was
        alone has no room and is left to whoever reuses it.
        """
        rows, tokens = len(self) + len(other), max(self._whole(), other._whole())
        cache = self._cache
        if cache.room < rows or cache.capacity < tokens:
            cache = self._larger(rows, tokens)
            cache.put(self._cache, range(len(self)))
        cache.put(other._cache, range(len(self), rows))
        self._cache = cache
        self._take_in(other)

    def _larger(self, rows: int, tokens: int) -> KVCache:
        """An empty cache with room for so much at least.

        Raises:
            ModelTooLargeError: there is no memory for it.
        """
        ahead = max(rows, min(2 * self._cache.room, self._max_rows))
        longer = max(-(-tokens // ROUNDED) * ROUNDED, self._cache.capacity)
        try:
            return self._room(ahead, min(longer, self._model.config.n_positions))
        except ModelTooLargeError:
            return self._room(rows, tokens)

    def _whole(self) -> int:
        """Tokens that the longest row may come to."""
        return min(max(row.whole for row in self._rows), self._model.config.n_positions)

    def _take_in(self, other: Self) -> None:
        """What ``join`` does beside the cache."""
        assert self._hidden is None
        assert other._hidden is None
        self._history = None
        seen = None
        if self._options.any_penalty or other._options.any_penalty:
            seen = torch.cat([self._known_seen(), other._known_seen()])
        self._rows += other._rows
        self._options = self._gathered_options()
        self._seen = seen

    def _keep(self, rows: Sequence[int]) -> None:
        """What ``keep`` does beside the cache."""
        self._rows = [self._rows[row] for row in rows]
        index = torch.tensor(rows, device=self._device)
        self._options = self._options.keep(index, [row.sampler.options for row in self._rows])
        self._seen = self._seen[index] if self._seen is not None else None
        self._allowed = self._allowed[index] if self._allowed is not None else None
        self._hidden = self._hidden[index] if self._hidden is not None else None

    def _take(self, guesses: Sequence[list[int]]) -> list[list[Token]]:
        """One pass, and all that it tells of each row."""
        logits = self._logits(guesses)
        taken: list[list[Token]] = [[] for _ in guesses]
        live = list(range(len(self)))
        for place in range(logits.shape[1]):
            for row, token in zip(live, self._sample(logits[:, place], live), strict=True):
                taken[row].append(token)
            live = [row for row in live if [taken[row][-1].id] == guesses[row][place : place + 1]]
            if not live:
                break
        return taken

    def _fitting(self, guesses: Sequence[Sequence[int]]) -> list[list[int]]:
        """As much of the guesses as there is room for, padding of shorter rows counted in."""
        if self._hidden is not None:
            return [[] for _ in guesses]
        fed = self._cache.longest + max(self._pending_counts())
        room = min(self._model.config.n_positions, self._cache.capacity) - fed
        return [list(guess[: max(room, 0)]) for guess in guesses]

    def _pending_counts(self) -> list[int]:
        """How many tokens of each row were not fed yet."""
        return [row.length - held for row, held in zip(self._rows, self._held(), strict=True)]

    def _held(self) -> list[int]:
        """How many tokens of each row the cache holds."""
        return self._cache.lengths

    def _gathered_options(self) -> SamplingTensors:
        options = [row.sampler.options for row in self._rows]
        return SamplingTensors.of(options, self._vocab_size, self._device)

    def _logits(self, guesses: Sequence[Sequence[int]]) -> Tensor:
        """Feed what is pending and the guesses behind it, in one pass.

        Returns:
            ``(rows, 1 + longest guess, vocab)`` float32: behind the last pending token, and behind
            each guess; whatever numbers behind the end of a shorter one.
        """
        if self._hidden is not None:
            states = self._hidden[:, None]
        else:
            counts = zip(self._rows, self._pending_counts(), strict=True)
            pending = [row.sampled[len(row.sampled) - count :] for row, count in counts]
            feed = [[*ids, *guess] for ids, guess in zip(pending, guesses, strict=True)]
            output = self._model.transformer(
                padded_ids(feed).to(self._device), past_key_values=self._cache, use_cache=True
            )
            states = output.last_hidden_state
            width = 1 + max(len(guess) for guess in guesses)
            if any(len(ids) > 1 for ids in pending):
                starts = torch.tensor([len(ids) - 1 for ids in pending], device=self._device)
                places = starts[:, None] + torch.arange(width, device=self._device)
                places = places.clamp(max=states.shape[1] - 1)
                states = states.gather(1, places[..., None].expand(-1, -1, states.shape[2]))
        logits: Tensor = self._model.lm_head(states)[..., : self._vocab_size]
        return logits.float()

    def _sample(self, logits: Tensor, live: Sequence[int]) -> list[Token]:
        """The next token of the rows that are ``live``, of all rows' ``(rows, vocab)`` logits."""
        options, seen = self._options, self._seen
        if len(live) < len(self):
            index = torch.tensor(live, device=self._device)
            logits = logits[index]
            options = options.keep(index, [self._rows[row].sampler.options for row in live])
            seen = seen[index] if seen is not None else None
        constrained = logits
        if seen is not None:
            constrained = penalised(constrained, seen > 0, options.penalty)
        if self._allowed is not None:
            constrained = constrained.masked_fill(~self._allowed, -torch.inf)
        uniforms = torch.tensor(
            [self._rows[row].stream[len(self._rows[row].sampled)] for row in live],
            dtype=cumulative_dtype(self._device),
        ).to(self._device)
        tokens = self._tokens(logits, sample(constrained, options, uniforms), live)
        for row, token in zip(live, tokens, strict=True):
            self._rows[row].sampled.append(token.id)
            self._count(row, [token.id], 1)
        return tokens

    def _tokens(self, logits: Tensor, ids: Tensor, live: Sequence[int]) -> list[Token]:
        """The sampled ids on the host, in one copy with the check that the logits are numbers."""
        told = torch.stack([ids.double(), logits.amax(-1).double()]).tolist()
        require_numbers(told[1])
        return self._with_logprobs([int(id_) for id_ in told[0]], logits, live)

    def _with_logprobs(
        self, ids: Sequence[int], logits: Tensor, live: Sequence[int]
    ) -> list[Token]:
        """Ids of the rows that are ``live``, with what is asked for of their ``(rows, vocab)``."""
        counts = [self._rows[row].logprobs for row in live]
        if all(count is None for count in counts):
            return [Token(id_) for id_ in ids]
        log_probabilities = logits.log_softmax(-1)
        return [
            Token(id_) if count is None else _told(id_, count, log_probabilities[place])
            for place, (id_, count) in enumerate(zip(ids, counts, strict=True))
        ]

    def _crop(self) -> None:
        """Take back what was fed beyond the last token but one: guesses that did not hold."""
        ends = [len(row.prompt) + max(len(row.sampled) - 1, 0) for row in self._rows]
        self._cache.crop(list(map(min, ends, self._cache.lengths)))

    def _count(self, row: int, ids: Sequence[int], times: int) -> None:
        """Note that ids were sampled, or that they were not."""
        if self._seen is not None and ids:
            places = torch.tensor(ids, device=self._device)
            counts = torch.full_like(places, times, dtype=self._seen.dtype)
            self._seen[row].index_add_(0, places, counts)

    def _known_seen(self) -> Tensor:
        """As ``_count_seen``; nothing is counted where no row's penalty looks at it."""
        if self._seen is not None:
            return self._seen
        return torch.zeros(len(self), self._vocab_size, dtype=torch.int32, device=self._device)

    def _count_seen(self) -> Tensor:
        """Int32 ``(rows, vocab)``: how often each token stands in each row's prompt."""
        seen = torch.zeros(len(self), self._vocab_size, dtype=torch.int32)
        for place, row in enumerate(self._rows):
            known = [id_ for id_ in row.prompt if id_ < self._vocab_size]
            seen[place] = torch.tensor(known, dtype=torch.int64).bincount(
                minlength=self._vocab_size
            )
        return seen.to(self._device)

    def _allowed_mask(self, prompts: Sequence[Prompt]) -> Tensor | None:
        """``(rows, vocab)``: what may come first; ``None`` where everything may."""
        if all(prompt.first_ids is None for prompt in prompts):
            return None
        first_ids = [prompt.first_ids for prompt in prompts for _ in prompt.samplers]
        allowed = torch.zeros(len(self), self._vocab_size, dtype=torch.bool)
        for row, ids in enumerate(first_ids):
            if ids is None:
                allowed[row] = True
            else:
                allowed[row, list(ids)] = True
        return allowed.to(self._device)


def require_numbers(highest: Sequence[float]) -> None:
    """Raise unless the highest logit of each row is a number.

    Raises:
        ModelCorruptError: it is not.
    """
    if not all(abs(logit) < torch.inf for logit in highest):
        raise ModelCorruptError("the model's logits are not numbers", "try --dtype float32")


def padded_ids(rows: Sequence[Sequence[int]]) -> Tensor:
    """Int64 ``(rows, longest)``, padded on the right with whatever id."""
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for row, own in enumerate(rows):
        # Eight times faster than ``torch.tensor``, which looks at each number by itself: of a
        # batch of 16,384 ids that is 7 ms, in which a GPU scores 2,000.
        ids[row, : len(own)] = torch.frombuffer(array("q", own), dtype=torch.int64)
    return ids


def _told(id_: int, count: int, log_probabilities: Tensor) -> Token:
    """One token with its log-probability and the best alternatives, of one row's ``(vocab,)``."""
    values, ids = log_probabilities.topk(min(count, log_probabilities.shape[0]))
    return Token(
        id_,
        log_probabilities[id_].item(),
        tuple(zip(ids.tolist(), values.tolist(), strict=True)),
    )
