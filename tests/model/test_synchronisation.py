"""No step waits for the device, and no layer makes a mask of its own."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig
from tests.model.dispatch import Counting
from tests.model.golden import unsynchronised
from tests.model.models import (
    DEVICES,
    blocks_of,
    random_ids,
    random_states,
    small_config,
    wide_model,
)

BATCH, PAST, TIME = 2, 5, 3

STEPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "2-D mask": {"attention_mask": torch.tensor([[0, 1, 1, 1, 1, 1, 1, 1], [1] * 8])},
    "4-D boolean mask": {"attention_mask": torch.ones(2, 1, TIME, PAST + TIME, dtype=torch.bool)},
    "4-D float mask": {"attention_mask": torch.zeros(1, 4, TIME, PAST + TIME)},
    "head mask": {"head_mask": torch.tensor([1.0, 0.0, 1.0, 1.0])},
    "positions": {"position_ids": torch.tensor([[7, 6, 5]])},
    "token types": {"token_type_ids": torch.tensor([[7, 6, 5], [1, 2, 3]])},
    "cache_position": {"cache_position": torch.tensor([5, 6, 7])},
    "labels": {"labels": torch.tensor([[3, -100, 5], [1, 2, 3]])},
    "outputs": {"output_attentions": True, "output_hidden_states": True},
    "no cache left": {"use_cache": False},
}


def a_step(
    config: GPTBigCodeConfig,
    attention: str,
    lengths: list[int],
    *,
    device: str = "cpu",
    **past: Any,
) -> tuple[GPTBigCodeForCausalLM, Tensor, KVCache]:
    """A model, tokens for it, and a cache of rows with these lengths."""
    model = wide_model(config, attention, device=device)
    ids = random_ids(config, BATCH, PAST + TIME).to(device)
    with torch.no_grad():
        cache = KVCache.allocate(config, BATCH, 16, dtype=torch.float32, device=device)
        model(ids[:, :PAST], past_key_values=cache, **past)
        cache.crop(lengths)
    return model, ids[:, PAST:], cache


def on(device: str, options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in options.items()
    }


def test_what_waits_for_the_device_is_counted() -> None:
    tensor = torch.arange(3)
    for waiting in (
        tensor[0].item,
        lambda: bool(tensor.any()),
        lambda: tensor[tensor > 1],
        lambda: tensor.masked_select(tensor > 1),
        lambda: torch.equal(tensor, tensor),
        tensor.nonzero,
        tensor.unique,
    ):
        with Counting() as counting:
            waiting()
        assert counting.reading


@pytest.mark.parametrize("attention", ["eager", "auto"])
@pytest.mark.parametrize("lengths", [[PAST, PAST], [PAST, 2]])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("device", DEVICES)
def test_no_step_waits_for_the_device(
    device: str, step: str, lengths: list[int], attention: str
) -> None:
    """With gradients and without, the first pass of a model and its later ones."""
    config = small_config(n_layer=2, multi_query=attention == "eager")
    model, new, cache = a_step(config, attention, lengths, device=device)
    options = on(device, STEPS[step])
    with Counting() as counting, unsynchronised(new.device):
        model(new, past_key_values=cache.borrow(), **options)
        with torch.no_grad():
            model(new, past_key_values=cache, **options)
    assert counting.calls["aten::addmm"] > 0
    assert counting.reading == {}


@pytest.mark.parametrize("attention", ["eager", "auto"])
@pytest.mark.parametrize("lengths", [[PAST, PAST], [PAST, 2]])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_needs_no_numbers_at_all(step: str, lengths: list[int], attention: str) -> None:
    """On the meta device there are none, and reading one there is an error."""
    config = small_config(n_layer=2)
    model = wide_model(config, attention).to("meta")
    cache = KVCache.allocate(config, BATCH, 16, dtype=torch.float32, device="meta")
    cache.advance(PAST)
    cache.crop(lengths)
    new = torch.zeros(BATCH, TIME, dtype=torch.int64, device="meta")
    assert model(new, past_key_values=cache, **on("meta", STEPS[step])).logits.is_meta


@pytest.mark.parametrize("attention", ["eager", "auto"])
@pytest.mark.parametrize("lengths", [[PAST, PAST], [PAST, 2]])
@torch.no_grad()
def test_no_step_of_cross_attention_waits_for_the_device(
    lengths: list[int], attention: str
) -> None:
    config = small_config(n_layer=2, multi_query=False, add_cross_attention=True)
    encoder = random_states(config, BATCH, 4)
    model, new, cache = a_step(config, attention, lengths, encoder_hidden_states=encoder)
    masks = [None, torch.ones(BATCH, 4), torch.ones(BATCH, TIME, 4)]
    with Counting() as counting:
        for mask in masks:
            cache.crop(lengths)
            model(new, past_key_values=cache, encoder_attention_mask=mask)
            model(new, encoder_hidden_states=encoder, encoder_attention_mask=mask)
        cache.select([1, 1])
    assert counting.reading == {}


@torch.no_grad()
def test_a_cache_is_grown_cropped_and_converted_without_waiting() -> None:
    config = small_config(n_layer=2)
    model, new, cache = a_step(config, "auto", [PAST, PAST])
    with Counting() as counting:
        legacy = cache.to_legacy_cache()
        model(new, past_key_values=legacy)
        for _ in range(4):
            model(new, past_key_values=cache)
        cache.crop([9, 4])
        cache.select([1, 0, 1])
        model(random_ids(config, 3, 1), past_key_values=cache)
    assert counting.reading == {}


MAKING = ("aten::ones", "aten::tril", "aten::tril_", "aten::triu", "aten::full", "aten::full_like")


def made(counting: Counting) -> int:
    return sum(counting.calls[name] for name in MAKING)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_causal_mask_is_made_once_and_kept(attention: str) -> None:
    """Not by each layer, not by each pass; begun in inference mode, it serves in training."""
    config = small_config(n_layer=3)
    model = wide_model(config, attention)
    ids = random_ids(config, BATCH, 12)
    with torch.inference_mode(), Counting() as first:
        cache = model(ids).past_key_values
        model(ids[:, :4], past_key_values=cache)
        model(ids, attention_mask=torch.ones(BATCH, 12))
    squares = first.calls["aten::tril"]
    assert 1 <= squares <= 2  # The square may grow once.
    kept = model.transformer._causal_mask._square
    with Counting() as second:
        output = model(ids, labels=ids)
        chunk = model(ids[:, :4], past_key_values=output.past_key_values)
        masked = model(ids, attention_mask=torch.ones(BATCH, 12), labels=ids)
        told = torch.autograd.grad(
            output.loss + masked.loss + chunk.logits.sum(), list(model.parameters())
        )
    assert all(gradient.isfinite().all() for gradient in told)
    assert second.calls["aten::tril"] == 0
    assert model.transformer._causal_mask._square is kept


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("step", ["plain", "2-D mask"])
@torch.no_grad()
def test_masks_are_made_for_all_layers_at_once(attention: str, step: str) -> None:
    """More layers make no more masks, and all are handed the same one."""
    told = []
    for layers in (1, 4):
        config = small_config(n_layer=layers)
        model, new, cache = a_step(config, attention, [PAST, PAST])
        seen: list[Tensor] = []
        for block in blocks_of(model):
            block.attn.register_forward_pre_hook(
                lambda _, given, seen=seen: seen.append(given[1].visible.mask)
            )
        with Counting() as counting:
            model(new, past_key_values=cache, **STEPS[step])
        told.append((made(counting), counting.calls["aten::arange"]))
        assert len(seen) == layers
        assert all(mask is seen[0] for mask in seen)
    assert told[0] == told[1]
