import pytest
import torch

from bigcode_cli.errors import UsageError
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.quantize import QuantizedLinear
from bigcode_cli.model.random_weights import draw_model

CONFIG = GPTBigCodeConfig(
    vocab_size=300, n_positions=64, n_embd=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
)
NAME = "transformer.h.0.mlp.c_fc.weight"
CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
def test_every_weight_is_drawn_and_none_is_zero_throughout(dtype: torch.dtype, tied: bool) -> None:
    config = CONFIG.with_changes(tie_word_embeddings=tied)
    model = draw_model(config, device=CPU, dtype=dtype)
    assert not model.training
    weights = dict(model.named_parameters())
    assert {name: weight.shape for name, weight in weights.items()} == {
        name: weight.shape for name, weight in GPTBigCodeForCausalLM(config).named_parameters()
    }
    for name, weight in weights.items():
        assert weight.dtype == dtype
        drawn = weight.detach().float()
        assert drawn.std().item() == pytest.approx(0.02, rel=0.4), name
        is_norm = "ln_" in name and name.endswith("weight")
        assert drawn.mean().item() == pytest.approx(float(is_norm), abs=0.02), name
    assert (model.lm_head.weight is model.transformer.wte.weight) == tied


def test_the_same_numbers_are_drawn_each_time() -> None:
    first, second = (draw_model(CONFIG, device=CPU, dtype=torch.float32) for _ in range(2))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_tensors_of_one_shape_differ() -> None:
    model = draw_model(CONFIG, device=CPU, dtype=torch.float32)
    one, other = (model.get_parameter(NAME.replace("0", number)) for number in "01")
    assert not torch.equal(one, other)


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_quantised_weights_are_those_of_the_drawn_ones(quantize: str) -> None:
    exact = draw_model(CONFIG, device=CPU, dtype=torch.float32)
    rounded = draw_model(CONFIG, device=CPU, dtype=torch.float32, quantize=quantize)  # type: ignore[arg-type]
    linear = rounded.get_submodule(NAME.removesuffix(".weight"))
    assert isinstance(linear, QuantizedLinear)
    weight = exact.get_parameter(NAME)
    worst = (linear.dequantized(torch.float32) - weight).abs().max()
    assert 0 < worst < weight.abs().max() / (100 if quantize == "int8" else 10)


def test_attention_that_cannot_work_is_refused() -> None:
    with pytest.raises(UsageError):
        draw_model(CONFIG, device=CPU, dtype=torch.float32, attn_implementation="flash_attention_2")
