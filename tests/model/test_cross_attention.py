"""Attention to an encoder's states, against loops over heads and positions."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from bigcode_cli.errors import UsageError
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from tests.model import models
from tests.model.cross_cases import (
    BATCH,
    MASKS,
    STATES,
    TIME,
    encoder_states,
    loops,
    rows_of,
    wide_model,
)
from tests.model.models import (
    blocks_of,
    random_ids,
    random_states,
    relative_difference,
    small_config,
)
from tests.model.oracle_loops import causal, hiding, loop_weights, run_loops

TOLERANCE = 1e-5


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6])
@torch.no_grad()
def test_one_pass_equals_the_loops(heads: int, attention: str, mask: str) -> None:
    model = wide_model(attention, n_head=heads, n_embd=24)
    ids = random_ids(model.config, BATCH, TIME)
    encoder = encoder_states(model.config)
    hidden = model.transformer(
        ids, encoder_hidden_states=encoder, encoder_attention_mask=MASKS[mask]
    ).last_hidden_state
    expected = loops(model, ids, encoder, MASKS[mask]).hidden
    assert relative_difference(hidden, expected) < TOLERANCE


@pytest.mark.parametrize("handed_on", [True, False])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_cached_steps_equal_the_loops(attention: str, mask: str, *, handed_on: bool) -> None:
    """The states may be left out once their keys are made, which happens once."""
    model = wide_model(attention)
    ids = random_ids(model.config, BATCH, TIME)
    encoder = encoder_states(model.config)
    made = [0] * model.config.n_layer
    for layer, block in enumerate(blocks_of(model)):

        def count(*_: object, layer: int = layer) -> None:
            made[layer] += 1

        block.crossattention.c_attn.register_forward_hook(count)
    expected = loops(model, ids, encoder, MASKS[mask]).hidden
    cache, pieces = None, []
    for start, end in [(0, 2), (2, 5), (5, 6)]:
        output = model.transformer(
            ids[:, start:end],
            past_key_values=cache,
            encoder_hidden_states=encoder if handed_on or cache is None else None,
            encoder_attention_mask=rows_of(MASKS[mask], start, end),
        )
        cache = output.past_key_values
        pieces.append(output.last_hidden_state)
    assert relative_difference(torch.cat(pieces, dim=1), expected) < TOLERANCE
    assert made == [1] * model.config.n_layer


@torch.no_grad()
def test_each_cache_has_an_encoder_of_its_own() -> None:
    model = wide_model()
    ids = random_ids(model.config, BATCH, TIME)
    for states in (STATES, STATES, 2):
        encoder = random_states(model.config, BATCH, states, seed=states)
        for use_cache in (True, False):
            hidden = model.transformer(
                ids, encoder_hidden_states=encoder, use_cache=use_cache
            ).last_hidden_state
            assert relative_difference(hidden, loops(model, ids, encoder, None).hidden) < TOLERANCE


@torch.no_grad()
def test_a_cache_filled_without_an_encoder_takes_one_later() -> None:
    """As in transformers, a pass without states has no cross-attention."""
    model = wide_model()
    ids = random_ids(model.config, BATCH, TIME)
    encoder = encoder_states(model.config)
    alone = model.transformer(ids[:, :4])
    expected = run_loops(loop_weights(model), model.config, ids[:, :4], causal(4)).hidden
    assert relative_difference(alone.last_hidden_state, expected) < TOLERANCE
    cache = alone.past_key_values
    first = model.transformer(ids[:, 4:], past_key_values=cache, encoder_hidden_states=encoder)
    cache.crop([4, 4])
    second = model.transformer(ids[:, 4:], past_key_values=cache)
    assert torch.equal(first.last_hidden_state, second.last_hidden_state)


@pytest.mark.parametrize("mask", MASKS)
@torch.no_grad()
def test_the_weights_given_out_are_those_of_the_loops(mask: str) -> None:
    model = wide_model("auto")
    ids = random_ids(model.config, BATCH, TIME)
    encoder = encoder_states(model.config)
    output = model(
        ids,
        encoder_hidden_states=encoder,
        encoder_attention_mask=MASKS[mask],
        output_attentions=True,
        output_hidden_states=True,
    )
    expected = loops(model, ids, encoder, MASKS[mask])
    assert [weights.shape for weights in output.cross_attentions] == [(BATCH, 4, TIME, STATES)] * 2
    pairs = [
        *zip(output.attentions, expected.attentions, strict=True),
        *zip(output.cross_attentions, expected.cross_attentions, strict=True),
        *zip(output.hidden_states, expected.states, strict=True),
    ]
    assert max(relative_difference(*pair) for pair in pairs) < TOLERANCE
    for weights in output.cross_attentions:
        assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-6)


@pytest.mark.parametrize("per_layer", [True, False])
@torch.no_grad()
def test_a_head_mask_acts_on_both_attentions(*, per_layer: bool) -> None:
    model = wide_model("eager")
    ids = random_ids(model.config, BATCH, TIME)
    encoder = encoder_states(model.config)
    head_mask = torch.tensor([[1.0, 0.0, 0.5, 1.0], [0.0, 1.0, 1.0, 2.0]])
    if not per_layer:
        head_mask = head_mask[0]
    output = model.transformer(
        ids, encoder_hidden_states=encoder, head_mask=head_mask, output_attentions=True
    )
    expected = loops(model, ids, encoder, None, head_mask=head_mask.expand(2, 4))
    assert relative_difference(output.last_hidden_state, expected.hidden) < TOLERANCE
    for got, wanted in zip(output.cross_attentions, expected.cross_attentions, strict=True):
        assert relative_difference(got, wanted) < TOLERANCE


def gradients(
    model: GPTBigCodeForCausalLM, ids: Tensor, encoder: Tensor, **options: Any
) -> dict[str, Tensor]:
    """Of the sum of squares of the hidden states, by every parameter and by the encoder's."""
    names = dict(model.transformer.named_parameters())
    encoder = encoder.clone().requires_grad_()
    output = model.transformer(ids, encoder_hidden_states=encoder, **options)
    loss = output.last_hidden_state.square().sum()
    told = torch.autograd.grad(loss, [*names.values(), encoder])
    return dict(zip([*names, "encoder"], told, strict=True))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_gradients_equal_those_of_the_loops(attention: str, mask: str) -> None:
    model = wide_model(attention, n_layer=1)
    ids = random_ids(model.config, BATCH, TIME)
    encoder = encoder_states(model.config)
    told = gradients(model, ids, encoder, encoder_attention_mask=MASKS[mask])
    weights = loop_weights(model.transformer, requires_grad=True)
    leaf = encoder.double().requires_grad_()
    seen = MASKS[mask]
    loss = (
        run_loops(
            weights,
            model.config,
            ids,
            causal(TIME),
            encoder=leaf,
            encoder_sees=None
            if seen is None
            else hiding(seen if seen.dim() == 3 else seen[:, None]),
        )
        .hidden.square()
        .sum()
    )
    expected = torch.autograd.grad(loss, [*weights.values(), leaf])
    for (name, got), wanted in zip(told.items(), expected, strict=True):
        # A bias of all keys alike shifts all scores alike: its gradient is rounding.
        near = (got - wanted).norm() < 1e-4 * wanted.norm().clamp(min=1e-2)
        assert near, name


@pytest.mark.parametrize("past", ["none", "a cache", "a cache with an encoder"])
def test_gradient_checkpointing_changes_no_gradient(past: str) -> None:
    model = wide_model(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0).train()
    ids = random_ids(model.config, BATCH, TIME)
    encoder = encoder_states(model.config)
    cache = None
    if past != "none":
        states = encoder if past == "a cache with an encoder" else None
        with torch.no_grad():
            cache = model.transformer(ids[:, :2], encoder_hidden_states=states).past_key_values
        ids = ids[:, 2:]
        if states is not None:
            states.add_(1.0)  # What the cache holds counts, not what is handed on.
    told = []
    for checkpointing in (False, True):
        model.transformer.gradient_checkpointing = checkpointing
        names = [name for name, _ in model.transformer.named_parameters()]
        leaf = encoder.clone().requires_grad_()
        output = model.transformer(
            ids, past_key_values=cache, encoder_hidden_states=leaf, use_cache=False
        )
        leaves = [*model.transformer.parameters(), leaf]
        told.append(
            torch.autograd.grad(output.last_hidden_state.square().sum(), leaves, allow_unused=True)
        )
        assert (told[-1][-1] is None) == (past == "a cache with an encoder")
    for name, plain, anew in zip([*names, "encoder"], *told, strict=True):
        assert (plain is None and anew is None) or torch.equal(plain, anew), name


@pytest.mark.parametrize("rows", [(1, 0), (1,), (0, 1, 1, 0)])
@torch.no_grad()
def test_selected_rows_keep_their_encoder(rows: tuple[int, ...]) -> None:
    model = wide_model()
    ids = random_ids(model.config, BATCH, TIME)
    encoder = encoder_states(model.config)
    mask = MASKS["2-D mask"]
    assert mask is not None
    expected = loops(model, ids, encoder, mask).hidden[list(rows), 4:]
    cache = model.transformer(
        ids[:, :4], encoder_hidden_states=encoder, encoder_attention_mask=mask
    ).past_key_values
    cache.select(rows)
    chosen = list(rows)
    hidden = model.transformer(
        ids[chosen, 4:], past_key_values=cache, encoder_attention_mask=mask[chosen]
    ).last_hidden_state
    assert relative_difference(hidden, expected) < TOLERANCE


@torch.no_grad()
def test_cropping_keeps_the_encoder() -> None:
    model = wide_model()
    ids = random_ids(model.config, BATCH, TIME)
    encoder = encoder_states(model.config)
    expected = loops(model, ids, encoder, None).hidden
    cache = model.transformer(ids, encoder_hidden_states=encoder).past_key_values
    for lengths in ([3, 3], [3, 1]):
        cache.crop(lengths)
        new = torch.stack([row[at : at + 3] for row, at in zip(ids, lengths, strict=True)])
        hidden = model.transformer(new, past_key_values=cache).last_hidden_state
        for row, at in enumerate(lengths):
            assert relative_difference(hidden[row], expected[row, at : at + 3]) < TOLERANCE


@pytest.mark.parametrize("lengths", [[4, 4], [4, 2]])
@torch.no_grad()
def test_without_use_cache_a_given_cache_stays_as_it_is(lengths: list[int]) -> None:
    model = wide_model()
    ids = random_ids(model.config, BATCH, TIME)
    encoder = encoder_states(model.config)
    for states in (None, encoder):
        cache = KVCache.allocate(model.config, BATCH, 20, dtype=torch.float32, device="cpu")
        model.transformer(ids[:, :4], past_key_values=cache, encoder_hidden_states=states)
        cache.crop(lengths)
        held = [layer.clone() for layer in cache.layers]
        entries = list(cache.encoder)
        output = model.transformer(
            ids[:, 4:], past_key_values=cache, encoder_hidden_states=encoder, use_cache=False
        )
        assert output.past_key_values is None
        assert cache.lengths == lengths
        for before, after in zip(held, cache.layers, strict=True):
            for row, length in enumerate(lengths):
                assert torch.equal(before[row, :, :length], after[row, :, :length])
        assert all(a is b for a, b in zip(entries, cache.encoder, strict=True))
        assert all((entry is None) == (states is None) for entry in cache.encoder)
        again = model.transformer(
            ids[:, 4:], past_key_values=cache, encoder_hidden_states=encoder
        ).last_hidden_state
        assert torch.equal(again, output.last_hidden_state)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_an_encoder_met_in_inference_mode_serves_outside_of_it(attention: str) -> None:
    model = wide_model(attention)
    ids = random_ids(model.config, BATCH, TIME)
    encoder = encoder_states(model.config)
    expected = loops(model, ids, encoder, None).hidden[:, 4:].detach()
    with torch.inference_mode():
        cache = model.transformer(ids[:, :4], encoder_hidden_states=encoder).past_key_values
    hidden = model.transformer(ids[:, 4:], past_key_values=cache).last_hidden_state
    assert relative_difference(hidden.detach(), expected) < TOLERANCE
    weight = blocks_of(model)[0].crossattention.q_attn.weight
    (gradient,) = torch.autograd.grad(hidden.square().sum(), [weight])
    assert gradient.isfinite().all()
    assert gradient.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("softmax_in_fp32", [True, False])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_a_row_that_sees_nothing_of_the_encoder_stays_finite(
    attention: str, dtype: torch.dtype, *, softmax_in_fp32: bool
) -> None:
    model = wide_model(attention, attention_softmax_in_fp32=softmax_in_fp32)
    ids = random_ids(model.config, BATCH, TIME)
    encoder = encoder_states(model.config)
    nothing = torch.ones(BATCH, TIME, STATES, dtype=torch.bool)
    nothing[0, 2] = nothing[1] = False
    for scale, mask in itertools.product((1.0, 30.0), (nothing, nothing[:, -1])):
        # Large states make large scores, to which the lowest number must not be added as such.
        output = model.to(dtype).transformer(
            ids,
            encoder_hidden_states=(encoder * scale).to(dtype),
            encoder_attention_mask=mask,
        )
        assert output.last_hidden_state.isfinite().all()


def test_states_need_a_model_that_attends_to_them() -> None:
    config = small_config(multi_query=False)
    with pytest.raises(UsageError, match="needs a model with add_cross_attention"):
        models.wide_model(config)(
            random_ids(config, BATCH, TIME), encoder_hidden_states=encoder_states(config)
        )


def test_an_encoder_mask_needs_states() -> None:
    model = wide_model()
    ids = random_ids(model.config, BATCH, TIME)
    with pytest.raises(UsageError, match="encoder_attention_mask needs encoder_hidden_states"):
        model(ids, encoder_attention_mask=MASKS["2-D mask"])


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((BATCH, STATES), r"\(2, any, 32\), not \(2, 5\)"),
        ((1, STATES, 32), r"\(2, any, 32\), not \(1, 5, 32\)"),
        ((BATCH, STATES, 16), r"\(2, any, 32\), not \(2, 5, 16\)"),
        ((BATCH, 0, 32), r"\(2, any, 32\), not \(2, 0, 32\)"),
    ],
)
def test_states_of_a_wrong_shape_are_refused(shape: tuple[int, ...], told: str) -> None:
    model = wide_model()
    with pytest.raises(UsageError, match=f"^encoder_hidden_states is of shape {told}$"):
        model(random_ids(model.config, BATCH, TIME), encoder_hidden_states=torch.zeros(shape))


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((BATCH, STATES + 1), r"\(2, 5\), not \(2, 6\)"),
        ((1, STATES), r"\(2, 5\), not \(1, 5\)"),
        ((BATCH, STATES, TIME), r"\(2, 6, 5\), not \(2, 5, 6\)"),
        ((BATCH, 1, TIME, STATES), r"\(2, 6, 5\), not \(2, 1, 6, 5\)"),
        ((STATES,), r"\(2, 6, 5\), not \(5\)"),
    ],
)
def test_an_encoder_mask_of_a_wrong_shape_is_refused(shape: tuple[int, ...], told: str) -> None:
    model = wide_model()
    told = told.replace("(5\\)", "(5,\\)")
    with pytest.raises(UsageError, match=f"^encoder_attention_mask is of shape {told}$"):
        model(
            random_ids(model.config, BATCH, TIME),
            encoder_hidden_states=encoder_states(model.config),
            encoder_attention_mask=torch.ones(shape),
        )


def test_states_that_differ_from_those_of_the_cache_are_refused() -> None:
    model = wide_model()
    ids = random_ids(model.config, BATCH, TIME)
    encoder = encoder_states(model.config)
    cache = model(ids, encoder_hidden_states=encoder).past_key_values
    with pytest.raises(UsageError, match=r"is of shape \(2, 5, 32\), not \(2, 3, 32\)"):
        model(ids, past_key_values=cache, encoder_hidden_states=encoder[:, :3])
