"""The KV cache: keys and values of all tokens so far, preallocated, a visible argument.

One law holds everywhere: the token at position p of a row lies in slot p. Rows of different
length are padded on the right; padding that a pass wrote is overwritten by later tokens and never
seen by an earlier query, because a query at slot p sees the slots up to p alone.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from bigcode_cli.errors import UsageError
from bigcode_cli.model.attention import Visible
from bigcode_cli.model.config import GPTBigCodeConfig


class KVCache:
    """Keys and values of every layer for a batch of rows.

    Attributes:
        storage: ``(n_layer, batch, kv_heads, capacity, 2 * head_dim)``, keys before values.
        lengths: tokens that each row holds, on the host.
    """

    def __init__(self, storage: Tensor, lengths: list[int]) -> None:
        self.storage = storage
        self.lengths = lengths
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
    ) -> Self:
        """An empty cache.

        It is filled with zeros: a masked slot weighs nothing only as long as it holds numbers.

        Raises:
            UsageError: ``capacity`` is beyond the positions that the model has.
        """
        if not 1 <= capacity <= config.n_positions:
            raise UsageError(
                f"a KV cache of {capacity} tokens does not fit a model of {config.n_positions}"
            )
        shape = (config.n_layer, batch, config.kv_heads, capacity, 2 * config.head_dim)
        return cls(torch.zeros(shape, dtype=dtype, device=device), [0] * batch)

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
    def capacity(self) -> int:
        """How many tokens a row can hold."""
        return self.storage.shape[3]

    def check(self, batch: int, time: int) -> None:
        """Raise unless ``time`` more tokens fit into each of ``batch`` rows.

        Raises:
            UsageError: the batch is another one, or a row would grow beyond the capacity.
        """
        if batch != self.batch:
            raise UsageError(f"{batch} rows do not match a KV cache of {self.batch}")
        longest = max(self.lengths, default=0)
        if longest + time > self.capacity:
            raise UsageError(
                f"{time} more tokens after {longest} exceed the KV cache of {self.capacity}"
            )

    def slots(self, time: int) -> Tensor:
        """Slots, and so default positions, of the next ``time`` tokens: int64 ``(batch, time)``.

        Rows of one length share one row of slots: ``(1, time)``.
        """
        known = self._slots
        if known is not None and known[0] == tuple(self.lengths) and known[1] == time:
            return known[2]
        device = self.storage.device
        if self._is_even():
            start = self.lengths[0] if self.lengths else 0
            slots = torch.arange(start, start + time, device=device)[None]
        else:
            # Not waited for: a step must not synchronise with the device.
            starts = torch.tensor(self.lengths).to(device, non_blocking=True)
            slots = starts[:, None] + torch.arange(time, device=device)
        self._slots = (tuple(self.lengths), time, slots)
        return slots

    def visible(self, time: int) -> Visible:
        """What the next ``time`` tokens may see once they are appended."""
        even = self._is_even()
        longest = max(self.lengths, default=0)
        if even and time == 1:
            return Visible()
        if longest == 0:
            return Visible(causal=True)
        slots = self.slots(time)
        mask = torch.arange(longest + time, device=slots.device) <= slots[:, :, None]
        ends = None if even else (slots[:, -1] + 1).to(torch.int32)
        return Visible(mask=mask[:, None], ends=ends)

    def append(self, layer: int, key_value: Tensor) -> tuple[Tensor, Tensor]:
        """Write the keys and values of new tokens behind those that each row holds.

        Args:
            layer: which layer they belong to.
            key_value: ``(batch, kv_heads, time, 2 * head_dim)``.

        Returns:
            keys and values, ``(batch, kv_heads, slots, head_dim)`` each: views up to the longest
            row's last new token.

        Raises:
            UsageError: see ``check``.
        """
        time = key_value.shape[2]
        self.check(key_value.shape[0], time)
        stored = self.storage[layer]
        longest = max(self.lengths, default=0)
        if self._is_even():
            stored[:, :, longest : longest + time] = key_value
        else:
            rows = torch.arange(self.batch, device=stored.device)[:, None]
            stored[rows, :, self.slots(time)] = key_value.transpose(1, 2)
        keys, values = stored[:, :, : longest + time].chunk(2, dim=-1)
        return keys, values

    def advance(self, counts: Sequence[int]) -> None:
        """Count the tokens of the pass that is done: ``counts[row]``, padding left out.

        Raises:
            UsageError: a row would grow beyond the capacity.
        """
        lengths = [held + count for held, count in zip(self.lengths, counts, strict=True)]
        if any(count < 0 for count in counts) or max(lengths, default=0) > self.capacity:
            raise UsageError(f"{max(lengths)} tokens exceed the KV cache of {self.capacity}")
        self.lengths = lengths

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order; an index that repeats forks its row."""
        if list(rows) == list(range(self.batch)):
            return
        index = torch.tensor(list(rows), dtype=torch.int64).to(
            self.storage.device, non_blocking=True
        )
        self.storage = self.storage.index_select(1, index)
        self.lengths = [self.lengths[row] for row in rows]

    def _is_even(self) -> bool:
        return len(set(self.lengths)) <= 1
