import inspect
import math
import warnings
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bigcode_cli.errors import BigcodeWarning, UsageError
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.gpt_bigcode import GPTBigCodeModel
from bigcode_cli.model.heads import (
    GPTBigCodeForSequenceClassification,
    GPTBigCodeForTokenClassification,
    last_real,
)
from bigcode_cli.model.masks import positions_of
from bigcode_cli.model.outputs import SequenceClassifierOutputWithPast, TokenClassifierOutput
from tests.model.models import random_ids, relative_difference, small_config, wide_of

HEADS = [GPTBigCodeForSequenceClassification, GPTBigCodeForTokenClassification]
Classifier = GPTBigCodeForSequenceClassification | GPTBigCodeForTokenClassification
NO_DROPOUT: dict[str, Any] = {
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "classifier_dropout": 0.0,
}
ARGUMENTS = [
    "input_ids",
    "past_key_values",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "head_mask",
    "inputs_embeds",
    "labels",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
]


@cache
def sequence_classifier(
    attention: str = "sdpa", **changes: object
) -> GPTBigCodeForSequenceClassification:
    config = small_config(n_layer=2, num_labels=3, **changes)
    return wide_of(GPTBigCodeForSequenceClassification, config, attention)


def by_loops(model: GPTBigCodeForSequenceClassification, hidden: Tensor, real: Tensor) -> Tensor:
    """The logits of the last real position of each row, found by walking it."""
    rows = []
    for row in range(hidden.shape[0]):
        last = 0
        for at in range(hidden.shape[1]):
            if real[row, at]:
                last = at
        rows.append(model.score.weight @ hidden[row, last])
    return torch.stack(rows)


@given(st.data())
@settings(deadline=None)
def test_the_last_real_token_is_found_under_any_mask(data: st.DataObject) -> None:
    batch, time = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
    row = st.lists(st.booleans(), min_size=time, max_size=time)
    real = torch.tensor(data.draw(st.lists(row, min_size=batch, max_size=batch)))
    hidden = torch.arange(batch * time).view(batch, time, 1)
    for at, kept in enumerate(real.tolist()):
        last = max([place for place in range(time) if kept[place]], default=0)
        assert last_real(hidden, real)[at].item() == hidden[at, last].item()
    assert torch.equal(last_real(hidden, None), hidden[:, -1])


@given(st.data())
@settings(deadline=None, max_examples=40)
@torch.no_grad()
def test_a_padded_row_gives_what_it_gives_alone(data: st.DataObject) -> None:
    """On either side, and whatever ids the padding has."""
    model = sequence_classifier(data.draw(st.sampled_from(["eager", "sdpa"])))
    time = data.draw(st.integers(1, 8))
    sizes = data.draw(st.lists(st.integers(1, time), min_size=1, max_size=4))
    kept = data.draw(st.sampled_from([1, True, 0.5]))
    mask = torch.full((len(sizes), time), type(kept)(0))
    for row, size in enumerate(sizes):
        start = data.draw(st.sampled_from([0, time - size]))
        mask[row, start : start + size] = kept
    ids = random_ids(model.config, len(sizes), time, seed=data.draw(st.integers(0, 99)))
    together = model(ids, attention_mask=mask, position_ids=positions_of(mask)).logits
    for row in range(len(sizes)):
        alone = model(ids[row : row + 1, mask[row] != 0]).logits
        assert relative_difference(together[row : row + 1], alone) < 1e-5


@given(st.data())
@settings(deadline=None, max_examples=40)
@torch.no_grad()
def test_without_a_mask_the_padding_is_told_by_its_id(data: st.DataObject) -> None:
    pad = 7
    model = sequence_classifier(pad_token_id=pad)
    batch, time = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 8))
    ids = random_ids(model.config, batch, time, seed=data.draw(st.integers(0, 99)))
    row = st.lists(st.booleans(), min_size=time, max_size=time)
    padding = torch.tensor(data.draw(st.lists(row, min_size=batch, max_size=batch)))
    ids = ids.masked_fill(ids == pad, pad + 1).masked_fill(padding, pad)
    output = model(ids, output_hidden_states=True)
    expected = by_loops(model, output.hidden_states[-1], ids != pad)
    assert relative_difference(output.logits, expected) < 1e-5


@torch.no_grad()
def test_a_real_end_of_text_is_no_padding_where_a_mask_says_so() -> None:
    model = sequence_classifier(pad_token_id=0)
    ids = random_ids(model.config, 2, 6)
    ids[:, 4:] = model.config.eos_token_id or 0
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]])
    output = model(ids, attention_mask=mask, output_hidden_states=True)
    hidden = output.hidden_states[-1]
    assert relative_difference(output.logits, by_loops(model, hidden, mask)) < 1e-5
    assert relative_difference(model(ids).logits, by_loops(model, hidden, ids != 0)) < 1e-5
    assert relative_difference(output.logits, model(ids).logits) > 1e-2


@torch.no_grad()
def test_of_a_mask_over_the_cache_too_the_new_columns_count() -> None:
    model = sequence_classifier()
    ids = random_ids(model.config, 3, 9)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 1], [1] * 9, [1] * 7 + [0, 0]])
    positions = positions_of(mask)
    whole = model(ids, attention_mask=mask, position_ids=positions)
    first = model(ids[:, :5], attention_mask=mask[:, :5], position_ids=positions[:, :5])
    then = model(
        ids[:, 5:],
        past_key_values=first.past_key_values,
        attention_mask=mask,
        position_ids=positions[:, 5:],
    )
    assert relative_difference(then.logits, whole.logits) < 1e-5
    assert then.past_key_values.lengths == [9, 9, 9]


@torch.no_grad()
def test_one_row_without_mask_and_padding_is_read_at_its_end() -> None:
    model = sequence_classifier()
    ids = random_ids(model.config, 1, 7)
    output = model(ids, output_hidden_states=True)
    expected = by_loops(model, output.hidden_states[-1], torch.ones(1, 7))
    assert relative_difference(output.logits, expected) < 1e-5


@torch.no_grad()
def test_several_rows_need_a_mask_or_a_padding_token() -> None:
    model = sequence_classifier()
    ids = random_ids(model.config, 2, 4)
    cache = KVCache.allocate(model.config, 2, 4, dtype=model.dtype, device=model.device)
    causal = torch.ones(4, 4, dtype=torch.bool).tril()[None, None]
    arguments: list[dict[str, Any]] = [
        {"input_ids": ids},
        {"inputs_embeds": model.transformer.wte(ids)},
        {"input_ids": ids, "attention_mask": causal},
    ]
    for given_here in arguments:
        with pytest.raises(UsageError, match="without a pad_token_id") as caught:
            model(**given_here, past_key_values=cache)
        assert "attention_mask" in (caught.value.hint or "")
    assert cache.lengths == [0, 0]
    model(ids, attention_mask=torch.ones(2, 4))


@torch.no_grad()
def test_a_four_dimensional_mask_leaves_it_to_the_padding_token() -> None:
    model = sequence_classifier(pad_token_id=7)
    ids = random_ids(model.config, 2, 5).masked_fill(torch.tensor([False] * 3 + [True] * 2), 7)
    causal = torch.ones(5, 5, dtype=torch.bool).tril()[None, None]
    difference = relative_difference(model(ids, attention_mask=causal).logits, model(ids).logits)
    assert difference < 1e-5


@torch.no_grad()
def test_embeddings_hide_padding_and_one_warning_says_so() -> None:
    model = sequence_classifier.__wrapped__(pad_token_id=7)
    ids = random_ids(model.config, 2, 5)
    ids[:, 3:] = 7
    embeddings = model.transformer.wte(ids)
    with pytest.warns(BigcodeWarning, match="inputs_embeds show no padding"):
        output = model(inputs_embeds=embeddings, output_hidden_states=True)
    expected = by_loops(model, output.hidden_states[-1], torch.ones(2, 5))
    assert relative_difference(output.logits, expected) < 1e-5
    model(inputs_embeds=embeddings)  # a second warning would be an error
    masked = model(inputs_embeds=embeddings, attention_mask=(ids != 7).long())
    assert relative_difference(masked.logits, model(ids).logits) < 1e-5


@torch.no_grad()
def test_tokens_are_classified_one_by_one() -> None:
    config = small_config(num_labels=5, classifier_dropout=0.5)
    model = wide_of(GPTBigCodeForTokenClassification, config)
    ids = random_ids(config, 2, 6)
    output = model(ids, output_hidden_states=True)
    assert output.logits.shape == (2, 6, 5)
    for row in range(2):
        for at in range(6):
            expected = model.classifier.weight @ output.hidden_states[-1][row, at]
            expected = expected + model.classifier.bias
            assert relative_difference(output.logits[row, at], expected) < 1e-5


@torch.no_grad()
def test_outputs_have_the_documented_names_and_order() -> None:
    ids = random_ids(small_config(), 1, 4)
    sequence: dict[str, Any] = {"labels": torch.tensor([1])}
    tokens: dict[str, Any] = {"labels": torch.ones(1, 4).long()}
    more: dict[str, Any] = {"output_attentions": True, "output_hidden_states": True}
    model = sequence_classifier("eager")
    output = model(ids, **sequence, **more)
    assert isinstance(output, SequenceClassifierOutputWithPast)
    names = ["loss", "logits", "past_key_values", "hidden_states", "attentions"]
    assert output.keys() == names
    told = model(ids, **sequence, **more, return_dict=False)
    assert isinstance(told, tuple)
    assert torch.equal(told[0], output["loss"])
    assert torch.equal(told[1], output["logits"])
    assert isinstance(told[2], KVCache)
    assert [len(told[3]), len(told[4])] == [3, 2]
    assert [type(part) for part in model(ids, return_dict=False)] == [Tensor, KVCache]
    assert model(ids, use_cache=False).keys() == ["logits"]

    other = wide_of(GPTBigCodeForTokenClassification, small_config(n_layer=2), "eager")
    result = other(ids, **tokens, **more, use_cache=True)
    assert isinstance(result, TokenClassifierOutput)
    assert result.keys() == ["loss", "logits", "hidden_states", "attentions"]
    told = other(ids, **tokens, **more, use_cache=True, return_dict=False)
    assert [len(part) for part in told[2:]] == [3, 2]
    assert torch.equal(told[1], result["logits"])
    settled = wide_of(GPTBigCodeForTokenClassification, small_config(return_dict=False))
    assert isinstance(settled(ids), tuple)


@torch.no_grad()
def test_a_cache_that_is_given_to_tokens_is_read_and_advanced() -> None:
    model = wide_of(GPTBigCodeForTokenClassification, small_config())
    ids = random_ids(model.config, 1, 8)
    cache = KVCache.allocate(model.config, 1, 8, dtype=model.dtype, device=model.device)
    parts = [model(ids[:, at], past_key_values=cache).logits for at in (slice(5), slice(5, 8))]
    assert cache.lengths == [8]
    assert relative_difference(torch.cat(parts, dim=1), model(ids).logits) < 1e-5


@pytest.mark.parametrize("head", HEADS)
def test_arguments_stand_in_the_documented_order_and_are_explained(head: type[Classifier]) -> None:
    parameters = inspect.signature(head.forward).parameters
    assert list(parameters) == ["self", *ARGUMENTS]
    assert all(parameters[name].default is None for name in ARGUMENTS)
    told = inspect.getdoc(head.forward) or ""
    for name in ARGUMENTS:
        assert f"\n    {name}" in told or f", {name}:" in told, name


@pytest.mark.parametrize("head", HEADS)
def test_nothing_waits_for_a_device(head: type[Classifier]) -> None:
    """On the meta device a number that is looked at is an error."""
    with torch.device("meta"):
        model = head(small_config(n_layer=1, num_labels=3, pad_token_id=0)).train()
        ids = torch.zeros(2, 6, dtype=torch.int64)
        labels = ids[:, 0] if head is GPTBigCodeForSequenceClassification else ids
        for mask in (None, torch.ones(2, 6)):
            output = model(ids, attention_mask=mask, labels=labels)
            assert output.loss.shape == ()
            torch.autograd.backward([output.loss])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("head", HEADS)
def test_half_precision_logits_have_a_float32_loss(
    head: type[Classifier], dtype: torch.dtype
) -> None:
    model = wide_of(head, small_config(n_layer=1, pad_token_id=0)).to(dtype)
    ids = random_ids(model.config, 2, 6)
    labels = torch.ones_like(ids)
    if head is GPTBigCodeForSequenceClassification:
        labels = labels[:, 0]
    output = model(ids, labels=labels)
    assert output.logits.dtype == dtype
    assert output.loss.dtype == torch.float32


def test_heads_are_drawn_like_the_rest() -> None:
    torch.manual_seed(0)
    config = small_config(n_embd=128, n_head=4, num_labels=64, initializer_range=0.03)
    score = GPTBigCodeForSequenceClassification(config).score
    classifier = GPTBigCodeForTokenClassification(config).classifier
    for head in (score, classifier):
        assert head.weight.shape == (64, 128)
        assert head.weight.std().item() == pytest.approx(0.03, rel=0.05)
        assert abs(head.weight.mean().item()) < 0.03 / 20
    assert score.bias is None
    assert classifier.bias is not None
    assert not classifier.bias.any()


@pytest.mark.parametrize("model_class", [GPTBigCodeForCausalLM, *HEADS])
def test_every_residual_projection_is_drawn_narrower(
    model_class: type[GPTBigCodeForCausalLM | Classifier],
) -> None:
    torch.manual_seed(0)
    config = small_config(
        n_embd=96, n_layer=8, multi_query=False, add_cross_attention=True, initializer_range=0.03
    )
    parameters = dict(model_class(config).named_parameters())
    for layer in range(8):
        for part in ("attn", "crossattention", "mlp"):
            weight = parameters[f"transformer.h.{layer}.{part}.c_proj.weight"]
            assert weight.std().item() == pytest.approx(0.03 / math.sqrt(16), rel=0.05), part
        for part in ("attn.c_attn", "crossattention.c_attn", "crossattention.q_attn", "mlp.c_fc"):
            weight = parameters[f"transformer.h.{layer}.{part}.weight"]
            assert weight.std().item() == pytest.approx(0.03, rel=0.05), part


def test_dropout_before_the_token_head_acts_in_training_alone() -> None:
    def dropout(**changes: object) -> float:
        return GPTBigCodeForTokenClassification(small_config(**changes)).dropout.p

    assert dropout() == 0.1
    assert dropout(classifier_dropout=0.3, extra={"hidden_dropout": 0.2}) == 0.3
    assert dropout(extra={"hidden_dropout": 0.2}) == 0.2
    config = small_config(**{**NO_DROPOUT, "classifier_dropout": 0.5})
    model = wide_of(GPTBigCodeForTokenClassification, config)
    ids = random_ids(config, 1, 8)
    settled = model(ids).logits
    assert torch.equal(model(ids).logits, settled)
    model.train()
    assert not torch.equal(model(ids).logits, settled)
    hidden = model.transformer(ids).last_hidden_state
    assert torch.equal(model.transformer(ids).last_hidden_state, hidden)


@pytest.mark.parametrize("head", HEADS)
def test_every_dropout_acts_in_training_alone(head: type[Classifier]) -> None:
    ids = random_ids(small_config(), 1, 8)
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        model = wide_of(head, small_config(n_layer=1, **{**NO_DROPOUT, name: 0.5}))
        settled = model(ids).logits
        assert torch.equal(model(ids).logits, settled)
        assert not torch.equal(model.train()(ids).logits, settled), name


def gradients_of(model: nn.Module, ids: Tensor, **arguments: object) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(3)  # the same dropout
    torch.autograd.backward([model(ids, **arguments).loss])
    named = model.named_parameters()
    return {name: value.grad.clone() for name, value in named if value.grad is not None}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("model_class", [GPTBigCodeForCausalLM, *HEADS])
def test_gradient_checkpointing_changes_no_gradient(
    model_class: type[GPTBigCodeForCausalLM | Classifier], dropout: float, attention: str
) -> None:
    rates = dict.fromkeys(NO_DROPOUT, dropout)
    model = wide_of(model_class, small_config(**rates, pad_token_id=0), attention).train()
    ids = random_ids(model.config, 3, 10)
    labels = ids % 2 if model_class is not GPTBigCodeForSequenceClassification else ids[:, 0] % 2
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    expected = gradients_of(model, ids, labels=labels, attention_mask=mask, use_cache=False)
    model.gradient_checkpointing_enable()
    actual = gradients_of(model, ids, labels=labels, attention_mask=mask)
    assert actual.keys() == expected.keys()
    assert len(actual) == len(list(model.parameters()))
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


def test_gradient_checkpointing_keeps_no_cache_and_warns_once_if_asked_to() -> None:
    model = wide_of(GPTBigCodeForSequenceClassification, small_config()).train()
    model.gradient_checkpointing_enable()
    ids = random_ids(model.config, 1, 5)
    assert "past_key_values" not in model(ids)
    with pytest.warns(BigcodeWarning, match="keeps no cache"):
        assert "past_key_values" not in model(ids, use_cache=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(ids, use_cache=True)
    assert "past_key_values" in model.eval()(ids)


def learn(model: nn.Module, steps: int = 30, **arguments: object) -> list[float]:
    """The losses while it is trained on one batch."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        loss = model(**arguments).loss
        optimiser.zero_grad()
        torch.autograd.backward([loss])
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("problem", "num_labels"),
    [
        ("regression", 1),
        ("regression", 2),
        ("single_label_classification", 3),
        ("multi_label_classification", 2),
    ],
)
def test_the_sequence_head_learns_every_problem(problem: str, num_labels: int) -> None:
    torch.manual_seed(0)
    model = GPTBigCodeForSequenceClassification(
        small_config(num_labels=num_labels, problem_type=problem, **NO_DROPOUT)
    ).train()
    ids = random_ids(model.config, 24, 6)
    mask = torch.ones_like(ids)
    mask[::2, 4:] = 0
    labels = ids[:, 2] % 3
    if problem != "single_label_classification":
        labels = torch.stack([(ids[:, 2] % 3 == at).float() for at in range(num_labels)], dim=1)
    losses = learn(model, input_ids=ids, attention_mask=mask, labels=labels)
    assert losses[-1] < 0.2 * losses[0], losses
    assert model.config.problem_type == problem


def test_the_token_head_learns() -> None:
    torch.manual_seed(0)
    model = GPTBigCodeForTokenClassification(small_config(num_labels=3, **NO_DROPOUT)).train()
    ids = random_ids(model.config, 16, 8)
    labels = ids.roll(1, dims=1) % 3  # of the token before
    labels[:, 0] = -100
    losses = learn(model, input_ids=ids, labels=labels, steps=50)
    assert losses[0] == pytest.approx(math.log(3), rel=0.05)
    assert losses[-1] < 0.2 * losses[0], losses


def test_a_choice_of_loss_leaves_the_configuration_as_it_was() -> None:
    model = sequence_classifier(pad_token_id=0)
    ids = random_ids(model.config, 2, 4)
    one = model(ids, labels=torch.tensor([0, 2])).loss
    many = model(ids, labels=torch.rand(2, 3)).loss
    assert model.config.problem_type is None
    assert not torch.equal(one, many)


def test_the_decoder_under_a_head_is_the_bare_model() -> None:
    config = small_config(num_labels=3)
    model = wide_of(GPTBigCodeForSequenceClassification, config)
    bare = GPTBigCodeModel(config).eval()
    bare.load_state_dict(model.transformer.state_dict())
    ids = random_ids(config, 1, 6)
    expected = bare(ids).last_hidden_state[:, -1] @ model.score.weight.T
    assert relative_difference(model(ids).logits, expected) < 1e-6
