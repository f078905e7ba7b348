from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bigcode_cli.model.bias_correction import draw_ids
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model, save_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.quantize import QuantizedLinear, quantize_int4, quantize_int8
from tests.model.models import small_config, wide_model

LAYERS = "transformer.h."


def load(folder: Path) -> GPTBigCodeForCausalLM:
    return load_model(
        GPTBigCodeForCausalLM,
        folder,
        device="cpu",
        dtype=torch.float32,
        quantize="int4",
    )


def means(model: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    """The mean of what each linear layer gives, over all tokens."""
    found: dict[str, Tensor] = {}

    def note(name: str, output: Tensor) -> None:
        found[name] = output.flatten(0, 1).mean(dim=0)

    hooks = [
        module.register_forward_hook(lambda _m, _i, output, name=name: note(name, output))
        for name, module in model.named_modules()
        if name.startswith(LAYERS) and isinstance(module, nn.Linear | QuantizedLinear)
    ]
    with torch.no_grad():
        model(ids)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("changes", [{}, {"multi_query": False}, {"n_positions": 5}])
def test_outputs_have_the_means_of_the_exact_ones(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    config = small_config(**changes)
    model = wide_model(config)
    save_model(model, config, tmp_path, "float32")
    ids = draw_ids(config)
    wanted, found = means(model, ids), means(load(tmp_path), ids)
    assert len(found) == 4 * config.n_layer
    # The embedding is int8 for both passes of the correction, but exact in the model.
    for name, mean in found.items():
        torch.testing.assert_close(mean, wanted[name], rtol=0.02, atol=0.02)


def test_codes_and_factors_are_those_of_the_weights_alone(tmp_path: Path) -> None:
    config = small_config()
    model = wide_model(config)
    save_model(model, config, tmp_path, "float32")
    loaded = load(tmp_path)
    bits = []
    for name, module in loaded.named_modules():
        if not name.startswith(LAYERS) or not isinstance(module, QuantizedLinear):
            continue
        is_four = module.weight.dtype == torch.uint8
        bits.append((name.split(".")[2] != "0" and ".mlp." in name, is_four))
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        codes, scale = (quantize_int4 if is_four else quantize_int8)(weight.detach())
        assert torch.equal(module.weight, codes)
        assert torch.equal(module.weight_scale, scale)
    assert len(bits) == 4 * config.n_layer
    assert all(wanted == found for wanted, found in bits)


def test_loading_again_gives_the_same_biases(tmp_path: Path) -> None:
    config = small_config()
    save_model(wide_model(config), config, tmp_path, "float32")
    first, second = load(tmp_path).state_dict(), load(tmp_path).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("vocab", [1, 61, 49_152])
def test_drawn_tokens_are_tokens_and_frequent_ones_come_first(vocab: int) -> None:
    config = GPTBigCodeConfig(vocab_size=vocab, n_positions=100, n_embd=8, n_layer=1, n_head=1)
    ids = draw_ids(config)
    assert ids.shape == (4, 64)
    assert torch.equal(ids, draw_ids(config))
    assert 0 <= int(ids.min()) <= int(ids.max()) < vocab
    if vocab > 1000:
        assert int(ids.median()) < vocab / 4
