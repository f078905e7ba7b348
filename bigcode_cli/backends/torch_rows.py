"""Rows in flight of the PyTorch backend: sampling, one token a step."""

import random
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

    ``self._hidden`` is the final hidden state ``(rows, n_embd)`` that the next token is read from,
    or ``None`` once that token was sampled and has yet to be fed.

    Args:
        cache: of all rows, filled with their prompts.
        hidden: of the prompts' last tokens, ``(rows, n_embd)``.
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
        self._pending: Tensor | None = None
        self._samplers: list[Sampler] = [s for prompt in prompts for s in prompt.samplers]
        self._streams = [random.Random(sampler.seed) for sampler in self._samplers]
        self._logprobs = [prompt.logprobs for prompt in prompts for _ in prompt.samplers]
        self._options = SamplingTensors.of(
            [sampler.options for sampler in self._samplers], self._vocab_size, hidden.device
        )
        self._seen = self._seen_mask(prompts) if self._options.any_penalty else None
        self._allowed = self._allowed_mask(prompts)

    def __len__(self) -> int:
        """How many rows are left."""
        return len(self._samplers)

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """See ``engine.protocol.Rows.step``."""
        # Nothing is noted behind a step that failed: the notes must not disagree with the cache.
        history, self._history = self._history, None
        logits = self._logits()
        constrained = logits
        if self._seen is not None:
            constrained = penalised(constrained, self._seen, self._options.penalty)
        if self._allowed is not None:
            constrained = constrained.masked_fill(~self._allowed, -torch.inf)
            self._allowed = None
        uniforms = torch.tensor(
            [stream.random() for stream in self._streams], dtype=cumulative_dtype(logits.device)
        ).to(logits.device)
        ids = sample(constrained, self._options, uniforms)
        if self._seen is not None:
            self._seen.scatter_(1, ids[:, None], value=True)
        self._pending = ids
        tokens = self._tokens(logits, ids)
        if history is not None:
            history += [token.id for token in tokens]
            self._history = history
        return tokens

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """See ``engine.protocol.Rows.keep``."""
        self._cache.select(rows)
        self._samplers = [self._samplers[row] for row in rows]
        self._streams = [self._streams[row] for row in rows]
        self._logprobs = [self._logprobs[row] for row in rows]
        index = torch.tensor(rows, device=self._options.temperature.device)
        self._options = self._options.keep(index, [s.options for s in self._samplers])
        self._seen = self._seen[index] if self._seen is not None else None
        self._pending = self._pending[index] if self._pending is not None else None
        self._hidden = self._hidden[index] if self._hidden is not None else None

    def _logits(self) -> Tensor:
        """``(rows, vocab)`` float32, after feeding the pending tokens."""
        if self._pending is not None:
            output = self._model.transformer(
                self._pending[:, None], past_key_values=self._cache, use_cache=True
            )
            self._hidden = output.last_hidden_state[:, -1]
        assert self._hidden is not None
        logits: Tensor = self._model.lm_head(self._hidden)[:, : self._vocab_size]
        return logits.float()

    def _tokens(self, logits: Tensor, ids: Tensor) -> list[Token]:
        """The sampled ids on the host, in one copy with the check that the logits are numbers."""
        told = torch.stack([ids.double(), logits.amax(-1).double()]).tolist()
        for highest in told[1]:
            if not abs(highest) < torch.inf:
                raise ModelCorruptError("the model's logits are not numbers", "try --dtype float32")
        sampled = [int(id_) for id_ in told[0]]
        if all(count is None for count in self._logprobs):
            return [Token(id_) for id_ in sampled]
        log_probabilities = logits.log_softmax(-1)
        return [
            Token(id_) if count is None else _told(id_, count, log_probabilities[row])
            for row, (id_, count) in enumerate(zip(sampled, self._logprobs, strict=True))
        ]

    def _seen_mask(self, prompts: Sequence[Prompt]) -> Tensor:
        """``(rows, vocab)``: the tokens of each row's prompt."""
        seen = torch.zeros(len(self), self._vocab_size, dtype=torch.bool)
        prompted = [prompt.ids for prompt in prompts for _ in prompt.samplers]
        for row, ids in enumerate(prompted):
            seen[row, [id_ for id_ in ids if id_ < self._vocab_size]] = True
        return seen.to(self._options.penalty.device)

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
        return allowed.to(self._options.penalty.device)


def _told(id_: int, count: int, log_probabilities: Tensor) -> Token:
    """One token with its log-probability and the best alternatives, of one row's ``(vocab,)``."""
    values, ids = log_probabilities.topk(min(count, log_probabilities.shape[0]))
    return Token(
        id_,
        log_probabilities[id_].item(),
        tuple(zip(ids.tolist(), values.tolist(), strict=True)),
    )
