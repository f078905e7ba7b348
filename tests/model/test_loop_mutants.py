"""Planted mistakes in masks and cross-attention: the comparison with the loops must see each."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from bigcode_cli.model import gpt_bigcode, masks
from bigcode_cli.model.attention import Visible
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.layers import GPTBigCodeAttention, GPTBigCodeBlock, Pass
from bigcode_cli.model.masks import CausalMask
from tests.model import cross_cases, mask_cases
from tests.model.cross_cases import MASKS
from tests.model.mask_cases import block_causal, in_chunks
from tests.model.models import random_ids, relative_difference
from tests.model.oracle_loops import HIDDEN, hiding, loop_weights, padded, run_loops

TOLERANCE = 1e-5
SEEDS = (0, 1, 2)

Plant = Callable[[pytest.MonkeyPatch], None]

real_attention = GPTBigCodeAttention.forward
real_of_encoder = GPTBigCodeAttention._of_encoder
real_build = GPTBigCodeAttention.__init__
real_self_visible = masks.self_visible


@cache
def expected_of_cross(mask: str, *, with_heads: bool) -> Tensor:
    model = cross_cases.wide_model()
    ids = random_ids(model.config, cross_cases.BATCH, cross_cases.TIME)
    encoder = cross_cases.encoder_states(model.config)
    more = {"head_mask": HEADS} if with_heads else {}
    return cross_cases.loops(model, ids, encoder, MASKS[mask], **more).hidden.detach()


HEADS = torch.tensor([[1.0, 0.0, 0.5, 1.0], [0.0, 1.0, 1.0, 2.0]])


@torch.no_grad()
def cross_differences() -> Iterator[float]:
    """One pass, steps, head masks and chosen rows, on models that have met another encoder."""
    model = cross_cases.wide_model("auto")
    ids = random_ids(model.config, cross_cases.BATCH, cross_cases.TIME)
    encoder = cross_cases.encoder_states(model.config)
    model.transformer(ids, encoder_hidden_states=encoder + 1)
    for name, mask in MASKS.items():
        for heads in (None, HEADS):
            expected = expected_of_cross(name, with_heads=heads is not None)
            given = {"encoder_attention_mask": mask, "head_mask": heads}
            output = model.transformer(ids, encoder_hidden_states=encoder, **given)
            yield relative_difference(output.last_hidden_state, expected)
        given = {"encoder_attention_mask": cross_cases.rows_of(mask, 0, 4)}
        cached = model.transformer(
            ids[:, :4], encoder_hidden_states=encoder, **given
        ).past_key_values
        cached.select([1, 0])
        rest = cross_cases.rows_of(mask, 4, cross_cases.TIME)
        hidden = model.transformer(
            ids[:, 4:].flip(0),
            past_key_values=cached,
            encoder_hidden_states=encoder.flip(0),
            encoder_attention_mask=None if rest is None else rest.flip(0),
        ).last_hidden_state
        expected = expected_of_cross(name, with_heads=False)
        yield relative_difference(hidden.flip(0), expected[:, 4:])


@cache
def expected_of_mask(seed: int, kind: str, rows: int, heads: int) -> tuple[Tensor | None, Tensor]:
    """A mask, and the hidden states with it."""
    case = mask_cases.draw(seed, "sdpa")
    slots = mask_cases.SLOTS
    mask, sees = None, torch.zeros(()).expand(1, 1, slots, slots)
    if kind == "2-D":
        mask, sees = case.mask, padded(case.mask)
    elif kind == "rows":
        sees = padded(torch.ones_like(case.mask))
    else:
        torch.manual_seed(seed)
        seen = (torch.rand(rows, heads, slots, slots) < 0.6) | torch.eye(slots, dtype=torch.bool)
        mask = block_causal(seen, case.chunks)
        sees = hiding(mask)
        if kind == "float":
            bias = torch.randn(seen.shape) * 2
            mask = sees = block_causal(bias.masked_fill(~seen, HIDDEN), case.chunks)
    weights = loop_weights(case.model)
    return mask, run_loops(weights, case.model.config, case.ids, sees).hidden.detach()


@torch.no_grad()
def mask_differences() -> Iterator[float]:
    """2-D masks, 4-D masks of each kind, and rows of different length, in chunks."""
    for seed in SEEDS:
        case = mask_cases.draw(seed, "sdpa")
        for kind, rows, heads in [
            ("2-D", 1, 1),
            ("boolean", mask_cases.BATCH, 1),
            ("boolean", 1, 3),
            ("float", mask_cases.BATCH, 3),
        ]:
            mask, expected = expected_of_mask(seed, kind, rows, heads)
            hidden = in_chunks(case.model, case.ids, mask, case.chunks)
            yield relative_difference(hidden, expected)
        yield from uneven_differences(seed)


def uneven_differences(seed: int) -> Iterator[float]:
    case = mask_cases.draw(seed, "sdpa")
    _, expected = expected_of_mask(seed, "rows", 1, 1)
    cached = case.model.transformer(case.ids[:, :5]).past_key_values
    lengths = [5, 2, 4]
    cached.crop(lengths)
    for _ in range(2):
        at = [slice(length, length + 1) for length in lengths]
        new = torch.stack([case.ids[row, place] for row, place in enumerate(at)])
        hidden = case.model.transformer(new, past_key_values=cached).last_hidden_state
        for row, place in enumerate(at):
            yield relative_difference(hidden[row], expected[row, place])
        lengths = [length + 1 for length in lengths]


def pass_of_cross(changed: Callable[[Pass, int], Pass]) -> Plant:
    """Cross-attention alone is handed another pass; the number is that of the queries."""

    def forward(
        self: GPTBigCodeAttention, hidden: Tensor, run: Pass
    ) -> tuple[Tensor, Tensor | None]:
        return real_attention(
            self, hidden, changed(run, hidden.shape[1]) if self.is_cross_attention else run
        )

    return lambda patch: patch.setattr(GPTBigCodeAttention, "forward", forward)


def encoder_mask(changed: Callable[[Tensor], Tensor]) -> Plant:
    def with_mask(run: Pass, _: int) -> Pass:
        mask = run.encoder_visible.mask
        if mask is None:
            return run
        return run._replace(encoder_visible=Visible(mask=changed(mask), is_plain=False))

    return pass_of_cross(with_mask)


def see_states_causally(run: Pass, time: int) -> Pass:
    seen = torch.ones(time, cross_cases.STATES, dtype=torch.bool).tril()
    return run._replace(encoder_visible=Visible(mask=seen[None, None], is_plain=False))


def see_all_states(run: Pass, _: int) -> Pass:
    return run._replace(encoder_visible=Visible(is_plain=False))


def invert(mask: Tensor) -> Tensor:
    return torch.where(mask == 0, torch.finfo(mask.dtype).min, 0.0)


def of_encoder(changed: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Plant:
    def made(self: GPTBigCodeAttention, run: Pass) -> tuple[Tensor, Tensor]:
        return changed(*real_of_encoder(self, run))

    return lambda patch: patch.setattr(GPTBigCodeAttention, "_of_encoder", made)


def all_keys_before_all_values(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """What ``c_attn`` gives, read as ``[all keys | all values]``."""
    batch, heads, time, size = keys.shape
    flat = torch.cat([keys, values], dim=-1).transpose(1, 2).reshape(batch, time, -1)
    blocks = flat.view(batch, time, 2, heads, size).permute(2, 0, 3, 1, 4)
    return blocks[0], blocks[1]


def keep_stale_keys(patch: pytest.MonkeyPatch) -> None:
    """Keys are kept beside the weights, not in the cache."""

    def made(self: GPTBigCodeAttention, run: Pass) -> tuple[Tensor, Tensor]:
        known = self.__dict__.get("known")
        if known is None:
            known = self.__dict__["known"] = real_of_encoder(self, run)
        return known[0], known[1]

    patch.setattr(GPTBigCodeAttention, "_of_encoder", made)


def block_forward(
    *, normed: bool = True, residual: bool = True, order: str = "self cross mlp"
) -> Plant:
    def forward(self: GPTBigCodeBlock, hidden: Tensor, run: Pass) -> tuple[Tensor, None, None]:
        for part in order.split():
            if part == "self":
                hidden = hidden + self.attn(self.ln_1(hidden), run)[0]
            elif part == "mlp":
                hidden = hidden + self.mlp(self.ln_2(hidden))
            elif run.with_cross_attention:
                given = self.ln_cross_attn(hidden) if normed else hidden
                attended = self.crossattention(given, run)[0]
                hidden = hidden + attended if residual else attended
        return hidden, None, None

    return lambda patch: patch.setattr(GPTBigCodeBlock, "forward", forward)


def norm_by_ln_2(patch: pytest.MonkeyPatch) -> None:
    def forward(self: GPTBigCodeBlock, hidden: Tensor, run: Pass) -> tuple[Tensor, None, None]:
        hidden = hidden + self.attn(self.ln_1(hidden), run)[0]
        hidden = hidden + self.crossattention(self.ln_2(hidden), run)[0]
        return hidden + self.mlp(self.ln_2(hidden)), None, None

    patch.setattr(GPTBigCodeBlock, "forward", forward)


def forget_scale(patch: pytest.MonkeyPatch) -> None:
    def build(self: GPTBigCodeAttention, *given: Any, **named: Any) -> None:
        real_build(self, *given, **named)
        if self.is_cross_attention:
            self.scaling = self.scaling._replace(scale=1.0)

    patch.setattr(GPTBigCodeAttention, "__init__", build)


def leave_encoder_rows(patch: pytest.MonkeyPatch) -> None:
    def select(self: KVCache, rows: list[int]) -> None:
        encoder = self.encoder
        real_select(self, rows)
        self.encoder = encoder

    real_select = KVCache.select
    patch.setattr(KVCache, "select", select)


CROSS_MUTANTS: dict[str, Plant] = {
    "states seen causally": pass_of_cross(see_states_causally),
    "encoder mask ignored": pass_of_cross(see_all_states),
    "encoder mask of row 0 for all rows": encoder_mask(lambda mask: mask[:1]),
    "encoder mask of query 0 for all queries": encoder_mask(lambda mask: mask[:, :, :1]),
    "encoder mask turned round": encoder_mask(invert),
    "encoder mask shifted": encoder_mask(lambda mask: mask.roll(1, dims=-1)),
    "head mask on self-attention alone": pass_of_cross(lambda run, _: run._replace(head_mask=None)),
    "key and value swapped": of_encoder(lambda keys, values: (values, keys)),
    "all keys before all values": of_encoder(all_keys_before_all_values),
    "heads in reverse": of_encoder(lambda keys, values: (keys.flip(1), values.flip(1))),
    "one head for all": of_encoder(lambda keys, values: (keys[:, :1], values[:, :1])),
    "keys of an earlier encoder": keep_stale_keys,
    "ln_cross_attn skipped": block_forward(normed=False),
    "ln_2 for ln_cross_attn": norm_by_ln_2,
    "residual lost": block_forward(residual=False),
    "before self-attention": block_forward(order="cross self mlp"),
    "behind the feed-forward": block_forward(order="self mlp cross"),
    "never done": block_forward(order="self mlp"),
    "not scaled": forget_scale,
    "encoder of another row after a choice": leave_encoder_rows,
}


def attention_mask(dimensions: int, changed: Callable[[Tensor], Tensor | None]) -> Plant:
    """Masks of so many dimensions are read as others."""

    def visible(kept: CausalMask, lengths: list[int], slots: Tensor, **named: Any) -> Visible:
        mask = named["attention_mask"]
        if mask is not None and mask.dim() == dimensions:
            named["attention_mask"] = changed(mask)
        return real_self_visible(kept, lengths, slots, **named)

    return lambda patch: patch.setattr(gpt_bigcode, "self_visible", visible)


def lengths_read(changed: Callable[[list[int]], list[int]]) -> Plant:
    def visible(kept: CausalMask, lengths: list[int], slots: Tensor, **named: Any) -> Visible:
        return real_self_visible(kept, changed(lengths), slots, **named)

    return lambda patch: patch.setattr(gpt_bigcode, "self_visible", visible)


def with_causal(mask: Tensor) -> Tensor:
    """A 4-D mask made causal."""
    time, slots = mask.shape[-2:]
    seen = torch.ones(time, slots, dtype=torch.bool).tril(slots - time)
    return mask & seen if mask.dtype == torch.bool else mask.masked_fill(~seen, HIDDEN)


def forget_the_order(patch: pytest.MonkeyPatch) -> None:
    def rows(_: CausalMask, past: int, time: int, __: torch.device) -> Tensor:
        return torch.ones(1, 1, time, past + time, dtype=torch.bool)

    patch.setattr(CausalMask, "rows", rows)


def hide_oneself(patch: pytest.MonkeyPatch) -> None:
    """A padded query does not see itself."""

    def visible(kept: CausalMask, lengths: list[int], slots: Tensor, **named: Any) -> Visible:
        told = real_self_visible(kept, lengths, slots, **named)
        given = named["attention_mask"]
        if given is None or given.dim() == 4 or told.mask is None:
            return told
        return told._replace(mask=told.mask & (given != 0)[:, None, None])

    patch.setattr(gpt_bigcode, "self_visible", visible)


def count_from_the_longest(patch: pytest.MonkeyPatch) -> None:
    def slots(self: KVCache, time: int) -> Tensor:
        return torch.arange(self.longest, self.longest + time).expand(self.batch, time)

    patch.setattr(KVCache, "slots", slots)


def crop_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KVCache, "crop", lambda *_: None)


MASK_MUTANTS: dict[str, Plant] = {
    "2-D mask ignored": attention_mask(2, lambda _: None),
    "2-D mask of row 0 for all rows": attention_mask(2, lambda mask: mask[:1]),
    "2-D mask turned round": attention_mask(2, lambda mask: mask == 0),
    "2-D mask shifted": attention_mask(2, lambda mask: mask.roll(1, dims=-1)),
    "2-D mask from the right": attention_mask(2, lambda mask: mask.flip(1)),
    "order lost beside a mask": forget_the_order,
    "padding does not see itself": hide_oneself,
    "4-D mask ignored": attention_mask(4, lambda _: None),
    "4-D mask made causal": attention_mask(4, with_causal),
    "4-D mask of row 0 for all rows": attention_mask(4, lambda mask: mask[:1]),
    "4-D mask of head 0 for all heads": attention_mask(4, lambda mask: mask[:, :1]),
    "4-D float mask read as boolean": attention_mask(4, lambda mask: mask != HIDDEN),
    "4-D mask of query 0 for all queries": attention_mask(4, lambda mask: mask[:, :, :1]),
    "rows seen up to the longest": lengths_read(lambda lengths: [max(lengths)] * len(lengths)),
    "rows written behind the longest": count_from_the_longest,
    "nothing cropped": crop_nothing,
}


@pytest.mark.parametrize("compare", [cross_differences, mask_differences])
def test_without_a_mistake_nothing_differs(compare: Callable[[], Iterator[float]]) -> None:
    assert max(compare()) < TOLERANCE


@pytest.mark.parametrize("name", CROSS_MUTANTS)
def test_a_mistake_in_cross_attention_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    CROSS_MUTANTS[name](monkeypatch)
    assert max(cross_differences()) > 100 * TOLERANCE


@pytest.mark.parametrize("name", MASK_MUTANTS)
def test_a_mistake_in_masks_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MASK_MUTANTS[name](monkeypatch)
    assert max(mask_differences()) > 100 * TOLERANCE
