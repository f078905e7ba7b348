"""Rows in flight of the PyTorch backend: sampling, one token or several a pass."""

import random
from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from bigcode_cli.backends.sampling import SamplingTensors, cumulative_dtype, penalised, sample
from bigcode_cli.engine.protocol import BackendInfo, Prompt, Sampler, Token
from bigcode_cli.errors import ModelCorruptError
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM


class TorchRows:
    """Rows in flight, behind ``engine.protocol.Rows``.

    What a row has yet to feed is known by its lengths: the ids that were sampled, less those that
    its cache holds behind the prompt.

    Args:
        cache: of all rows, filled with their prompts.
        hidden: of the prompts' last tokens, ``(rows, n_embd)``: the first tokens are read from it.
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
        reused: int = 0,
        history: list[int] | None = None,
    ) -> None:
        self.reused = reused
        self._history = history
        self._model = model
        self._vocab_size = info.vocab_size
        self._cache = cache
        self._hidden: Tensor | None = hidden
        self._device = hidden.device
        self._prompted = list(cache.lengths)
        self._samplers: list[Sampler] = [s for prompt in prompts for s in prompt.samplers]
        self._sampled: list[list[int]] = [[] for _ in self._samplers]
        self._streams = [_Stream(sampler.seed) for sampler in self._samplers]
        self._logprobs = [prompt.logprobs for prompt in prompts for _ in prompt.samplers]
        self._options = SamplingTensors.of(
            [sampler.options for sampler in self._samplers], self._vocab_size, hidden.device
        )
        self._seen = self._count_seen(prompts) if self._options.any_penalty else None
        self._allowed = self._allowed_mask(prompts)

    def __len__(self) -> int:
        """How many rows are left."""
        return len(self._samplers)

    def step(self) -> list[Token]:
        """See ``engine.protocol.Rows.step``."""
        return [token for (token,) in self.verify([()] * len(self))]

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
        kept = [len(ids) - drop for ids, drop in zip(self._sampled, dropped, strict=True)]
        self._cache.crop(
            [
                min(held, start + count)
                for held, start, count in zip(
                    self._cache.lengths, self._prompted, kept, strict=True
                )
            ]
        )
        for row, (count, new) in enumerate(zip(kept, tokens, strict=True)):
            old = self._sampled[row][count:]
            self._sampled[row][count:] = new
            self._count(row, old, -1)
            self._count(row, new, 1)
        if self._history is not None:
            self._history[self._prompted[0] + kept[0] :] = tokens[0]
        self._crop()
        self._hidden = self._allowed = None

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """See ``engine.protocol.Rows.keep``."""
        self._cache.select(rows)
        self._keep(rows)

    def _keep(self, rows: Sequence[int]) -> None:
        """What ``keep`` does beside the cache."""
        self._prompted = [self._prompted[row] for row in rows]
        self._samplers = [self._samplers[row] for row in rows]
        self._sampled = [self._sampled[row] for row in rows]
        self._streams = [self._streams[row] for row in rows]
        self._logprobs = [self._logprobs[row] for row in rows]
        index = torch.tensor(rows, device=self._device)
        self._options = self._options.keep(index, [s.options for s in self._samplers])
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
        lengths = zip(self._prompted, self._sampled, self._cache.lengths, strict=True)
        return [start + len(ids) - held for start, ids, held in lengths]

    def _logits(self, guesses: Sequence[Sequence[int]]) -> Tensor:
        """Feed what is pending and the guesses behind it, in one pass.

        Returns:
            ``(rows, 1 + longest guess, vocab)`` float32: behind the last pending token, and behind
            each guess; whatever numbers behind the end of a shorter one.
        """
        if self._hidden is not None:
            states = self._hidden[:, None]
        else:
            counts = self._pending_counts()
            pending = [
                ids[len(ids) - count :] for ids, count in zip(self._sampled, counts, strict=True)
            ]
            feed = [[*ids, *guess] for ids, guess in zip(pending, guesses, strict=True)]
            output = self._model.transformer(
                padded_ids(feed).to(self._device), past_key_values=self._cache, use_cache=True
            )
            states = output.last_hidden_state
            width = 1 + max(len(guess) for guess in guesses)
            if width < states.shape[1]:
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
            options = options.keep(index, [self._samplers[row].options for row in live])
            seen = seen[index] if seen is not None else None
        constrained = logits
        if seen is not None:
            constrained = penalised(constrained, seen > 0, options.penalty)
        if self._allowed is not None:
            constrained = constrained.masked_fill(~self._allowed, -torch.inf)
        uniforms = torch.tensor(
            [self._streams[row][len(self._sampled[row])] for row in live],
            dtype=cumulative_dtype(self._device),
        ).to(self._device)
        tokens = self._tokens(logits, sample(constrained, options, uniforms), live)
        for row, token in zip(live, tokens, strict=True):
            self._sampled[row].append(token.id)
            self._count(row, [token.id], 1)
        return tokens

    def _tokens(self, logits: Tensor, ids: Tensor, live: Sequence[int]) -> list[Token]:
        """The sampled ids on the host, in one copy with the check that the logits are numbers."""
        told = torch.stack([ids.double(), logits.amax(-1).double()]).tolist()
        for highest in told[1]:
            if not abs(highest) < torch.inf:
                raise ModelCorruptError("the model's logits are not numbers", "try --dtype float32")
        sampled = [int(id_) for id_ in told[0]]
        counts = [self._logprobs[row] for row in live]
        if all(count is None for count in counts):
            return [Token(id_) for id_ in sampled]
        log_probabilities = logits.log_softmax(-1)
        return [
            Token(id_) if count is None else _told(id_, count, log_probabilities[place])
            for place, (id_, count) in enumerate(zip(sampled, counts, strict=True))
        ]

    def _crop(self) -> None:
        """Take back what was fed beyond the last token but one: guesses that did not hold."""
        ends = [
            start + max(len(ids) - 1, 0)
            for start, ids in zip(self._prompted, self._sampled, strict=True)
        ]
        held = self._cache.lengths
        self._cache.crop([min(pair) for pair in zip(ends, held, strict=True)])

    def _count(self, row: int, ids: Sequence[int], times: int) -> None:
        """Note that ids were sampled, or that they were not."""
        if self._seen is not None and ids:
            places = torch.tensor(ids, device=self._device)
            counts = torch.full_like(places, times, dtype=self._seen.dtype)
            self._seen[row].index_add_(0, places, counts)

    def _count_seen(self, prompts: Sequence[Prompt]) -> Tensor:
        """Int32 ``(rows, vocab)``: how often each token stands in each row's prompt."""
        seen = torch.zeros(len(self), self._vocab_size, dtype=torch.int32)
        prompted = [prompt.ids for prompt in prompts for _ in prompt.samplers]
        for row, ids in enumerate(prompted):
            known = torch.tensor([id_ for id_ in ids if id_ < self._vocab_size], dtype=torch.int64)
            seen[row] = known.bincount(minlength=self._vocab_size)
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


class _Stream:
    """The doubles of a row's random stream by their number: a token taken back draws its own anew.

    See ``engine.protocol.Sampler``.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._drawn: list[float] = []

    def __getitem__(self, number: int) -> float:
        while len(self._drawn) <= number:
            self._drawn.append(self._random.random())
        return self._drawn[number]


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
