"""What each argument of a forward pass does."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bigcode_cli.errors import BigcodeWarning, UsageError
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.gpt_bigcode import GPTBigCodeModel
from bigcode_cli.model.losses import causal_lm_loss
from tests.model.models import (
    blocks_of,
    random_ids,
    random_states,
    relative_difference,
    small_config,
    wide_model,
)
from tests.model.oracle_loops import causal, loop_weights, run_loops

TOLERANCE = 1e-5
BATCH, TIME = 2, 6
KERNELS = ["eager", "sdpa", "auto"]
ARGUMENTS = [
    "input_ids",
    "past_key_values",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "head_mask",
    "inputs_embeds",
    "encoder_hidden_states",
    "encoder_attention_mask",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "cache_position",
]


def test_arguments_stand_in_the_order_of_transformers() -> None:
    """4.56.2's ``forward``; labels come before ``use_cache``."""
    for model_class, names in (
        (GPTBigCodeModel, ARGUMENTS),
        (GPTBigCodeForCausalLM, [*ARGUMENTS[:9], "labels", *ARGUMENTS[9:]]),
    ):
        code = model_class.forward.__code__
        assert list(code.co_varnames[1 : code.co_argcount]) == names
        assert model_class.forward.__defaults__ == (None,) * len(names)


@torch.no_grad()
def test_embeddings_stand_in_for_ids() -> None:
    model = wide_model(small_config())
    ids = random_ids(model.config, BATCH, TIME)
    embeds = model.transformer.wte(ids)
    assert torch.equal(model(inputs_embeds=embeds).logits, model(ids).logits)
    cache = model(ids[:, :4]).past_key_values
    chunk = model(inputs_embeds=embeds[:, 4:], past_key_values=cache).logits
    assert relative_difference(chunk, model(ids).logits[:, 4:]) < TOLERANCE
    other = random_states(model.config, BATCH, TIME)
    expected = run_loops(loop_weights(model), model.config, other, causal(TIME)).hidden
    hidden = model.transformer(inputs_embeds=other).last_hidden_state
    assert relative_difference(hidden, expected) < TOLERANCE


@pytest.mark.parametrize("both", [True, False])
def test_either_ids_or_embeddings_are_given(*, both: bool) -> None:
    model = wide_model(small_config())
    given: dict[str, Any] = {}
    if both:
        given = {
            "input_ids": random_ids(model.config, BATCH, TIME),
            "inputs_embeds": random_states(model.config, BATCH, TIME),
        }
    with pytest.raises(UsageError, match="give exactly one of input_ids and inputs_embeds"):
        model(**given)


@torch.no_grad()
def test_token_types_are_rows_of_the_token_embedding() -> None:
    model = wide_model(small_config())
    ids = random_ids(model.config, BATCH, TIME)
    types = random_ids(model.config, BATCH, TIME, seed=1)
    weights = loop_weights(model)
    expected = run_loops(weights, model.config, ids, causal(TIME), types=types).hidden
    hidden = model.transformer(ids, token_type_ids=types).last_hidden_state
    assert relative_difference(hidden, expected) < TOLERANCE
    shared = model(ids, token_type_ids=types[:1]).logits
    assert torch.equal(shared, model(ids, token_type_ids=types[:1].expand(BATCH, -1)).logits)
    cache = model(ids[:, :4], token_type_ids=types[:, :4]).past_key_values
    hidden = model.transformer(
        ids[:, 4:], past_key_values=cache, token_type_ids=types[:, 4:]
    ).last_hidden_state
    assert relative_difference(hidden, expected[:, 4:]) < TOLERANCE


@torch.no_grad()
def test_positions_are_counted_from_the_cache() -> None:
    model = wide_model(small_config())
    ids = random_ids(model.config, BATCH, TIME)
    cache = model(ids[:, :4]).past_key_values
    counted = model(ids[:, 4:], past_key_values=cache).logits
    for given in (torch.tensor([[4, 5]]), torch.tensor([[4, 5], [4, 5]])):
        cache.crop([4, 4])
        told = model(ids[:, 4:], past_key_values=cache, position_ids=given).logits
        assert torch.equal(told, counted)
    cache.crop([4, 4])
    other = model(ids[:, 4:], past_key_values=cache, position_ids=given + 1).logits
    assert not torch.allclose(other, counted)


@torch.no_grad()
def test_positions_choose_the_embedding_alone() -> None:
    model = wide_model(small_config())
    ids = random_ids(model.config, BATCH, TIME)
    given = torch.tensor([[5, 4, 3, 2, 1, 0], [47, 0, 0, 7, 7, 3]])
    expected = run_loops(
        loop_weights(model), model.config, ids, causal(TIME), positions=given
    ).hidden
    hidden = model.transformer(ids, position_ids=given).last_hidden_state
    assert relative_difference(hidden, expected) < TOLERANCE


@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("attention", KERNELS)
@torch.no_grad()
def test_a_silenced_head_is_one_that_the_projection_does_not_read(
    attention: str, *, multi_query: bool
) -> None:
    config = small_config(multi_query=multi_query)
    ids = random_ids(config, BATCH, TIME)
    factors = torch.tensor([[1.0, 0, 1, 0.5], [0, 0, 0, 0], [1, 2, 0, 1]])
    for head_mask in (factors, factors[0], factors[0].bool(), factors[1].long()):
        model = wide_model(config, attention)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BigcodeWarning)
            cache = model(ids[:, :4], head_mask=head_mask).past_key_values
            masked = model(ids[:, 4:], past_key_values=cache, head_mask=head_mask).logits
            whole = model(ids, head_mask=head_mask).logits
        assert relative_difference(masked, whole[:, 4:]) < TOLERANCE
        for block, kept in zip(blocks_of(model), head_mask.float().expand(3, 4), strict=True):
            block.attn.c_proj.weight.mul_(kept.repeat_interleave(config.head_dim))
        assert relative_difference(whole, model(ids).logits) < TOLERANCE


@torch.no_grad()
def test_use_cache_is_what_the_configuration_says_unless_told() -> None:
    for default in (True, False):
        model = wide_model(small_config(use_cache=default))
        ids = random_ids(model.config, BATCH, TIME)
        assert (model(ids).past_key_values is not None) == default
        given = KVCache.allocate(model.config, BATCH, TIME, dtype=torch.float32, device="cpu")
        output = model(ids, past_key_values=given)
        assert (output.past_key_values is given) == default
        assert given.lengths == [TIME * default] * BATCH
        for asked in (True, False):
            assert (model(ids, use_cache=asked).past_key_values is not None) == asked


@pytest.mark.parametrize("lengths", [[4, 4], [4, 1]])
@pytest.mark.parametrize("multi_query", [True, False])
@torch.no_grad()
def test_without_use_cache_a_given_cache_is_read_alone(
    lengths: list[int], *, multi_query: bool
) -> None:
    model = wide_model(small_config(multi_query=multi_query))
    ids = random_ids(model.config, BATCH, TIME)
    for capacity in (4, 4 + TIME):
        cache = KVCache.allocate(model.config, BATCH, capacity, dtype=torch.float32, device="cpu")
        model(ids[:, :4], past_key_values=cache)
        cache.crop(lengths)
        held = [layer.clone() for layer in cache.layers]
        output = model(ids, past_key_values=cache, use_cache=False)
        assert output.past_key_values is None
        assert cache.lengths == lengths
        for before, after in zip(held, cache.layers, strict=True):
            for row, length in enumerate(lengths):
                assert torch.equal(before[row, :, :length], after[row, :, :length])
        assert torch.equal(model(ids, past_key_values=cache).logits, output.logits)


@torch.no_grad()
def test_hidden_states_begin_with_the_embeddings_and_end_behind_the_norm() -> None:
    model = wide_model(small_config())
    ids = random_ids(model.config, BATCH, TIME)
    output = model.transformer(ids, output_hidden_states=True)
    states = output.hidden_states
    assert len(states) == model.config.n_layer + 1
    assert states[-1] is output.last_hidden_state
    expected = run_loops(loop_weights(model), model.config, ids, causal(TIME)).states
    for got, wanted in zip(states, expected, strict=True):
        assert relative_difference(got, wanted) < TOLERANCE
    assert torch.equal(model(ids, output_hidden_states=True).hidden_states[-1], states[-1])


@pytest.mark.parametrize("multi_query", [True, False])
@torch.no_grad()
def test_attentions_are_the_weights_of_all_slots(*, multi_query: bool) -> None:
    model = wide_model(small_config(multi_query=multi_query), "auto")
    ids = random_ids(model.config, BATCH, TIME)
    expected = run_loops(loop_weights(model), model.config, ids, causal(TIME)).attentions
    cache, start = None, 0
    for end in (3, 5, 6):
        output = model(ids[:, start:end], past_key_values=cache, output_attentions=True)
        cache = output.past_key_values
        assert output.cross_attentions is None
        assert len(output.attentions) == model.config.n_layer
        for got, wanted in zip(output.attentions, expected, strict=True):
            assert got.shape == (BATCH, model.config.n_head, end - start, end)
            assert torch.allclose(got.sum(-1), torch.ones(()), atol=1e-6)
            assert relative_difference(got, wanted[:, :, start:end, :end]) < TOLERANCE
        start = end


@torch.no_grad()
def test_attentions_are_given_as_head_mask_and_dropout_leave_them() -> None:
    torch.manual_seed(0)
    model = wide_model(small_config(attn_pdrop=0.5), "eager").train()
    ids = random_ids(model.config, BATCH, TIME)
    head_mask = torch.tensor([1.0, 0.0, 2.0, 1.0])
    output = model(ids, output_attentions=True, head_mask=head_mask)
    first = output.attentions[0]
    assert not first[:, 1].any()
    seen = torch.ones(TIME, TIME, dtype=torch.bool).tril()
    assert (first[:, [0, 2, 3]][..., seen] == 0).float().mean().item() == pytest.approx(
        0.5, abs=0.2
    )


@torch.no_grad()
def test_outputs_are_those_that_the_configuration_asks_for_unless_told() -> None:
    config = small_config(output_attentions=True, output_hidden_states=True, return_dict=False)
    model = wide_model(config, "auto")
    ids = random_ids(config, BATCH, TIME)
    logits, cache, states, attentions = model(ids)
    assert isinstance(cache, KVCache)
    assert len(states) == config.n_layer + 1
    assert len(attentions) == config.n_layer
    output = model(ids, output_attentions=False, output_hidden_states=False, return_dict=True)
    assert output.keys() == ["logits", "past_key_values"]
    assert relative_difference(output.logits, logits) < TOLERANCE
    plain = wide_model(small_config())
    assert plain(ids).keys() == ["logits", "past_key_values"]


@torch.no_grad()
def test_a_tuple_holds_the_same_in_the_same_order() -> None:
    config = small_config(multi_query=False, add_cross_attention=True)
    model = wide_model(config, "auto")
    ids = random_ids(config, BATCH, TIME)
    options = {
        "encoder_hidden_states": random_states(config, BATCH, 3),
        "output_attentions": True,
        "output_hidden_states": True,
    }
    names = ["past_key_values", "hidden_states", "attentions", "cross_attentions"]
    cases: list[tuple[nn.Module, dict[str, Any], list[str]]] = [
        (model.transformer, {}, ["last_hidden_state"]),
        (model, {}, ["logits"]),
        (model, {"labels": ids}, ["loss", "logits"]),
    ]
    for part, more, heads in cases:
        record = part(ids, **options, **more)
        values = part(ids, **options, **more, return_dict=False)
        assert type(values) is tuple
        assert record.keys() == [*heads, *names]
        for name, value in zip(record.keys(), values, strict=True):
            told = record[name]
            if isinstance(value, KVCache):
                assert value.lengths == told.lengths
            elif isinstance(value, Tensor):
                assert torch.equal(value, told)
            else:
                assert all(torch.equal(*pair) for pair in zip(value, told, strict=True))


def test_the_loss_is_of_each_next_token() -> None:
    model = wide_model(small_config())
    ids = random_ids(model.config, BATCH, TIME)
    labels = ids.clone()
    labels[0, :4] = -100
    output = model(ids, labels=labels)
    spread = output.logits.double().log_softmax(-1)
    terms = [
        -spread[row, at - 1, ids[row, at]]
        for row in range(BATCH)
        for at in range(1, TIME)
        if labels[row, at] != -100
    ]
    assert len(terms) == 7
    assert output.loss.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-6)
    assert output.loss.dtype == torch.float32
    assert model.bfloat16()(ids, labels=labels).loss.dtype == torch.float32
    assert torch.equal(causal_lm_loss(output.logits, labels), output.loss)


@pytest.mark.parametrize("asked", [{"output_attentions": True}, {"head_mask": torch.ones(4)}])
@torch.no_grad()
def test_what_sdpa_cannot_do_eager_does_with_one_warning(asked: dict[str, Any]) -> None:
    config = small_config()
    ids = random_ids(config, BATCH, TIME)
    expected = wide_model(config, "eager")(ids, **asked)
    for _ in range(2):
        model = wide_model(config, "sdpa")
        told = "sdpa knows no head_mask and no attentions: eager does this pass"
        with pytest.warns(BigcodeWarning, match=told):
            first = model(ids, **asked)
        second = model(ids, **asked)
        third = model(ids, output_attentions=True, head_mask=torch.ones(4))
        for output in (first, second, third):
            assert torch.equal(output.logits, expected.logits)
    silent = wide_model(config, "auto")(ids, **asked)
    assert torch.equal(silent.logits, expected.logits)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("input_ids", torch.zeros(6).long(), "input_ids is of shape (any, any), not (6,)"),
        ("input_ids", torch.zeros(0, 6).long(), "input_ids is of shape (any, any), not (0, 6)"),
        ("input_ids", torch.zeros(2, 0).long(), "input_ids is of shape (any, any), not (2, 0)"),
        (
            "inputs_embeds",
            torch.zeros(2, 6, 31),
            "inputs_embeds is of shape (any, any, 32), not (2, 6, 31)",
        ),
        (
            "inputs_embeds",
            torch.zeros(2, 6),
            "inputs_embeds is of shape (any, any, 32), not (2, 6)",
        ),
        (
            "token_type_ids",
            torch.zeros(2, 5).long(),
            "token_type_ids is of shape (2, 6), not (2, 5)",
        ),
        (
            "token_type_ids",
            torch.zeros(3, 6).long(),
            "token_type_ids is of shape (2, 6), not (3, 6)",
        ),
        (
            "position_ids",
            torch.zeros(2, 1).long(),
            "position_ids is of shape (2, 6), not (2, 1)",
        ),
        (
            "position_ids",
            torch.zeros(1, 5).long(),
            "position_ids is of shape (1, 6), not (1, 5)",
        ),
        ("position_ids", torch.zeros(6).long(), "position_ids is of shape (2, 6), not (6,)"),
        (
            "cache_position",
            torch.zeros(5).long(),
            "cache_position is of shape (6), not (5,)",
        ),
        (
            "cache_position",
            torch.zeros(1, 6).long(),
            "cache_position is of shape (6), not (1, 6)",
        ),
        ("head_mask", torch.zeros(3), "head_mask is of shape (4), not (3,)"),
        ("head_mask", torch.zeros(2, 4), "head_mask is of shape (3, 4), not (2, 4)"),
        ("head_mask", torch.zeros(3, 4, 1), "head_mask is of shape (3, 4), not (3, 4, 1)"),
        ("labels", torch.zeros(2, 5).long(), "labels is of shape (2, 6), not (2, 5)"),
        ("labels", torch.zeros(12).long(), "labels is of shape (2, 6), not (12,)"),
    ],
)
@torch.no_grad()
def test_an_argument_of_a_wrong_shape_is_refused(name: str, value: Tensor, told: str) -> None:
    config = small_config()
    given = {} if name == "inputs_embeds" else {"input_ids": random_ids(config, BATCH, TIME)}
    with pytest.raises(UsageError) as caught:
        wide_model(config)(**(given | {name: value}))
    assert caught.value.message == told


@torch.no_grad()
def test_a_refused_pass_leaves_the_cache_alone() -> None:
    model = wide_model(small_config())
    ids = random_ids(model.config, BATCH, TIME)
    cache = model(ids).past_key_values
    bad: list[dict[str, Any]] = [
        {"position_ids": torch.zeros(3, 6).long()},
        {"token_type_ids": torch.zeros(2, 1).long()},
        {"attention_mask": torch.ones(2, 6)},
        {"head_mask": torch.ones(3)},
        {"input_ids": random_ids(model.config, BATCH, 43)},
    ]
    for options in bad:
        with pytest.raises(UsageError):
            model(**({"input_ids": ids, "past_key_values": cache} | options))
        assert cache.lengths == [TIME, TIME]


def test_gradient_checkpointing_changes_nothing_but_memory() -> None:
    model = wide_model(small_config(resid_pdrop=0.2, embd_pdrop=0.2, attn_pdrop=0.2)).train()
    ids = random_ids(model.config, BATCH, TIME)
    told = []
    for checkpointing in (False, True):
        model.transformer.gradient_checkpointing = checkpointing
        torch.manual_seed(0)
        output = model(ids, labels=ids)
        assert (output.past_key_values is None) == checkpointing
        told.append(torch.autograd.grad(output.loss, list(model.parameters())))
    assert all(torch.equal(*pair) for pair in zip(*told, strict=True))
    with pytest.warns(BigcodeWarning, match="gradient checkpointing .* keeps no cache"):
        model(ids, use_cache=True)
    assert model(ids, use_cache=True).past_key_values is None


@torch.no_grad()
def test_without_gradients_checkpointing_stands_in_the_way_of_no_cache() -> None:
    model = wide_model(small_config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
    ids = random_ids(model.config, BATCH, TIME)
    expected = model.generate(ids, max_new_tokens=5)
    model.transformer.gradient_checkpointing = True
    assert torch.equal(model.train().generate(ids, max_new_tokens=5), expected)
