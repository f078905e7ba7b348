"""Planted mistakes in the cache, and in what gradients pass through."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bigcode_cli.model import gpt_bigcode
from bigcode_cli.model.cache import KVCache, LegacyCache
from bigcode_cli.model.layers import GPTBigCodeBlock, Pass
from tests.parity.planting import Patch, Plant

real_append = KVCache.append
real_from_legacy = KVCache.from_legacy_cache
real_to_legacy = KVCache.to_legacy_cache


def swap_halves(layer: Tensor | Sequence[Tensor]) -> Tensor | Sequence[Tensor]:
    """Of keys and values, merged or a pair."""
    if isinstance(layer, Tensor):
        return torch.cat(layer.chunk(2, dim=-1)[::-1], dim=-1)
    return layer[::-1]


def read_legacy_swapped(patch: Patch) -> None:
    def read(past_key_values: LegacyCache) -> KVCache:
        return real_from_legacy([swap_halves(layer) for layer in past_key_values])

    patch(KVCache, "from_legacy_cache", read)


def turn_legacy_layers(patch: Patch) -> None:
    patch(KVCache, "from_legacy_cache", lambda past: real_from_legacy(past[::-1]))


def write_legacy_swapped(patch: Patch) -> None:
    def write(self: KVCache) -> object:
        return tuple(swap_halves(layer) for layer in real_to_legacy(self))

    patch(KVCache, "to_legacy_cache", write)


def append_changed(changed: Callable[[KVCache, int, Tensor], Tensor]) -> Plant:
    """Something else is appended to a layer of the cache."""

    def append(self: KVCache, layer: int, key_value: Tensor) -> tuple[Tensor, Tensor]:
        return real_append(self, layer, changed(self, layer, key_value))

    return lambda patch: patch(KVCache, "append", append)


def forget_first_slot(cache: KVCache, layer: int, key_value: Tensor) -> Tensor:
    """A token is written over the first, too."""
    if cache.longest:
        cache.layers[layer] = cache.layers[layer].clone()
        cache.layers[layer][:, :, 0] = key_value[:, :, 0].detach()
    return key_value


def forget_when_growing(cache: KVCache, layer: int, key_value: Tensor) -> Tensor:
    if cache.longest + key_value.shape[2] > cache.capacity:
        cache.layers[layer] = torch.zeros_like(cache.layers[layer])
    return key_value


def detach_past(cache: KVCache, layer: int, key_value: Tensor) -> Tensor:
    cache.layers[layer] = cache.layers[layer].detach()
    return key_value


def detach_at_checkpoints(patch: Patch) -> None:
    def run(block: GPTBigCodeBlock, hidden: Tensor, shared: Pass, **options: Any) -> object:
        return checkpoint(block, hidden.detach(), shared, **options)

    patch(gpt_bigcode, "checkpoint", run)


CACHE_MUTANTS: dict[str, Plant] = {
    "legacy tuple read with keys and values swapped": read_legacy_swapped,
    "legacy tuple written with keys and values swapped": write_legacy_swapped,
    "legacy tuple read from its last layer": turn_legacy_layers,
    "tokens written in reverse": append_changed(lambda _, __, key_value: key_value.flip(2)),
    "a slot of the past written over": append_changed(forget_first_slot),
    "values of the past lost in growing": append_changed(forget_when_growing),
    "gradient lost through the cache": append_changed(detach_past),
    "gradient lost at checkpoints": detach_at_checkpoints,
}
