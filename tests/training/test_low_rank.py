"""Factors beside the matrices of a tiny model: trained, stored, merged as it is loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bigcode_cli.errors import ModelCorruptError, ModelUnsupportedError, UsageError
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model, save_difference, save_model
from bigcode_cli.model.shards import Storage
from bigcode_cli.model.tensor_index import read_tensor_index
from bigcode_cli.training.low_rank import (
    LowRankLinear,
    add_low_rank,
    low_rank_factors,
    merge_low_rank,
    round_factors,
)
from tests.model.models import random_ids, small_config, wide_model

torch.set_num_threads(1)

RANK = 3
QUERY = "transformer.h.1.attn.c_attn"


def load(folder: Path, base: Path | None = None, **changes: Any) -> GPTBigCodeForCausalLM:
    values: dict[str, Any] = {"device": "cpu", "dtype": torch.float32, **changes}
    return load_model(GPTBigCodeForCausalLM, folder, base=base, **values)


@pytest.fixture(params=["float32", "bfloat16", "int8"])
def base(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A whole model, however it is stored."""
    config = small_config()
    save_model(wide_model(config), config, tmp_path / "base", request.param)
    return tmp_path / "base"


def trained(base: Path, storage: Storage = "float32") -> GPTBigCodeForCausalLM:
    """The base with factors that a few steps have moved."""
    model = load(base)
    torch.manual_seed(0)
    add_low_rank(model, RANK)
    factors = [p for name, p in model.named_parameters() if name.endswith((".up", ".down"))]
    optimizer = torch.optim.Adam(factors, lr=0.05)
    ids = random_ids(model.config, 2, 9)
    for _ in range(3):
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    if storage == "bfloat16":
        round_factors(model, torch.bfloat16)
    return model


def save(model: GPTBigCodeForCausalLM, folder: Path, storage: Storage = "float32") -> Path:
    save_difference(low_rank_factors(model), model.config, type(model).__name__, folder, storage)
    return folder


def test_at_first_nothing_has_changed() -> None:
    model = wide_model(small_config())
    ids = random_ids(model.config, 2, 7)
    with torch.no_grad():
        before = model(ids).logits
        add_low_rank(model, RANK)
        assert torch.equal(model(ids).logits, before)


def test_only_matrices_of_the_named_layers_get_factors_and_are_frozen() -> None:
    model = wide_model(small_config())
    names = {name for name, _ in model.named_parameters()}
    add_low_rank(model, RANK, first_layer=2)
    inner = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    layers = {f"transformer.h.2.{name}" for name in inner}
    found = dict(model.named_parameters())
    assert found.keys() - names == {f"{at}.{half}" for at in layers for half in ("up", "down")}
    frozen = {name for name, parameter in found.items() if not parameter.requires_grad}
    assert frozen == {f"{at}.{kind}" for at in layers for kind in ("weight", "bias")}
    assert low_rank_factors(model).keys() == found.keys() - names


@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_loaded_weights_are_those_of_the_trained_model(
    base: Path, tmp_path: Path, storage: Storage
) -> None:
    model = trained(base, storage)
    ids = random_ids(model.config, 2, 9)
    with torch.no_grad():
        beside = model(ids).logits
    loaded = load(save(model, tmp_path / "part", storage), base)
    merge_low_rank(model)
    assert not any(isinstance(module, LowRankLinear) for module in model.modules())
    wanted, found = model.state_dict(), loaded.state_dict()
    assert wanted.keys() == found.keys() == load(base).state_dict().keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    with torch.no_grad():
        logits = loaded(ids).logits
        assert torch.equal(logits, model(ids).logits)
        assert torch.allclose(logits, beside, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(logits, load(base)(ids).logits, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_quantised_factors_are_those_of_the_merged_model(
    base: Path, tmp_path: Path, quantize: str
) -> None:
    model = trained(base)
    part = save(model, tmp_path / "part")
    merge_low_rank(model)
    save_model(model, model.config, tmp_path / "whole", "float32")
    wanted = load(tmp_path / "whole", quantize=quantize).state_dict()
    found = load(part, base, quantize=quantize).state_dict()
    inner = [name for name in wanted if ".h." in name]
    assert any(wanted[name].dtype in {torch.int8, torch.uint8} for name in inner)
    assert all(torch.equal(wanted[name], found[name]) for name in inner)


def test_factors_take_no_memory_once_they_are_merged(base: Path, tmp_path: Path) -> None:
    part = save(trained(base), tmp_path / "part")
    whole = read_tensor_index(base)
    index = read_tensor_index(part).over(whole)
    for how in (("float32", "none"), ("bfloat16", "int8")):
        assert index.weight_bytes(*how) == whole.weight_bytes(*how)


Change = Callable[[dict[str, Tensor]], object]
SPOILT: dict[str, Change] = {
    "half": lambda state: state.pop(f"{QUERY}.up"),
    "rank": lambda state: state.update({f"{QUERY}.up": torch.zeros(48, RANK + 1)}),
    "no rank": lambda state: state.update(
        {f"{QUERY}.up": torch.zeros(48, 0), f"{QUERY}.down": torch.zeros(0, 32)}
    ),
    "high rank": lambda state: state.update(
        {f"{QUERY}.up": torch.zeros(48, 33), f"{QUERY}.down": torch.zeros(33, 32)}
    ),
    "turned": lambda state: state.update(
        {f"{QUERY}.up": torch.zeros(RANK, 48), f"{QUERY}.down": torch.zeros(32, RANK)}
    ),
    "flat": lambda state: state.update(
        {f"{QUERY}.up": torch.zeros(48), f"{QUERY}.down": torch.zeros(32)}
    ),
    "scalar": lambda state: state.update({f"{QUERY}.down": torch.zeros(())}),
    "int8": lambda state: state.update({f"{QUERY}.down": torch.zeros(RANK, 32, dtype=torch.int8)}),
    "no layer": lambda state: state.update(
        {"transformer.h.3.attn.c_attn.up": torch.zeros(48, 1)}
        | {"transformer.h.3.attn.c_attn.down": torch.zeros(1, 32)}
    ),
    "embedding": lambda state: state.update(
        {"transformer.wte.up": torch.zeros(61, 1), "transformer.wte.down": torch.zeros(1, 32)}
    ),
    "norm": lambda state: state.update(
        {"transformer.ln_f.up": torch.zeros(32, 1), "transformer.ln_f.down": torch.zeros(1, 1)}
    ),
    "nothing": lambda state: state.update({".up": torch.zeros(1, 1), ".down": torch.zeros(1, 1)}),
    "whole too": lambda state: state.update({f"{QUERY}.weight": torch.zeros(48, 32)}),
    "infinite": lambda state: state[f"{QUERY}.up"].fill_(torch.inf),
    "infinite product": lambda state: [
        state[f"{QUERY}.{half}"].fill_(3e38) for half in ("up", "down")
    ],
}


@pytest.mark.parametrize("case", SPOILT)
@pytest.mark.parametrize("base", ["int8"], indirect=True)
def test_factors_that_do_not_fit_are_refused(base: Path, tmp_path: Path, case: str) -> None:
    part = save(trained(base), tmp_path / "part")
    state = load_file(part / "model.safetensors")
    SPOILT[case](state)
    save_file(state, part / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelCorruptError) as caught:
        load(part, base)
    assert "\n" not in caught.value.message
    assert ("stored whole and as two" in caught.value.message) == (case == "whole too")


@pytest.mark.parametrize("base", ["float32"], indirect=True)
def test_a_whole_model_has_no_factors(base: Path) -> None:
    file = base / "model.safetensors"
    state = load_file(file) | low_rank_factors(trained(base))
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(ModelUnsupportedError, match=r"GPTBigCode has no .*\.up"):
        load(base)


@pytest.mark.parametrize("rank", [0, -1, 33])
def test_a_rank_that_no_matrix_has_is_refused(rank: int) -> None:
    model = wide_model(small_config())
    with pytest.raises(UsageError, match="from 1 to 32"):
        add_low_rank(model, rank)
    assert not any(isinstance(module, LowRankLinear) for module in model.modules())
