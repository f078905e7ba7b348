"""A model in the compiled engine, and the caches of its rows.

Nothing is handed over the border that was not checked: ids, places and lengths. Calls wait for each
other, so that threads may share an engine, but what one has been told of logits holds until the
next pass only.
"""

import ctypes
import math
import weakref
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from threading import Lock

from bigcode_cli.errors import ModelCorruptError, ModelTooLargeError, UsageError
from bigcode_cli.kernels.native import library as border
from bigcode_cli.kernels.native.assembly import Assembly
from bigcode_cli.kernels.native.library import OUT_OF_MEMORY, Sampling, library
from bigcode_cli.kernels.native.shape import Shape
from bigcode_cli.kernels.native.tensors import Tensor

GROWTH = 256
"""A full cache grows to the next multiple: few copies, little that is never used."""

_BEST = Sampling(temperature=0, top_k=0, top_p=1, min_p=0, penalty=1)
_FLOAT = ctypes.sizeof(ctypes.c_float)

Floats = ctypes.Array[ctypes.c_float]
Bytes = ctypes.Array[ctypes.c_uint8]


class Cache:
    """Keys and values of one row's tokens, float32.

    Attributes:
        length: how many tokens it holds.
        capacity: how many it has room for until it has to grow.
    """

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.length = 0
        self.capacity = 0
        weakref.finalize(self, library().bigcode_cache_free, handle)

    def cut(self, length: int) -> None:
        """Forget all tokens but the first ones, if there are more."""
        self.length = min(self.length, length)

    def reserve(self, capacity: int) -> None:
        """Make room for so many tokens in all.

        Raises:
            ModelTooLargeError: there is no memory for them.
        """
        if capacity > self.capacity:
            self.settle()
            _require_done(library().bigcode_cache_reserve(self.handle, capacity))
            self.capacity = capacity

    def take(self, other: "Cache", length: int) -> None:
        """Hold the first ``length`` tokens of another, copied.

        Raises:
            ModelTooLargeError: as ``reserve``.
        """
        if not 0 <= length <= other.length:
            raise ValueError(f"{length} tokens of {other.length}")
        self.reserve(length)
        _require_done(library().bigcode_cache_copy(self.handle, other.handle, length))
        self.length = length

    def settle(self) -> None:
        """Tell the engine of what was cut, before it goes on behind it."""
        _require_done(library().bigcode_cache_cut(self.handle, self.length))


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens that one row is fed behind what its cache holds.

    Attributes:
        wanted: places among ``ids``, one after the other, of whose tokens the state is wanted.
    """

    cache: Cache
    ids: Sequence[int]
    wanted: range


class Logits:
    """Logits in memory, float32 ``(places, rows of the head)``.

    Those of ids that may not be sampled are ``-inf``.
    """

    def __init__(self, numbers: Floats, width: int) -> None:
        self._numbers, self._width = numbers, width

    def at(self, place: int) -> Floats:
        """Those of one place, ``(rows of the head,)``."""
        offset = place * self._width * _FLOAT
        return (ctypes.c_float * self._width).from_buffer(self._numbers, offset)

    def copied(self, place: int) -> "Logits":
        """Those of one place, which the next pass leaves alone."""
        return Logits(type(own := self.at(place)).from_buffer_copy(own), self._width)


class Engine:
    """A model, compiled: its weights stay where they are.

    Args:
        config: a ``model.config.GPTBigCodeConfig``.
        tensors: by the names of a checkpoint. ``NAME_scale`` stands beside an int8 ``NAME``,
            float32 ``(rows,)``, and beside an int4 one, as ``model.quantize`` packs them,
            ``(rows, groups)``.
        vocab: ids that may be sampled: ``0 … vocab - 1``.
        threads: that work on a pass.
        quantises: whether int8 matrices are multiplied by activations that are quantised too;
            int4 ones always are.
        instructions: the set of instructions to use; ``None`` takes the best.

    Raises:
        OSError: the engine was not built, or does not load here.
        ModelUnsupportedError: a model that the engine cannot run: see ``assembly.unsupported``.
        ModelIncompleteError: a tensor is missing.
        ModelCorruptError: one has another shape or dtype than it must have.
        ModelTooLargeError: there is no memory for what is not the weights.
        UsageError: the processor has no such instructions.
    """

    def __init__(
        self,
        config: Shape,
        tensors: Mapping[str, Tensor],
        *,
        vocab: int,
        threads: int,
        quantises: bool,
        instructions: str | None = None,
    ) -> None:
        if vocab < 1 or threads < 1:
            raise ValueError(f"{vocab} ids, {threads} threads")
        if border.instructions(instructions) is None:
            raise UsageError(f"this processor has no {instructions}")
        self.vocab = min(vocab, config.vocab_size)
        self.n_positions = config.n_positions
        self._parts = parts = Assembly(config, tensors)
        self._rows, self._width = config.vocab_size, config.n_embd
        self._cached_bytes = 2 * _FLOAT * config.n_layer * config.kv_heads * config.head_dim
        engine = library()
        handle = engine.bigcode_model(
            *map(ctypes.byref, (parts.geometry, parts.tokens, parts.positions, parts.head)),
            parts.layers,
            parts.gain,
            parts.shift,
            threads,
            quantises,
            None if instructions is None else instructions.encode(),
        )
        self._handle = _require_made(handle)
        weakref.finalize(self, engine.bigcode_model_free, self._handle)
        self._desk = _require_made(engine.bigcode_desk())
        weakref.finalize(self, engine.bigcode_desk_free, self._desk)
        self._lock = Lock()
        self._states, self._logits = _floats(self._width), _floats(self._rows)
        never = [-math.inf] * (self._rows - self.vocab)
        self._never = (ctypes.c_float * len(never))(*never)

    def cache_bytes(self, tokens: int) -> int:
        """What a cache of so many tokens takes."""
        return tokens * self._cached_bytes

    def cache(self, capacity: int) -> Cache:
        """An empty cache, with room for ``capacity`` tokens until it has to grow.

        Raises:
            ModelTooLargeError: there is no memory for it.
        """
        cache = Cache(_require_made(library().bigcode_cache(self._handle)))
        cache.reserve(min(capacity, self.n_positions))
        return cache

    def feed(self, feeds: Sequence[Feed]) -> Logits:
        """One pass over tokens of several rows: their caches hold them then.

        Returns:
            the logits behind the tokens that are wanted, in their order, until the next pass.

        Raises:
            UsageError: a row would be longer than ``n_positions``.
            ModelCorruptError: an id has no row in the model.
            ModelTooLargeError: there is no memory for the pass.
        """
        with self._lock:
            count = self._pass(feeds, names=True)
            for place in range(count if self._never else 0):
                end = (place * self._rows + self.vocab) * _FLOAT
                ctypes.memmove(
                    ctypes.addressof(self._logits) + end, self._never, ctypes.sizeof(self._never)
                )
            return Logits(self._logits, self._rows)

    def measure(
        self, feeds: Sequence[Feed], targets: Sequence[int]
    ) -> tuple[list[float], list[float], list[float]]:
        """A pass as ``feed``, and how likely each target is behind the token that is wanted for it.

        Returns:
            of each target the log-probability over all ids that the model knows, its rank, and the
            entropy of the distribution: see ``engine.protocol.PassageScores``.

        Raises:
            as ``feed``.
        """
        self._require_known(targets)
        if len(targets) != sum(len(one.wanted) for one in feeds):
            raise ValueError(f"{len(targets)} targets")
        told = _floats(3 * len(targets))
        with self._lock:
            count = self._pass(feeds, names=False)
            wanted = (ctypes.c_int32 * count)(*targets)
            _require_done(library().bigcode_score(self._handle, self._states, count, wanted, told))
        return told[::3], told[1::3], told[2::3]

    def _pass(self, feeds: Sequence[Feed], *, names: bool) -> int:
        """Feed the rows; states and, where they are asked for, logits go to this engine's own.

        Returns:
            how many.
        """
        for one in feeds:
            self._make_ready(one)
        ids = array("i", chain.from_iterable(one.ids for one in feeds))
        wanted, before = array("i"), 0
        for one in feeds:
            wanted.extend(before + place for place in one.wanted)
            before += len(one.ids)
        count = len(wanted)
        self._states = _at_least(self._states, count * self._width)
        if names:
            self._logits = _at_least(self._logits, count * self._rows)
        code = library().bigcode_feed(
            self._handle,
            (ctypes.c_void_p * len(feeds))(*[one.cache.handle for one in feeds]),
            (ctypes.c_int32 * len(ids)).from_buffer(ids),
            (ctypes.c_int32 * len(feeds))(*[len(one.ids) for one in feeds]),
            len(feeds),
            (ctypes.c_int32 * count)(*wanted),
            count,
            self._states,
            self._logits if names and count else None,
        )
        _require_done(code)
        for one in feeds:
            one.cache.length += len(one.ids)
        return count

    def _make_ready(self, one: Feed) -> None:
        """Refuse what the engine cannot be fed, and make room for what it can."""
        count, wanted = len(one.ids), one.wanted
        if count == 0 or wanted.step != 1 or (wanted and not 0 <= wanted[0] <= wanted[-1] < count):
            raise ValueError(f"{count} tokens, of which {wanted} are wanted")
        end = one.cache.length + count
        if end > self.n_positions:
            raise UsageError(f"{end} tokens exceed the model's {self.n_positions} positions")
        self._require_known(one.ids)
        one.cache.settle()
        if end > one.cache.capacity:
            one.cache.reserve(min(-(-end // GROWTH) * GROWTH, self.n_positions))

    def _require_known(self, ids: Sequence[int]) -> None:
        if ids and not (min(ids) >= 0 and max(ids) < self._rows):
            strange = next(id_ for id_ in ids if not 0 <= id_ < self._rows)
            raise ModelCorruptError(f"the id {strange} is none of the model's {self._rows} tokens")

    def sample(
        self,
        logits: Floats,
        sampling: Sampling,
        uniform: float,
        *,
        seen: Bytes | None = None,
        allowed: Sequence[int] | None = None,
    ) -> int:
        """One id, as ``backends.sampling`` specifies.

        Args:
            logits: of ``Logits.at``.
            uniform: in [0, 1); a greedy draw does not look at it.
            seen: ``(vocab,)``, not 0 for those that the penalty is for.
            allowed: the only ids that may be drawn, each of them one that may be sampled.

        Raises:
            ModelCorruptError: the logits are not numbers.
        """
        best = self._drawn(logits, _BEST, 0.0, None, None)
        if best < 0 or not math.isfinite(logits[best]):
            raise ModelCorruptError("the model's logits are not numbers")
        if sampling.temperature == 0 and seen is None and allowed is None:
            return best
        return self._drawn(logits, sampling, uniform, seen, allowed)

    def _drawn(
        self,
        logits: Floats,
        sampling: Sampling,
        uniform: float,
        seen: Bytes | None,
        allowed: Sequence[int] | None,
    ) -> int:
        ids = None if allowed is None else (ctypes.c_int32 * len(allowed))(*allowed)
        with self._lock:
            id_: int = library().bigcode_sample(
                self._handle, logits, sampling, seen, ids, len(allowed or ()), uniform, self._desk
            )
        return id_

    def log_probabilities(
        self, logits: Floats, id_: int, most: int
    ) -> tuple[float, list[tuple[int, float]]]:
        """The natural log-probability of an id, and the best ids with theirs, best first.

        They are over the ids that may be sampled, before any filter.

        Args:
            logits: of ``Logits.at``.
            most: how many of the best; there may be fewer ids.
        """
        most = min(most, self.vocab)
        ids, values = (ctypes.c_int32 * most)(), _floats(most)
        with self._lock:
            own: float = library().bigcode_log_probabilities(
                self._handle, logits, id_, most, ids, values, self._desk
            )
        return own, list(zip(ids[:], values[:], strict=True))


def _floats(count: int) -> Floats:
    try:
        return (ctypes.c_float * count)()
    except MemoryError as error:
        raise _no_memory() from error


def _at_least(numbers: Floats, count: int) -> Floats:
    """These, or others with room for so many."""
    return numbers if len(numbers) >= count else _floats(count)


def _require_made(handle: int | None) -> int:
    if handle is None:
        raise _no_memory()
    return handle


def _require_done(code: int) -> None:
    """Turn what a call returned into an error, if it is none of ours.

    Raises:
        ModelTooLargeError: there was no memory for it.
        ValueError: it was refused, which what is checked before should not let happen.
    """
    if code == OUT_OF_MEMORY:
        raise _no_memory()
    if code:
        raise ValueError("the engine refused a call")


def _no_memory() -> ModelTooLargeError:
    return ModelTooLargeError(
        "no memory to run so many tokens through the model",
        "use fewer samples, a smaller --max-new-tokens or a shorter prompt",
    )
