"""The PyTorch backend: the reference model on any device."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from bigcode_cli.backends.devices import choose_device, choose_dtype, free_bytes
from bigcode_cli.backends.memory import gigabytes, require_memory
from bigcode_cli.backends.sampling import SamplingTensors, cumulative_dtype, penalised, sample
from bigcode_cli.engine.protocol import BackendInfo, PrefillProgress, Prompt, Sampler, Token
from bigcode_cli.errors import ModelCorruptError, ModelTooLargeError, UsageError
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.checkpoint import load_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.gpt_bigcode import GPTBigCodeForCausalLM
from bigcode_cli.model.tensor_index import read_tensor_index
from bigcode_cli.records import LoadOptions, ModelFolder, Reporter

PREFILL_CHUNK = 512
"""Prompt positions a forward pass: bounds the activations and lets Ctrl-C and progress in."""

ATTENTION = {"flash": "flash_attention_2"}
"""Kernels that the command line and the model call by different names."""

SCORE_CHUNK = 256
"""Positions whose logits are in memory at once while scoring."""


class TorchBackend:
    """One model in PyTorch, behind ``engine.protocol.Backend``."""

    def __init__(self, model: GPTBigCodeForCausalLM, info: BackendInfo) -> None:
        self.info = info
        self._model = model.eval()
        norm = model.transformer.ln_f.weight
        self._device, self._dtype = norm.device, norm.dtype

    @classmethod
    def open(
        cls, folder: ModelFolder, options: LoadOptions, *, vocab_size: int, report: Reporter
    ) -> "TorchBackend":
        """Load a folder's weights.

        Raises:
            ModelError: the weights are missing, corrupt, of another architecture or too large.
            UsageError: the device or the attention kernel asked for is not here.
        """
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        device = choose_device(options.device)
        dtype = choose_dtype(options.dtype, device)
        weights = options.quantize if options.quantize != "none" else _name(dtype)
        config = GPTBigCodeConfig.from_file(folder.path)
        needed = read_tensor_index(folder.path).weight_bytes(_name(dtype), options.quantize)
        require_memory(
            needed,
            free_bytes(device),
            f"{folder.name} needs {gigabytes(needed)} in {weights}",
            "try a smaller model or --quantize int8"
            if options.quantize == "none"
            else "try a smaller model",
        )
        model = load_model(
            GPTBigCodeForCausalLM,
            folder.path,
            device=device,
            dtype=dtype,
            quantize=options.quantize,
            attn_implementation=ATTENTION.get(options.attention, options.attention),
            progress=lambda done, total: report.progress("loading", done, total, "B"),
        )
        info = BackendInfo(
            name="torch",
            device=str(device),
            dtype=_name(dtype),
            weights=weights,
            n_positions=config.n_positions,
            vocab_size=min(vocab_size, model.config.vocab_size),
            weight_bytes=needed,
        )
        return cls(model, info)

    @torch.inference_mode()
    def prefill(
        self, prompts: Sequence[Prompt], progress: PrefillProgress | None = None
    ) -> "TorchRows":
        """See ``engine.protocol.Backend.prefill``."""
        for prompt in prompts:
            self._check(prompt.ids)
        cache = self._cache(prompts)
        last_hidden = self._run(cache, [prompt.ids for prompt in prompts], progress)
        origin = [row for row, prompt in enumerate(prompts) for _ in prompt.samplers]
        if len(origin) > len(prompts):
            cache.select(origin)
            last_hidden = last_hidden[torch.tensor(origin, device=self._device)]
        return TorchRows(self._model, self.info, cache, last_hidden, prompts)

    @torch.inference_mode()
    def score(self, ids: Sequence[int]) -> list[float]:
        """See ``engine.protocol.Backend.score``."""
        self._check(ids)
        row = torch.tensor([ids], device=self._device)
        hidden = self._model.transformer(row, use_cache=False).last_hidden_state[0, :-1]
        scores: list[float] = []
        for start in range(0, hidden.shape[0], SCORE_CHUNK):
            logits = self._model.lm_head(hidden[start : start + SCORE_CHUNK]).float()
            targets = row[0, start + 1 : start + 1 + logits.shape[0]]
            log_probabilities = logits.gather(-1, targets[:, None])[:, 0] - logits.logsumexp(-1)
            scores += log_probabilities.tolist()
        return scores

    def _check(self, ids: Sequence[int]) -> None:
        if not 0 < len(ids) <= self.info.n_positions:
            raise UsageError(
                f"{len(ids)} tokens where the model takes 1 to {self.info.n_positions}"
            )

    def _cache(self, prompts: Sequence[Prompt]) -> KVCache:
        """A cache for one row a prompt, long enough for what each is to grow to."""
        config = self._model.config
        rows = sum(len(prompt.samplers) for prompt in prompts)
        capacity = max(len(prompt.ids) + prompt.max_new_tokens for prompt in prompts)
        needed = KVCache.size(config, rows, capacity, dtype=self._dtype)
        try:
            require_memory(
                needed,
                free_bytes(self._device),
                f"the KV cache of {rows} x {capacity} tokens needs {gigabytes(needed)}",
                "use fewer samples, a smaller --max-new-tokens or a shorter prompt",
            )
            return KVCache.allocate(
                config, len(prompts), capacity, dtype=self._dtype, device=self._device
            )
        except torch.OutOfMemoryError as error:
            raise ModelTooLargeError(
                f"no memory for a KV cache of {gigabytes(needed)}",
                "use fewer samples, a smaller --max-new-tokens or a shorter prompt",
            ) from error

    def _run(
        self, cache: KVCache, rows: Sequence[Sequence[int]], progress: PrefillProgress | None
    ) -> Tensor:
        """Feed the rows in chunks, padded on the right; the last token's hidden state of each.

        What is fed beyond a row's end is taken back, and later tokens overwrite it.

        Returns:
            ``(rows, n_embd)``.
        """
        longest = max(len(row) for row in rows)
        padded = torch.zeros(len(rows), longest, dtype=torch.int64)
        for row, ids in enumerate(rows):
            padded[row, : len(ids)] = torch.tensor(ids)
        padded = padded.to(self._device)
        last_hidden: list[Tensor | None] = [None] * len(rows)
        for start in range(0, longest, PREFILL_CHUNK):
            chunk = padded[:, start : start + PREFILL_CHUNK]
            output = self._model.transformer(chunk, past_key_values=cache, use_cache=True)
            hidden = output.last_hidden_state
            cache.crop([min(len(ids), start + chunk.shape[1]) for ids in rows])
            for row, ids in enumerate(rows):
                if start < len(ids) <= start + chunk.shape[1]:
                    last_hidden[row] = hidden[row, len(ids) - 1 - start]
            if progress is not None:
                progress(start + chunk.shape[1], longest)
        return torch.stack([state for state in last_hidden if state is not None])


class TorchRows:
    """Rows in flight, behind ``engine.protocol.Rows``.

    ``self._hidden`` is the final hidden state ``(rows, n_embd)`` that the next token is read from,
    or ``None`` once that token was sampled and has yet to be fed.
    """

    def __init__(
        self,
        model: GPTBigCodeForCausalLM,
        info: BackendInfo,
        cache: KVCache,
        hidden: Tensor,
        prompts: Sequence[Prompt],
    ) -> None:
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
        return self._tokens(logits, ids)

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


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
