"""The PyTorch backend: the reference model on any device."""

from collections.abc import Generator, Sequence
from typing import Self

import torch
from torch import Tensor

from bigcode_cli.backends.devices import free_bytes
from bigcode_cli.backends.likelihood import Measure, by_passage, likelihoods, measure, read
from bigcode_cli.backends.loading import Loaded, load
from bigcode_cli.backends.memory import gigabytes, require_memory
from bigcode_cli.backends.plans import AttentionPlans
from bigcode_cli.backends.reuse import KeptRow
from bigcode_cli.backends.torch_rows import TorchRows, padded_ids
from bigcode_cli.backends.transfer import Arriving, Joined, sent
from bigcode_cli.engine.protocol import (
    BackendInfo,
    Passage,
    PassageScores,
    Pending,
    Prompt,
    at_once,
)
from bigcode_cli.errors import ModelTooLargeError, UsageError
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.records import LoadOptions, ModelFolder, Reporter

PREFILL_CHUNK = 512
"""Prompt positions a forward pass: bounds the activations and lets Ctrl-C and progress in."""

BATCH_TOKENS = {"cpu": 1, "cuda": 2**15, "mps": 2**13}
"""Tokens that keep a device busy.

A CPU is busy with one row, and scores it as fast alone. Alone its score is also the same to the
last bit whatever stands beside it: other shapes round otherwise, 1e-5 of a file's sum with mini.
"""

PREFILL_TOKENS = {"cpu": 512, "cuda": 2**13, "mps": 2**11}
"""Prompt tokens that fill a pass. On two cores of a CPU eight prompts of 10 tokens take a quarter
of the time side by side, of 30 tokens a third, and of 100 what they take one by one."""

MAX_ROWS = {"cpu": 16, "cuda": 128, "mps": 32}
"""Rows decoded side by side."""


class TorchBackend:
    """One model in PyTorch, behind ``engine.protocol.Backend``."""

    def __init__(self, model: GPTBigCodeForCausalLM, info: BackendInfo) -> None:
        self.info = info
        self._model = model.eval()
        norm = model.transformer.ln_f.weight
        self._device, self._dtype = norm.device, norm.dtype
        self._kept: KeptRow | None = None
        self._plans = AttentionPlans()

    @classmethod
    def open(
        cls, folder: ModelFolder, options: LoadOptions, *, vocab_size: int, report: Reporter
    ) -> Self:
        """Load a folder's weights.

        Raises:
            ModelError: the weights are missing, corrupt, of another architecture or too large.
            UsageError: the device or the attention kernel asked for is not here.
        """
        loaded = load(GPTBigCodeForCausalLM, folder, options, report)
        return cls.of(loaded, vocab_size, report=report)

    @classmethod
    def of(
        cls,
        loaded: Loaded[GPTBigCodeForCausalLM],
        vocab_size: int,
        *,
        report: Reporter,  # noqa: ARG003
    ) -> Self:
        """Stand before a model that is in memory.

        Args:
            report: told what a backend goes on without; this one needs nothing.
        """
        config = loaded.model.config
        info = BackendInfo(
            name="torch",
            device=str(loaded.device),
            dtype=loaded.dtype,
            weights=loaded.weights,
            n_positions=config.n_positions,
            batch_tokens=BATCH_TOKENS[loaded.device.type],
            prefill_tokens=PREFILL_TOKENS[loaded.device.type],
            max_rows=MAX_ROWS[loaded.device.type],
            vocab_size=min(vocab_size, config.vocab_size),
            weight_bytes=loaded.weight_bytes,
        )
        return cls(loaded.model, info)

    def prefill(self, prompts: Sequence[Prompt]) -> TorchRows:
        """See ``engine.protocol.Backend.prefill``."""
        return at_once(self.prefilling(prompts))

    @torch.inference_mode()
    def prefilling(self, prompts: Sequence[Prompt]) -> Generator[tuple[int, int], None, TorchRows]:
        """See ``engine.protocol.Backend.prefilling``.

        A prompt that is alone takes what it has in common with the last such one, and with what
        was sampled behind it, from that one's cache.

        Several rows of a prompt get a copy each of its keys and values, and a second one where they
        join others: with SantaCoder and 512 tokens 6 MB a row, less than a step reads of weights.
        """
        for prompt in prompts:
            self._check(len(prompt.ids))
        cache = self._cache(
            len(prompts),
            sum(len(prompt.samplers) for prompt in prompts),
            max(len(prompt.ids) + prompt.max_new_tokens for prompt in prompts),
        )
        history, reused = None, 0
        if len(prompts) == 1:
            history = list(prompts[0].ids)
            reused = self._kept.lend(cache, history) if self._kept is not None else 0
            self._kept = KeptRow(history, cache)
        hidden = yield from self._run(cache, [prompt.ids for prompt in prompts])
        origin = [row for row, prompt in enumerate(prompts) for _ in prompt.samplers]
        if len(origin) > len(prompts):
            if history is not None:
                self._kept, history = KeptRow(history, cache.borrow()), None
            cache.select(origin)
            hidden = hidden[torch.tensor(origin, device=self._device)]
        return self._make_rows(cache, hidden, prompts, reused=reused, history=history)

    def _make_rows(
        self,
        cache: KVCache,
        hidden: Tensor,
        prompts: Sequence[Prompt],
        *,
        reused: int,
        history: list[int] | None,
    ) -> TorchRows:
        return TorchRows(
            self._model,
            self.info,
            cache,
            hidden,
            prompts,
            room=self._room,
            reused=reused,
            history=history,
        )

    def forget(self) -> None:
        """See ``engine.protocol.Backend.forget``."""
        self._kept = None

    def score(self, passages: Sequence[Passage], *, detail: bool = False) -> list[PassageScores]:
        """See ``engine.protocol.Backend.score``.

        Raises:
            ModelTooLargeError: there is no memory even for one passage.
        """
        return self.begin_score(passages, detail=detail).wait()

    @torch.inference_mode()
    def begin_score(
        self, passages: Sequence[Passage], *, detail: bool = False
    ) -> Pending[list[PassageScores]]:
        """See ``engine.protocol.Backend.begin_score``.

        Raises:
            ModelTooLargeError: as ``score``.
        """
        try:
            return self._score(passages, detail=detail)
        except torch.OutOfMemoryError as error:
            if len(passages) == 1:
                raise ModelTooLargeError(
                    "no memory to run a passage through the model", "use a smaller --context"
                ) from error
        half = len(passages) // 2
        return Joined(
            self.begin_score(passages[:half], detail=detail),
            self.begin_score(passages[half:], detail=detail),
        )

    def _score(self, passages: Sequence[Passage], *, detail: bool) -> Pending[list[PassageScores]]:
        """Rows padded on the right, where causal attention does not look."""
        for passage in passages:
            self._check(len(passage.ids))
        padded = padded_ids([passage.ids for passage in passages])
        time = padded.shape[1]
        counted = [
            torch.arange(row * time + passage.counted, row * time + len(passage.ids))
            for row, passage in enumerate(passages)
        ]
        ids, places = sent(padded, self._device), sent(torch.cat(counted), self._device)
        with self._plans.using((padded.shape[0], time)):
            states = self._states(ids, places - 1)
        told = self._likelihoods(states, ids.flatten()[places], detail=detail)
        counts = [len(own) for own in counted]
        return Arriving(told, lambda columns: by_passage(read(columns), counts))

    @torch.inference_mode()
    def score_tails(
        self, ids: Sequence[int], tails: Sequence[Sequence[int]], count: int
    ) -> list[list[float]]:
        """See ``engine.protocol.Backend.score_tails``."""
        padded = padded_ids(tails)
        rows, time = padded.shape
        self._check(len(ids) + time)
        cache = self._cache(1, len(tails), len(ids) + time)
        last = at_once(self._run(cache, [ids]))
        cache.select([0] * rows)
        fed = padded.to(self._device)
        every = torch.arange(rows * time, device=self._device)
        states = self._states(fed, every, cache).view(rows, time, -1)
        states = torch.cat([last.expand(rows, -1)[:, None], states], dim=1)
        scored = [slice(len(tail) - count, len(tail)) for tail in tails]
        told = self._likelihoods(
            torch.cat([states[row, places] for row, places in enumerate(scored)]),
            torch.cat([fed[row, places] for row, places in enumerate(scored)]),
        )
        scores = by_passage(read(told.tolist()), [count] * rows)
        return [one.logprobs for one in scores]

    def _states(self, ids: Tensor, wanted: Tensor, cache: KVCache | None = None) -> Tensor:
        """The model's last hidden states at some of the tokens.

        Args:
            ids: int64 ``(rows, time)``, behind what the cache holds.
            wanted: int64 ``(some,)``, places in ``rows * time``.
            cache: takes in the tokens; without one nothing is kept.

        Returns:
            ``(some, n_embd)``.
        """
        output = self._model.transformer(ids, past_key_values=cache, use_cache=cache is not None)
        return output.last_hidden_state.flatten(0, 1)[wanted]  # type: ignore[no-any-return]

    def _likelihoods(self, states: Tensor, targets: Tensor, *, detail: bool = False) -> Tensor:
        """See ``likelihood.likelihoods``."""
        return self._measured(states, targets, measure, detail=detail)

    def _measured(self, states: Tensor, targets: Tensor, how: Measure, *, detail: bool) -> Tensor:
        head, vocab_size = self._model.lm_head, self._model.config.vocab_size
        return likelihoods(head, states, targets, vocab_size=vocab_size, detail=detail, measure=how)

    def _check(self, length: int) -> None:
        if not 0 < length <= self.info.n_positions:
            raise UsageError(f"{length} tokens where the model takes 1 to {self.info.n_positions}")

    def _room(self, rows: int, capacity: int) -> KVCache:
        """See ``torch_rows.Room``."""
        return self._cache(0, rows, capacity, room=rows)

    def _cache(self, batch: int, rows: int, capacity: int, *, room: int = 0) -> KVCache:
        """An empty cache of ``batch`` rows, which may become ``rows``; what was kept gives way.

        Raises:
            ModelTooLargeError: there is no memory for it.
        """
        try:
            return self._allocate(batch, rows, capacity, room)
        except ModelTooLargeError:
            if self._kept is None:
                raise
            self.forget()
            return self._allocate(batch, rows, capacity, room)

    def _allocate(self, batch: int, rows: int, capacity: int, room: int) -> KVCache:
        config = self._model.config
        needed = KVCache.size(config, rows, capacity, dtype=self._dtype)
        hint = "use fewer samples, a smaller --max-new-tokens or a shorter prompt"
        try:
            require_memory(
                needed,
                free_bytes(self._device),
                f"the KV cache of {rows} x {capacity} tokens needs {gigabytes(needed)}",
                hint,
            )
            return KVCache.allocate(
                config, batch, capacity, dtype=self._dtype, device=self._device, room=room
            )
        except torch.OutOfMemoryError as error:
            raise ModelTooLargeError(
                f"no memory for a KV cache of {gigabytes(needed)}", hint
            ) from error

    def _run(
        self, cache: KVCache, rows: Sequence[Sequence[int]]
    ) -> Generator[tuple[int, int], None, Tensor]:
        """Feed the rows in chunks, padded on the right; the last token's hidden state of each.

        Tokens that the cache holds already, the same number of each row, are not fed again. What
        is fed beyond a row's end is taken back, and later tokens overwrite it.

        Yields:
            see ``engine.protocol.Backend.prefilling``.

        Returns:
            ``(rows, n_embd)``.
        """
        padded = padded_ids(rows).to(self._device)
        longest, step = padded.shape[1], self._chunk(len(rows))
        ends: list[int] = []
        states: list[Tensor] = []
        for start in range(cache.longest, longest, step):
            chunk = padded[:, start : start + step]
            width = chunk.shape[1]
            ended = [row for row, ids in enumerate(rows) if start < len(ids) <= start + width]
            wanted = torch.tensor(
                [row * width + len(rows[row]) - 1 - start for row in ended], dtype=torch.int64
            )
            states.append(self._states(chunk, wanted.to(self._device), cache))
            ends += ended
            yield start + width, longest
        cache.crop([len(ids) for ids in rows])
        return torch.cat(states)[torch.tensor(ends).argsort().to(self._device)]

    def _chunk(self, rows: int) -> int:  # noqa: ARG002
        """Positions of so many prompts that go through the model at once."""
        return PREFILL_CHUNK
