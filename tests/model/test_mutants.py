"""Planted mistakes: the golden comparison must see each of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bigcode_cli.model import attention, layers
from bigcode_cli.model.attention import Scaling, Visible
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.gpt_bigcode import GPTBigCodeModel
from bigcode_cli.model.layers import GPTBigCodeAttention, GPTBigCodeBlock, GPTBigCodeMLP, Pass
from bigcode_cli.model.masks import CausalMask
from bigcode_cli.model.outputs import CausalLMOutputWithCrossAttentions
from tests.model.golden import TOLERANCE, Run, differences, with_cache, without_cache

Plant = Callable[[pytest.MonkeyPatch], None]

real_split = GPTBigCodeAttention.split
real_attention = GPTBigCodeAttention.__init__
real_forward = GPTBigCodeForCausalLM.forward
real_sdpa = attention.sdpa


def swap_activation(name: str, other: str) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        functions = layers.ACTIVATION_FUNCTIONS
        patch.setitem(functions, name, functions[other])

    return plant


def drop_bias(place: str) -> Plant:
    """The model as if one bias of its first layer were not there."""

    def forward(self: GPTBigCodeForCausalLM, ids: Tensor, **options: Any) -> Any:
        with torch.no_grad():
            self.transformer.h[0].get_parameter(place).zero_()
        return real_forward(self, ids, **options)

    return lambda patch: patch.setattr(GPTBigCodeForCausalLM, "forward", forward)


def scale_by(factor: Callable[[GPTBigCodeAttention], float]) -> Plant:
    def build(self: GPTBigCodeAttention, *arguments: Any, **options: Any) -> None:
        real_attention(self, *arguments, **options)
        self.scaling = self.scaling._replace(scale=factor(self))

    return lambda patch: patch.setattr(GPTBigCodeAttention, "__init__", build)


def swap_query_and_key(patch: pytest.MonkeyPatch) -> None:
    def split(self: GPTBigCodeAttention, projected: Tensor) -> tuple[Tensor, Tensor]:
        query, key_value = real_split(self, projected)
        key, value = key_value.chunk(2, dim=-1)
        if self.multi_query:
            return torch.cat([key, query[:, 1:]], dim=1), torch.cat([query[:, :1], value], dim=-1)
        return key, torch.cat([query, value], dim=-1)

    patch.setattr(GPTBigCodeAttention, "split", split)


def swap_key_and_value(patch: pytest.MonkeyPatch) -> None:
    def split(self: GPTBigCodeAttention, projected: Tensor) -> tuple[Tensor, Tensor]:
        query, key_value = real_split(self, projected)
        key, value = key_value.chunk(2, dim=-1)
        return query, torch.cat([value, key], dim=-1)

    patch.setattr(GPTBigCodeAttention, "split", split)


def read_multi_head_in_blocks(patch: pytest.MonkeyPatch) -> None:
    """[all queries | all keys | all values], as most other models have it."""

    def split(self: GPTBigCodeAttention, projected: Tensor) -> tuple[Tensor, Tensor]:
        if self.multi_query:
            return real_split(self, projected)
        batch, time, _ = projected.shape
        parts = projected.view(batch, time, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        return parts[0], torch.cat([parts[1], parts[2]], dim=-1)

    patch.setattr(GPTBigCodeAttention, "split", split)


def shift_positions(patch: pytest.MonkeyPatch) -> None:
    def forward(self: GPTBigCodeModel, ids: Tensor, **options: Any) -> Any:
        options["position_ids"] = (options["position_ids"] + 1) % self.config.n_positions
        return real_model_forward(self, ids, **options)

    real_model_forward = GPTBigCodeModel.forward
    patch.setattr(GPTBigCodeModel, "forward", forward)


def forget_final_norm(patch: pytest.MonkeyPatch) -> None:
    def build(self: GPTBigCodeForCausalLM, *options: object) -> None:
        real_build(self, *options)  # type: ignore[arg-type]
        self.transformer.ln_f = nn.Identity()  # type: ignore[assignment]

    real_build = GPTBigCodeForCausalLM.__init__
    patch.setattr(GPTBigCodeForCausalLM, "__init__", build)


def ignore_epsilon(patch: pytest.MonkeyPatch) -> None:
    def norm(self: nn.LayerNorm, hidden: Tensor) -> Tensor:
        return functional.layer_norm(hidden, self.normalized_shape, self.weight, self.bias, 1e-5)

    patch.setattr(nn.LayerNorm, "forward", norm)


def norm_after(patch: pytest.MonkeyPatch) -> None:
    def forward(self: GPTBigCodeBlock, hidden: Tensor, run: Pass) -> tuple[Tensor, None, None]:
        hidden = self.ln_1(hidden + self.attn(hidden, run)[0])
        return self.ln_2(hidden + self.mlp(hidden)), None, None

    patch.setattr(GPTBigCodeBlock, "forward", forward)


def parallel_branches(patch: pytest.MonkeyPatch) -> None:
    def forward(self: GPTBigCodeBlock, hidden: Tensor, run: Pass) -> tuple[Tensor, None, None]:
        attended, _ = self.attn(self.ln_1(hidden), run)
        return hidden + attended + self.mlp(self.ln_2(hidden)), None, None

    patch.setattr(GPTBigCodeBlock, "forward", forward)


def forget_activation(patch: pytest.MonkeyPatch) -> None:
    def forward(self: GPTBigCodeMLP, hidden: Tensor) -> Tensor:
        output: Tensor = self.c_proj(self.c_fc(hidden))
        return output

    patch.setattr(GPTBigCodeMLP, "forward", forward)


def tie_always(patch: pytest.MonkeyPatch) -> None:
    def forward(self: GPTBigCodeForCausalLM, ids: Tensor, **options: Any) -> Any:
        hidden = self.transformer(ids, **options).last_hidden_state
        logits = functional.linear(hidden, self.transformer.wte.weight)
        return CausalLMOutputWithCrossAttentions(logits=logits)

    patch.setattr(GPTBigCodeForCausalLM, "forward", forward)


def see_everything(patch: pytest.MonkeyPatch) -> None:
    def attend(query: Tensor, keys: Tensor, values: Tensor, *rest: object) -> Tensor:
        _, scaling, dropout = rest
        assert isinstance(scaling, Scaling)
        assert isinstance(dropout, float)
        return real_sdpa(query, keys, values, Visible(), scaling, dropout)

    patch.setitem(attention.ATTENTION, "sdpa", attend)


def see_not_oneself(patch: pytest.MonkeyPatch) -> None:
    """Each query but the first sees only the slots before its own."""

    def attend(query: Tensor, keys: Tensor, values: Tensor, *rest: object) -> Tensor:
        _, scaling, dropout = rest
        assert isinstance(scaling, Scaling)
        assert isinstance(dropout, float)
        mask = torch.ones(query.shape[2], keys.shape[2], dtype=torch.bool).tril(-1)
        mask[0, 0] = True
        return real_sdpa(query, keys, values, Visible(mask=mask[None, None]), scaling, dropout)

    patch.setitem(attention.ATTENTION, "sdpa", attend)


def align_chunks_to_the_top_left(patch: pytest.MonkeyPatch) -> None:
    def rows(_: CausalMask, past: int, time: int, __: torch.device) -> Tensor:
        return torch.ones(time, past + time, dtype=torch.bool).tril()[None, None]

    patch.setattr(CausalMask, "rows", rows)


def forget_the_past(patch: pytest.MonkeyPatch) -> None:
    def append(self: KVCache, layer: int, key_value: Tensor) -> tuple[Tensor, Tensor]:
        real_append(self, layer, key_value)
        keys, values = torch.zeros_like(self.layers[layer]), torch.zeros_like(self.layers[layer])
        longest = self.lengths[0] + key_value.shape[2]
        half = key_value.shape[-1] // 2
        start = longest - key_value.shape[2]
        keys[:, :, start:longest] = key_value
        values[:, :, start:longest] = key_value
        return keys[:, :, :longest, :half], values[:, :, :longest, half:]

    real_append = KVCache.append
    patch.setattr(KVCache, "append", append)


def write_one_slot_early(patch: pytest.MonkeyPatch) -> None:
    def append(self: KVCache, layer: int, key_value: Tensor) -> tuple[Tensor, Tensor]:
        held = self.lengths
        self.lengths = [max(length - 1, 0) for length in held]
        result = real_append(self, layer, key_value)
        self.lengths = held
        return result

    def rows(_: CausalMask, past: int, time: int, __: torch.device) -> Tensor:
        before = max(past - 1, 0)
        return torch.ones(time, before + time, dtype=torch.bool).tril(before)[None, None]

    real_append = KVCache.append
    patch.setattr(KVCache, "append", append)
    patch.setattr(CausalMask, "rows", rows)


MUTANTS: dict[str, Plant] = {
    "gelu by tanh": swap_activation("gelu", "gelu_pytorch_tanh"),
    "gelu_new by erf": swap_activation("gelu_new", "gelu"),
    "gelu_pytorch_tanh by erf": swap_activation("gelu_pytorch_tanh", "gelu"),
    "gelu_fast by erf": swap_activation("gelu_fast", "gelu"),
    "silu for relu": swap_activation("relu", "silu"),
    "gelu for silu": swap_activation("silu", "gelu"),
    "silu for tanh": swap_activation("tanh", "silu"),
    "no activation": forget_activation,
    "query and key swapped": swap_query_and_key,
    "key and value swapped": swap_key_and_value,
    "multi-head read in blocks": read_multi_head_in_blocks,
    "no bias in c_attn": drop_bias("attn.c_attn.bias"),
    "no bias in attention's c_proj": drop_bias("attn.c_proj.bias"),
    "no bias in c_fc": drop_bias("mlp.c_fc.bias"),
    "no bias in the feed-forward's c_proj": drop_bias("mlp.c_proj.bias"),
    "no bias in ln_1": drop_bias("ln_1.bias"),
    "no bias in ln_2": drop_bias("ln_2.bias"),
    "scaled by the whole width": scale_by(lambda module: (module.heads * module.head_dim) ** -0.5),
    "scaled by head_dim": scale_by(lambda module: 1 / module.head_dim),
    "scaled in spite of the flag": scale_by(lambda module: module.head_dim**-0.5),
    "never scaled": scale_by(lambda _: 1.0),
    "positions off by one": shift_positions,
    "no final norm": forget_final_norm,
    "epsilon ignored": ignore_epsilon,
    "norm after instead of before": norm_after,
    "branches in parallel": parallel_branches,
    "lm_head always tied": tie_always,
    "the future seen": see_everything,
    "the own slot not seen": see_not_oneself,
}
CACHE_MUTANTS: dict[str, Plant] = {
    "chunks aligned to the top left": align_chunks_to_the_top_left,
    "the past forgotten": forget_the_past,
    "written one slot early": write_one_slot_early,
}


def assert_seen(plant: Plant, run: Run) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        assert any(difference > 10 * TOLERANCE for difference in differences("sdpa", run))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_seen(name: str) -> None:
    assert_seen(MUTANTS[name], without_cache)


@pytest.mark.parametrize("name", CACHE_MUTANTS)
def test_a_mistake_in_the_cache_is_seen(name: str) -> None:
    assert_seen(CACHE_MUTANTS[name], with_cache)
