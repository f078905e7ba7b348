"""The native backend: the compiled engine on a CPU, without PyTorch."""

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Self

from bigcode_cli.backends.memory import free_host_bytes, gigabytes, require_memory
from bigcode_cli.backends.native_rows import NativeRows, Place
from bigcode_cli.backends.reuse import reusable
from bigcode_cli.backends.row import Row
from bigcode_cli.engine.protocol import (
    BackendInfo,
    Passage,
    PassageScores,
    Pending,
    Prompt,
    at_once,
)
from bigcode_cli.errors import ModelTooLargeError, UsageError
from bigcode_cli.kernels.native.finite import check_finite
from bigcode_cli.kernels.native.model import Cache, Engine, Feed, Logits

if TYPE_CHECKING:
    from bigcode_cli.backends.loading import Loaded
    from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
    from bigcode_cli.records import LoadOptions, ModelFolder, Reporter

CHUNK = 240
"""Tokens a pass over prompts or texts: bounds the activations and lets Ctrl-C and progress in.

What 240 tokens bring along stays in a core's cache; 512 score by 3 % more slowly.
"""

BATCH_TOKENS = 1
"""A text is scored alone: what it gets is the same to the last bit, whatever stands beside it."""

PREFILL_TOKENS = 512
"""Prompt tokens that fill a pass."""

MAX_ROWS = 16
"""Rows decoded side by side."""


class NativeBackend:
    """One model in the compiled engine, behind ``engine.protocol.Backend``."""

    def __init__(self, engine: Engine, info: BackendInfo) -> None:
        self.info = info
        self._engine = engine
        self._kept: Kept | None = None

    @classmethod
    def open(
        cls, folder: "ModelFolder", options: "LoadOptions", *, vocab_size: int, report: "Reporter"
    ) -> Self:
        """Map a folder's weights.

        Raises:
            NativeUnsupportedError: PyTorch takes them, and the engine does not.
            ModelError: they are missing, corrupt, of another architecture or too large.
        """
        from bigcode_cli.backends.native_weights import open_tensors

        opened = open_tensors(folder, options, report)
        check_finite(opened.tensors)
        engine = Engine(
            opened.config,
            opened.tensors,
            vocab=vocab_size,
            threads=options.threads or available_cores(),
            quantises=opened.quantises,
        )
        return cls(engine, info_of(engine, opened.weights, opened.weight_bytes))

    @classmethod
    def of(
        cls,
        loaded: "Loaded[GPTBigCodeForCausalLM]",
        vocab_size: int,
        *,
        report: "Reporter",  # noqa: ARG003
    ) -> Self:
        """Stand before a model that PyTorch has in memory: its weights stay where they are.

        Args:
            report: told what a backend goes on without; this one needs nothing.

        Raises:
            ModelUnsupportedError: the engine cannot run it.
        """
        from bigcode_cli.backends.native_random import engine_of

        engine = engine_of(loaded, vocab_size)
        return cls(engine, info_of(engine, loaded.weights, loaded.weight_bytes))

    def prefill(self, prompts: Sequence[Prompt]) -> NativeRows:
        """See ``engine.protocol.Backend.prefill``."""
        return at_once(self.prefilling(prompts))

    def prefilling(self, prompts: Sequence[Prompt]) -> Generator[tuple[int, int], None, NativeRows]:
        """See ``engine.protocol.Backend.prefilling``.

        A prompt that is alone takes what it has in common with the last such one, and with what
        was sampled behind it, from that one's cache.
        """
        for prompt in prompts:
            self._check(len(prompt.ids))
        rooms = [
            min(len(prompt.ids) + prompt.max_new_tokens, self.info.n_positions)
            for prompt in prompts
        ]
        counts = [len(prompt.samplers) for prompt in prompts]
        caches = self._caches(
            [room for room, count in zip(rooms, counts, strict=True) for _ in range(count)]
        )
        rows = Row.of(prompts)
        firsts = [0, *accumulate(counts)][:-1]
        reused = 0
        if len(prompts) == 1:
            reused = self._kept.lend(caches[0], prompts[0].ids) if self._kept is not None else 0
            self._kept = Kept(rows[0], caches[0])
        logits = yield from self._run(
            [caches[first] for first in firsts], [prompt.ids for prompt in prompts], reused
        )
        places: list[Place] = []
        for prompt, own in zip(prompts, logits, strict=True):
            first = len(places)
            for at in range(first, first + len(prompt.samplers)):
                if at > first:
                    caches[at].take(caches[first], len(prompt.ids))
                places.append(Place.of(rows[at], prompt, caches[at], own, self._engine.vocab))
        return NativeRows(self._engine, places, reused=reused)

    def _run(
        self, caches: Sequence[Cache], rows: Sequence[Sequence[int]], start: int
    ) -> Generator[tuple[int, int], None, list[Logits]]:
        """Feed the rows in chunks from their token ``start`` on.

        Yields:
            see ``engine.protocol.Backend.prefilling``.

        Returns:
            the logits behind each row.
        """
        longest, found = max(map(len, rows)), dict[int, Logits]()
        while start < longest:
            live = [row for row, ids in enumerate(rows) if len(ids) > start]
            stop = min(start + max(1, CHUNK // len(live)), longest)
            ended = [row for row in live if len(rows[row]) <= stop]
            logits = self._engine.feed(
                [_chunk(caches[row], rows[row], start, stop, row in ended) for row in live]
            )
            found |= {row: logits.copied(at) for at, row in enumerate(ended)}
            start = stop
            yield stop, longest
        return [found[row] for row in range(len(rows))]

    def forget(self) -> None:
        """See ``engine.protocol.Backend.forget``."""
        self._kept = None

    def score(self, passages: Sequence[Passage], *, detail: bool = False) -> list[PassageScores]:
        """See ``engine.protocol.Backend.score``.

        Raises:
            ModelTooLargeError: there is no memory for a passage.
        """
        for passage in passages:
            self._check(len(passage.ids))
        return [self._score(passage, detail=detail) for passage in passages]

    def begin_score(
        self, passages: Sequence[Passage], *, detail: bool = False
    ) -> Pending[list[PassageScores]]:
        """See ``engine.protocol.Backend.begin_score``: it is done at once."""
        return Told(self.score(passages, detail=detail))

    def _score(self, passage: Passage, *, detail: bool) -> PassageScores:
        """One passage, in chunks."""
        # The last token need not be fed: nothing is read behind it.
        ids, targets = passage.ids[:-1], passage.ids[1:]
        scores = PassageScores([], [], [])
        if passage.counted > len(ids):
            return scores
        (cache,) = self._caches([len(ids)])
        for start in range(0, len(ids), CHUNK):
            stop = min(start + CHUNK, len(ids))
            first = min(max(passage.counted - 1, start), stop)
            feed = Feed(cache, ids[start:stop], range(first - start, stop - start))
            logprobs, ranks, entropies = self._engine.measure([feed], targets[first:stop])
            scores.logprobs.extend(logprobs)
            if detail:
                scores.ranks.extend(map(int, ranks))
                scores.entropies.extend(entropies)
        return scores

    def score_tails(
        self, ids: Sequence[int], tails: Sequence[Sequence[int]], count: int
    ) -> list[list[float]]:
        """See ``engine.protocol.Backend.score_tails``."""
        self._check(len(ids) + max(map(len, tails)))
        # The last common id is fed anew before each tail: the tail's first is read from its state.
        common, last = ids[:-1], ids[-1]
        (shared,) = self._caches([len(common)])
        for start in range(0, len(common), CHUNK):
            self._engine.feed([Feed(shared, common[start : start + CHUNK], range(0))])
        scores: list[list[float]] = []
        for group in _groups(tails):
            caches = self._caches([len(ids) + len(tail) for tail in group])
            feeds = []
            for cache, tail in zip(caches, group, strict=True):
                cache.take(shared, len(common))
                wanted = range(len(tail) - count, len(tail))
                feeds.append(Feed(cache, [last, *tail[:-1]], wanted))
            targets = [id_ for tail in group for id_ in tail[len(tail) - count :]]
            told, _, _ = self._engine.measure(feeds, targets)
            scores += [told[at : at + count] for at in range(0, len(told), count)]
        return scores

    def _check(self, length: int) -> None:
        if not 0 < length <= self.info.n_positions:
            raise UsageError(f"{length} tokens where the model takes 1 to {self.info.n_positions}")

    def _caches(self, capacities: Sequence[int]) -> list[Cache]:
        """Empty caches; what was kept gives way.

        Raises:
            ModelTooLargeError: there is no memory for them.
        """
        try:
            return self._allocate(capacities)
        except ModelTooLargeError:
            if self._kept is None:
                raise
            self.forget()
            return self._allocate(capacities)

    def _allocate(self, capacities: Sequence[int]) -> list[Cache]:
        needed = self._engine.cache_bytes(sum(capacities))
        require_memory(
            needed,
            free_host_bytes(),
            f"the KV cache of {len(capacities)} x {max(capacities)} tokens needs"
            f" {gigabytes(needed)}",
            "use fewer samples, a smaller --max-new-tokens or a shorter prompt",
        )
        return [self._engine.cache(capacity) for capacity in capacities]


class Kept:
    """The last prompt's row and cache: see ``backends.reuse``.

    The cache holds the first tokens of the row's prompt and output at any time, whatever rows it is
    stepped with.
    """

    def __init__(self, row: Row, cache: Cache) -> None:
        self._row, self._cache = row, cache

    def lend(self, cache: Cache, ids: Sequence[int]) -> int:
        """Copy into an empty cache what the two have in common from their first token.

        Returns:
            how many tokens the cache holds now.
        """
        held = [*self._row.prompt, *self._row.sampled][: self._cache.length]
        count = reusable(held, ids)
        cache.take(self._cache, count)
        return count


@dataclass(frozen=True, slots=True)
class Told:
    """Scores that are there, behind ``engine.protocol.Pending``."""

    scores: list[PassageScores]

    def is_done(self) -> bool:
        """See ``Pending``."""
        return True

    def wait(self) -> list[PassageScores]:
        """See ``Pending``."""
        return self.scores


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def info_of(engine: Engine, weights: str, weight_bytes: int) -> BackendInfo:
    """What a model in the engine can take.

    Args:
        weights: how they are stored.
        weight_bytes: what they occupy.
    """
    return BackendInfo(
        name="native",
        device="cpu",
        dtype="float32",
        weights=weights,
        n_positions=engine.n_positions,
        batch_tokens=BATCH_TOKENS,
        prefill_tokens=PREFILL_TOKENS,
        max_rows=MAX_ROWS,
        vocab_size=engine.vocab,
        weight_bytes=weight_bytes,
    )


def _chunk(cache: Cache, ids: Sequence[int], start: int, stop: int, is_last: bool) -> Feed:
    """A row's tokens of a chunk; the last one's state is wanted where the row ends."""
    part = ids[start:stop]
    return Feed(cache, part, range(len(part) - is_last, len(part)))


def _groups(tails: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Tails that are fed in one pass, ``CHUNK`` tokens at most unless one alone has more."""
    group: list[Sequence[int]] = []
    for tail in tails:
        if group and sum(map(len, group)) + len(tail) > CHUNK:
            yield group
            group = []
        group.append(tail)
    if group:
        yield group
