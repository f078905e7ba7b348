import math
from typing import Any

import pytest
import torch

from bigcode_cli.errors import UsageError
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.layers import ACTIVATION_FUNCTIONS
from tests.model.golden import (
    TOLERANCE,
    Run,
    differences,
    golden_cases,
    with_cache,
    without_cache,
)
from tests.model.golden_cases import ACTIVATIONS
from tests.model.models import DEVICES, random_ids, relative_difference, small_config, wide_model


def test_golden_cases_cover_the_family() -> None:
    configs = [case.config for case in golden_cases()]
    seen = {(config.activation_function, config.multi_query) for config in configs}
    assert seen == {(name, many) for name in ACTIVATION_FUNCTIONS for many in (True, False)}
    assert set(ACTIVATIONS) == set(ACTIVATION_FUNCTIONS)
    assert {config.n_inner is None for config in configs} == {True, False}
    assert {config.scale_attn_weights for config in configs} == {True, False}
    assert {config.tie_word_embeddings for config in configs} == {True, False}
    assert any(config.vocab_size % 2 for config in configs)
    assert len(configs) >= 24
    assert all(case.logits.std() >= 1 for case in golden_cases())


@pytest.mark.parametrize("run", [without_cache, with_cache])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("device", DEVICES)
def test_logits_equal_the_oracle(device: str, attention: str, run: Run) -> None:
    assert max(differences(attention, run, device)) <= TOLERANCE


@torch.no_grad()
def test_positions_follow_from_zero_unless_given() -> None:
    for case in golden_cases()[::2]:
        model = wide_model(case.config, case=case.number)
        assert torch.equal(case.position_ids[0], torch.arange(case.input_ids.shape[1]))
        assert relative_difference(model(case.input_ids).logits, case.logits) <= TOLERANCE


@pytest.mark.parametrize("multi_query", [True, False])
def test_parameter_names_are_those_of_the_checkpoints(*, multi_query: bool) -> None:
    model = GPTBigCodeForCausalLM(small_config(n_layer=1, multi_query=multi_query))
    layer = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"]
    parts = [f"transformer.h.0.{name}" for name in layer] + ["transformer.ln_f"]
    expected = {f"{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    expected |= {"transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight"}
    assert set(model.state_dict()) == expected


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("multi_query", [True, False])
def test_the_configuration_knows_every_shape(*, multi_query: bool, tied: bool) -> None:
    config = small_config(multi_query=multi_query, tie_word_embeddings=tied, n_inner=77)
    model = GPTBigCodeForCausalLM(config)
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    assert config.tensor_shapes() == shapes
    assert list(config.tensor_shapes()) == list(shapes)
    assert config.parameter_count() == sum(value.numel() for value in model.parameters())


def test_initialisation_follows_the_family() -> None:
    torch.manual_seed(0)
    config = small_config(n_embd=128, n_layer=8, initializer_range=0.03)
    model = GPTBigCodeForCausalLM(config)
    for name, value in model.named_parameters():
        if name.endswith("bias"):
            assert not value.any()
        elif "ln_" in name:
            assert torch.equal(value, torch.ones_like(value))
        else:
            narrow = 1 / math.sqrt(2 * 8) if "c_proj" in name else 1.0
            assert value.std().item() == pytest.approx(0.03 * narrow, rel=0.05), name


def test_more_tokens_than_positions_are_refused() -> None:
    config = small_config(n_positions=8)
    with pytest.raises(UsageError, match="9 tokens exceed the model's 8 positions"):
        wide_model(config)(random_ids(config, 1, 9))


def test_unknown_attention_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown attention 'fast'"):
        GPTBigCodeForCausalLM(small_config(), "fast")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("device", DEVICES)
@torch.no_grad()
def test_half_precision_is_near_float32(device: str, attention: str, dtype: torch.dtype) -> None:
    for multi_query in (True, False):
        config = small_config(multi_query=multi_query)
        ids = random_ids(config, 2, 20)
        exact = wide_model(config, attention)(ids).logits
        near = wide_model(config, attention, device=device).to(dtype)(ids.to(device)).logits
        assert near.dtype == dtype
        assert relative_difference(near.float(), exact) < (0.01 if dtype == torch.float16 else 0.08)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
def test_no_gradient_flows_from_the_past_to_the_future(
    attention: str, *, multi_query: bool
) -> None:
    config = small_config(multi_query=multi_query)
    model = wide_model(config, attention)
    seen: list[torch.Tensor] = []
    model.transformer.drop.register_forward_hook(lambda *call: seen.append(call[2]))
    hidden = model.transformer(random_ids(config, 1, 10)).last_hidden_state
    (gradient,) = torch.autograd.grad(hidden[0, 4].sum(), seen[0])
    reached = gradient[0].abs().sum(dim=-1) > 0
    assert reached.tolist() == [True] * 5 + [False] * 5


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_dropout_acts_in_training_alone(attention: str) -> None:
    ids = random_ids(small_config(), 1, 12)
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        dropout: dict[str, object] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        dropout[name] = 0.5
        model = wide_model(small_config(**dropout), attention)
        settled = model(ids).logits
        assert torch.equal(settled, model(ids).logits)
        assert not torch.equal(model.train()(ids).logits, settled), name


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    config = small_config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    model = GPTBigCodeForCausalLM(config).train()
    ids = random_ids(config, 2, 16)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        loss = model(ids, labels=ids).loss
        optimiser.zero_grad()
        torch.autograd.backward([loss])
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(config.vocab_size), rel=0.05)
    assert losses[-1] < 0.5


# torch 2.11 itself still uses what it deprecates.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("options", ["loss", "padding", "step", "uneven step"])
def test_a_pass_is_one_graph(options: str, attention: str) -> None:
    model = wide_model(small_config(n_layer=2), attention)
    ids = random_ids(model.config, 2, 16)
    with torch.no_grad():
        cache = model(ids).past_key_values
    if options == "uneven step":
        cache.crop([9, 12])
    passes: dict[str, dict[str, Any]] = {
        "loss": {"input_ids": ids, "labels": ids, "use_cache": False},
        "padding": {"input_ids": ids, "attention_mask": torch.ones(2, 16), "use_cache": False},
        "step": {"input_ids": ids[:, :1], "past_key_values": cache},
    }
    torch._dynamo.reset()
    with torch.set_grad_enabled(options == "loss"):
        explained = torch._dynamo.explain(model)(**passes[options.removeprefix("uneven ")])
    assert explained.graph_break_count == 0
    assert explained.graph_count == 1
