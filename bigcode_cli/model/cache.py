"""The KV cache: keys and values of all tokens so far, a visible argument.

Tokens lie in the slots of a row in the order in which they were fed. Rows of different length are
padded on the right: padding that a pass wrote is taken back by ``crop``, overwritten by later
tokens, and never seen by an earlier query, because a query sees the slots up to its own alone.
Padding on the left is for the caller's ``attention_mask`` to hide.

Rows may join and leave a cache: there may be room for more rows than it has, behind them, and a
row that leaves makes room where it lay.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from bigcode_cli.errors import UsageError
from bigcode_cli.model.config import GPTBigCodeConfig

LegacyCache = Sequence[Tensor | Sequence[Tensor]]
"""Keys and values of each layer, merged or as a pair: see ``KVCache.from_legacy_cache``."""

_GROWTH = 256
"""A full cache grows to the next multiple: few copies, little that is never used."""


@contextmanager
def _lasting() -> Iterator[None]:
    """Tensors made in here outlive inference mode; others could not be changed outside of it."""
    records = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(records):
        yield


class KVCache:
    """Keys and values of every layer for a batch of rows.

    Attributes:
        layers: for each layer ``(room, kv_heads, capacity, 2 * head_dim)``, keys before values: the
            rows, and behind them room for rows that join.
        encoder: for each layer the keys and values of the encoder's states, ``(batch, heads,
            encoder_time, 2 * head_dim)``; ``None`` before cross-attention has made them.
        lengths: tokens that each row holds, on the host.
        multi_query: all query heads share the one head of keys, which the legacy tuple leaves out.
        is_borrowed: what is written here is for one pass alone: see ``borrow``.
    """

    def __init__(self, layers: list[Tensor], lengths: list[int], *, multi_query: bool) -> None:
        self.layers = layers
        self.encoder: list[Tensor | None] = [None] * len(layers)
        self.lengths = lengths
        self.multi_query = multi_query
        self.is_borrowed = False
        self._slots: tuple[tuple[int, ...], int, Tensor] | None = None

    @classmethod
    def allocate(
        cls,
        config: GPTBigCodeConfig,
        batch: int,
        capacity: int,
        *,
        dtype: torch.dtype,
        device: torch.device | str,
        room: int = 0,
    ) -> Self:
        """An empty cache, with room for ``capacity`` tokens a row until it has to grow.

        It is filled with zeros: a masked slot weighs nothing only as long as it holds numbers.

        Args:
            room: for how many rows in all; no less than ``batch``.
        """
        rows = max(batch, room)
        shape = (config.n_layer, rows, config.kv_heads, capacity, 2 * config.head_dim)
        with _lasting():
            layers = list(torch.zeros(shape, dtype=dtype, device=device).unbind(0))
        return cls(layers, [0] * batch, multi_query=config.multi_query)

    @classmethod
    def from_legacy_cache(cls, past_key_values: LegacyCache) -> Self:
        """A cache that holds what transformers' legacy tuple holds.

        Args:
            past_key_values: for each layer keys before values, merged as in transformers 4.37.2:
                ``(batch, slots, 2 * head_dim)`` with multi-query attention, ``(batch, heads,
                slots, 2 * head_dim)`` without; or, as in later versions, a pair of keys and values
                ``(batch, kv_heads, slots, head_dim)``, one head of which is taken for multi-query.

        Raises:
            UsageError: the layers are none of that, or differ in their shapes.
        """
        are_pairs = not all(isinstance(layer, Tensor) for layer in past_key_values)
        with _lasting():
            merged = [
                layer.clone() if isinstance(layer, Tensor) else torch.cat(list(layer), dim=-1)
                for layer in past_key_values
            ]
            layers = [layer[:, None] if layer.dim() == 3 else layer for layer in merged]
        if len({layer.shape for layer in layers}) != 1 or layers[0].dim() != 4:
            raise UsageError("past_key_values has one tensor of keys and values a layer, all alike")
        batch, heads, slots, _ = layers[0].shape
        multi_query = heads == 1 and (are_pairs or merged[0].dim() == 3)
        return cls(layers, [slots] * batch, multi_query=multi_query)

    def to_legacy_cache(self) -> tuple[Tensor, ...]:
        """The inverse of ``from_legacy_cache``: merged copies, without what the encoder gave.

        Raises:
            UsageError: the rows differ in length, which the tuple cannot tell.
        """
        if not self._is_even():
            raise UsageError("rows of different length have no legacy cache")
        held = [layer[: self.batch, :, : self.longest].clone() for layer in self.layers]
        return tuple(layer[:, 0] if self.multi_query else layer for layer in held)

    @staticmethod
    def size(config: GPTBigCodeConfig, batch: int, capacity: int, *, dtype: torch.dtype) -> int:
        """Bytes that ``allocate`` would take."""
        width = 2 * config.kv_heads * config.head_dim
        return config.n_layer * batch * capacity * width * dtype.itemsize

    @property
    def batch(self) -> int:
        """How many rows there are."""
        return len(self.lengths)

    @property
    def room(self) -> int:
        """How many rows it can hold."""
        return self.layers[0].shape[0]

    @property
    def longest(self) -> int:
        """How many tokens the longest row holds."""
        return max(self.lengths, default=0)

    @property
    def capacity(self) -> int:
        """How many tokens a row can hold before the cache has to grow."""
        return self.layers[0].shape[2]

    def get_seq_length(self) -> int:
        """``longest``, under transformers' name."""
        return self.longest

    def check(self, config: GPTBigCodeConfig, batch: int) -> None:
        """Raise unless this is a cache of such a model and of ``batch`` rows.

        Raises:
            UsageError: it is not.
        """
        _, heads, _, width = self.layers[0].shape
        held = (len(self.layers), self.batch, heads, width)
        wanted = (config.n_layer, batch, config.kv_heads, 2 * config.head_dim)
        if held != wanted:
            raise UsageError(
                f"past_key_values has (layers, rows, heads, width) {held}, not {wanted}"
            )

    def borrow(self) -> Self:
        """The same tokens, for a pass that is to leave no trace in this cache."""
        other = type(self)(list(self.layers), list(self.lengths), multi_query=self.multi_query)
        other.encoder = list(self.encoder)
        other.is_borrowed = True
        return other

    def slots(self, time: int) -> Tensor:
        """Slots, and so default positions, of the next ``time`` tokens: int64 ``(batch, time)``.

        Rows of one length share one row of slots: ``(1, time)``.
        """
        known = self._slots
        if known is not None and known[0] == tuple(self.lengths) and known[1] == time:
            return known[2]
        device = self.layers[0].device
        with _lasting():
            if self._is_even():
                slots = torch.arange(self.longest, self.longest + time, device=device)[None]
            else:
                # Not waited for: a step must not synchronise with the device.
                starts = torch.tensor(self.lengths).to(device, non_blocking=True)
                slots = starts[:, None] + torch.arange(time, device=device)
        self._slots = (tuple(self.lengths), time, slots)
        return slots

    def append(self, layer: int, key_value: Tensor) -> tuple[Tensor, Tensor]:
        """Write the keys and values of new tokens behind those that each row holds.

        They are written in place, unless a backward pass may still need what is there: then the
        layer is copied.

        Args:
            layer: which layer they belong to.
            key_value: ``(batch, kv_heads, time, 2 * head_dim)``.

        Returns:
            keys and values, ``(batch, kv_heads, slots, head_dim)`` each: views up to the longest
            row's last new token.
        """
        time, longest = key_value.shape[2], self.longest
        stored = self.layers[layer]
        if key_value.requires_grad or stored.requires_grad:
            with _lasting():
                self.layers[layer] = stored = functional.pad(
                    stored[: self.batch, :, :longest], (0, 0, 0, time)
                )
        elif longest + time > stored.shape[2]:
            capacity = -(-(longest + time) // _GROWTH) * _GROWTH
            room = (0, 0, 0, capacity - stored.shape[2])
            with _lasting():
                self.layers[layer] = stored = functional.pad(stored, room)
        if self._is_even():
            stored[: self.batch, :, longest : longest + time] = key_value
        else:
            rows = torch.arange(self.batch, device=stored.device)[:, None]
            stored[rows, :, self.slots(time)] = key_value.transpose(1, 2)
        keys, values = stored[: self.batch, :, : longest + time].chunk(2, dim=-1)
        return keys, values

    def keep_encoder(self, layer: int, key_value: Tensor) -> None:
        """Keep the keys and values of the encoder's states, unless the cache is borrowed.

        Args:
            layer: which layer they belong to.
            key_value: ``(batch, heads, encoder_time, 2 * head_dim)``.
        """
        if self.is_borrowed:
            return
        if not torch.compiler.is_compiling() and key_value.is_inference():
            with _lasting():
                key_value = key_value.clone()
        self.encoder[layer] = key_value

    def advance(self, time: int) -> None:
        """Count the ``time`` tokens that a pass has appended to every row."""
        self.lengths = [length + time for length in self.lengths]

    def crop(self, lengths: Sequence[int]) -> None:
        """Take back what each row holds beyond ``lengths[row]``: padding, or tokens rejected.

        Raises:
            UsageError: a row holds fewer.
        """
        pairs = list(zip(lengths, self.lengths, strict=True))
        if any(not 0 <= wanted <= held for wanted, held in pairs):
            raise UsageError(f"rows of {self.lengths} tokens cannot be cropped to {list(lengths)}")
        self.lengths = list(lengths)

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order; an index that repeats forks its row."""
        if list(rows) == list(range(self.batch)):
            return
        device = self.layers[0].device
        with _lasting():
            index = torch.tensor(list(rows), dtype=torch.int64).to(device, non_blocking=True)
            self.layers = [layer.index_select(0, index) for layer in self.layers]
            self.encoder = [
                own if own is None else own.index_select(0, index) for own in self.encoder
            ]
        self.lengths = [self.lengths[row] for row in rows]

    def put(self, other: "KVCache", places: Sequence[int]) -> None:
        """Copy the rows of another cache to these places; what they held counts for nothing.

        Places behind the last row are rows from then on, and so are empty ones before them.

        Raises:
            UsageError: there is not so much room, or an encoder's states are held.
        """
        rows, tokens = max(places) + 1, other.longest
        if rows > self.room or tokens > self.capacity:
            raise UsageError(
                f"{rows} rows of {tokens} tokens have no room in a cache of "
                f"{self.room} x {self.capacity}"
            )
        if any(held is not None for held in (*self.encoder, *other.encoder)):
            raise UsageError("rows with an encoder's states cannot be joined")
        index = torch.tensor(list(places)).to(self.layers[0].device, non_blocking=True)
        for own, theirs in zip(self.layers, other.layers, strict=True):
            own[index, :, :tokens] = theirs[: other.batch, :, :tokens]
        self.lengths += [0] * (rows - self.batch)
        for place, length in zip(places, other.lengths, strict=True):
            self.lengths[place] = length

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows, in this order, in the tensors that there are.

        Rows whose place changes are moved: best are those from the end, to the places of rows
        that leave. Where rows change places among themselves, ``select`` does it.
        """
        moved = [(place, row) for place, row in enumerate(rows) if place != row]
        if {place for place, _ in moved} & set(rows) or self.encoder[0] is not None:
            self.select(rows)
            return
        for place, row in moved:
            held = self.lengths[row]
            for layer in self.layers:
                layer[place, :, :held] = layer[row, :, :held]
        self.lengths = [self.lengths[row] for row in rows]

    def _is_even(self) -> bool:
        return len(set(self.lengths)) <= 1
