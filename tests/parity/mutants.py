"""Planted mistakes in this package's side: the suite, and its golden share, must see each.

None touches torch itself, which the oracle shares.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional

from bigcode_cli.errors import BigcodeError
from bigcode_cli.model import gpt_bigcode, layers
from bigcode_cli.model.attention import Scaling, Visible, attention_weights
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.gpt_bigcode import GPTBigCodeModel
from bigcode_cli.model.heads import GPTBigCodeForTokenClassification
from bigcode_cli.model.layers import GPTBigCodeAttention, Pass
from bigcode_cli.model.masks import CausalMask, positions_of, self_visible
from bigcode_cli.model.outputs import BaseModelOutputWithPastAndCrossAttentions as Hidden
from bigcode_cli.model.outputs import ModelOutput
from tests.parity import ours
from tests.parity.cases import Case
from tests.parity.mutants_cache import CACHE_MUTANTS
from tests.parity.mutants_heads import HEAD_MUTANTS
from tests.parity.planting import Patch, Plant
from tests.parity.results import ARGUMENTS, Results

Judge = Callable[[Case, Results], str | None]
"""What is wrong with what this package made of a case, or ``None``."""


def hunt(name: str, cases: Iterable[Case], judge: Judge) -> int | None:
    """The number of the first case that sees a mistake, ``None`` if none does."""
    for case in cases:
        with planted(name):
            is_seen = _is_seen(case, judge)
        if is_seen and not _is_seen(case, judge):
            return case.plan.number
    return None


def _is_seen(case: Case, judge: Judge) -> bool:
    try:
        results = ours.run(case, ours.build(case, case.plan.attention))
        return judge(case, results) is not None
    except (BigcodeError, ValueError, RuntimeError, IndexError):
        return True


@contextmanager
def planted(name: str) -> Iterator[None]:
    """While a mistake is made."""
    with ExitStack() as stack:
        MUTANTS[name](lambda *place: stack.enter_context(mock.patch.object(*place)))
        yield


def change(name: str, changed: Callable[[Tensor, dict[str, Any]], Tensor | None]) -> Plant:
    """An argument is something else wherever it is given."""
    real = GPTBigCodeModel.forward

    def forward(self: GPTBigCodeModel, *placed: object, **named: object) -> object:
        given: dict[str, Any] = dict(zip(ARGUMENTS["model"], placed, strict=False)) | named
        value = given.get(name)
        if value is not None:
            given[name] = changed(value, given)
        return real(self, **given)

    return lambda patch: patch(GPTBigCodeModel, "forward", forward)


def change_mask(dimensions: int, changed: Callable[[Tensor], Tensor | None]) -> Plant:
    """Masks of so many dimensions are something else."""
    return change(
        "attention_mask",
        lambda mask, _: changed(mask) if mask.dim() == dimensions else mask,
    )


def make_causal(mask: Tensor) -> Tensor:
    time, slots = mask.shape[2:]
    future = torch.ones(time, slots, dtype=torch.bool).triu(slots - time + 1)
    return mask.masked_fill(future, False if mask.dtype == torch.bool else -1e9)


def count_real_tokens(mask: Tensor, given: dict[str, Any]) -> Tensor:
    """Positions by the mask where none are given."""
    tokens = given.get("input_ids")
    tokens = given["inputs_embeds"] if tokens is None else tokens
    if given.get("position_ids") is None and mask.dim() == 2:
        given["position_ids"] = positions_of(mask)[:, -tokens.shape[1] :]
    return mask


def take_cache_position_for_positions(slots: Tensor, given: dict[str, Any]) -> None:
    """They number the tokens, but the causal mask goes by the cache."""
    if given.get("position_ids") is None:
        given["position_ids"] = slots[None]


def mask_heads_before_softmax(patch: Patch) -> None:
    def weigh(
        query: Tensor,
        keys: Tensor,
        visible: Visible,
        scaling: Scaling,
        dropout: float = 0.0,
        head_mask: Tensor | None = None,
    ) -> Tensor:
        if head_mask is not None:
            query = query * head_mask[:, None, None]
        return attention_weights(query, keys, visible, scaling, dropout)

    patch(layers, "attention_weights", weigh)


def give_attentions_before_head_mask(patch: Patch) -> None:
    real = GPTBigCodeAttention.forward

    def forward(
        self: GPTBigCodeAttention, hidden: Tensor, run: Pass
    ) -> tuple[Tensor, Tensor | None]:
        _, weights = real(self, hidden, run._replace(head_mask=None))
        return real(self, hidden, run)[0], weights

    patch(GPTBigCodeAttention, "forward", forward)


def change_output(changed: Callable[[Hidden], None]) -> Plant:
    """What the layers give is something else."""
    real = GPTBigCodeModel._layers

    def run_layers(
        self: GPTBigCodeModel, hidden: Tensor, run: Pass, *, with_states: bool
    ) -> Hidden:
        output = real(self, hidden, run, with_states=with_states)
        changed(output)
        return output

    return lambda patch: patch(GPTBigCodeModel, "_layers", run_layers)


def forget_final_norm(patch: Patch) -> None:
    """The last of the hidden states is what goes into the norm."""
    real = GPTBigCodeModel._layers

    def run_layers(
        self: GPTBigCodeModel, hidden: Tensor, run: Pass, *, with_states: bool
    ) -> Hidden:
        seen: list[Tensor] = []
        hook = self.ln_f.register_forward_pre_hook(lambda _, given: seen.extend(given))
        output = real(self, hidden, run, with_states=with_states)
        hook.remove()
        if output.hidden_states is not None:
            output.hidden_states = (*output.hidden_states[:-1], *seen)
        return output

    patch(GPTBigCodeModel, "_layers", run_layers)


def forget_embeddings(output: Hidden) -> None:
    if output.hidden_states is not None:
        output.hidden_states = (*output.hidden_states[1:], output.last_hidden_state)


def turn_attentions(output: Hidden) -> None:
    if output.attentions is not None:
        output.attentions = output.attentions[::-1]


def swap_end_of_tuple(patch: Patch) -> None:
    real = ModelOutput.to_tuple

    def to_tuple(self: ModelOutput) -> tuple[Any, ...]:
        fields = real(self)
        return (*fields[:-2], *fields[:-3:-1])

    patch(ModelOutput, "to_tuple", to_tuple)


def align_chunks_to_the_top_left(patch: Patch) -> None:
    def see(kept: CausalMask, lengths: list[int], slots: Tensor, **rest: Any) -> Visible:
        is_chunk = slots.shape[1] > 1 and rest["attention_mask"] is None and rest["is_default"]
        return Visible(causal=True) if is_chunk else self_visible(kept, lengths, slots, **rest)

    patch(gpt_bigcode, "self_visible", see)


def cache_in_spite_of_the_configuration(patch: Patch) -> None:
    patch(GPTBigCodeModel, "_uses_cache", lambda _, asked: asked is not False)


class AlwaysDropping(nn.Dropout):
    """A dropout that evaluation does not turn off."""

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.dropout(hidden, self.p)


def drop_in_evaluation(owner: type[nn.Module], name: str) -> Plant:
    """One dropout of a model goes on in evaluation."""
    real = owner.__init__

    def build(self: nn.Module, config: GPTBigCodeConfig, *rest: Any) -> None:
        real(self, config, *rest)
        probability: Any = self.get_submodule(name).p
        setattr(self, name, AlwaysDropping(probability))

    return lambda patch: patch(owner, "__init__", build)


def tie(is_tied: bool) -> Plant:
    """The head is tied, or is not, whatever the configuration says."""
    real = GPTBigCodeForCausalLM.__init__

    def build(self: GPTBigCodeForCausalLM, *options: Any) -> None:
        real(self, *options)
        own = nn.Parameter(self.lm_head.weight.detach().clone())
        self.lm_head.weight = self.transformer.wte.weight if is_tied else own

    return lambda patch: patch(GPTBigCodeForCausalLM, "__init__", build)


MUTANTS: dict[str, Plant] = {
    "padding mask ignored": change_mask(2, lambda _: None),
    "padding mask read backwards": change_mask(2, lambda mask: mask.flip(1)),
    "4-D mask ignored": change_mask(4, lambda _: None),
    "4-D mask made causal": change_mask(4, make_causal),
    "4-D mask of the first head for all": change_mask(4, lambda mask: mask[:, :1]),
    "4-D mask of the first row for all": change_mask(4, lambda mask: mask[:1]),
    "4-D boolean mask inverted": change_mask(
        4, lambda mask: ~mask if mask.dtype == torch.bool else mask
    ),
    "4-D boolean mask added as numbers": change_mask(4, lambda mask: mask.float()),
    "4-D float mask taken for a boolean one": change_mask(4, lambda mask: mask > -1),
    "positions by mask instead of count": change("attention_mask", count_real_tokens),
    "position_ids ignored": change("position_ids", lambda *_: None),
    "position_ids of the first row for all": change("position_ids", lambda ids, _: ids[:1]),
    "token_type_ids ignored": change("token_type_ids", lambda *_: None),
    "cache_position ignored": change("cache_position", lambda *_: None),
    "cache_position ignored by the mask": change(
        "cache_position", take_cache_position_for_positions
    ),
    "inputs_embeds detached": change("inputs_embeds", lambda embeds, _: embeds.detach()),
    "head_mask ignored": change("head_mask", lambda *_: None),
    "head_mask rounded": change("head_mask", lambda mask, _: (mask > 0).float()),
    "head_mask of another layer": change("head_mask", lambda mask, _: mask.roll(1, dims=0)),
    "head_mask of the first layer for all": change(
        "head_mask", lambda mask, _: mask[0] if mask.dim() == 2 else mask
    ),
    "head_mask before the softmax": mask_heads_before_softmax,
    "attentions before the head mask": give_attentions_before_head_mask,
    "attentions of the last layer first": change_output(turn_attentions),
    "hidden_states without the final norm": forget_final_norm,
    "hidden_states without the embeddings": change_output(forget_embeddings),
    "tuple in another order": swap_end_of_tuple,
    "use_cache of the configuration ignored": cache_in_spite_of_the_configuration,
    "chunks aligned to the top left": align_chunks_to_the_top_left,
    "embeddings dropped out in evaluation": drop_in_evaluation(GPTBigCodeModel, "drop"),
    "states dropped out in evaluation": drop_in_evaluation(
        GPTBigCodeForTokenClassification, "dropout"
    ),
    "tied weight untied": tie(False),
    "own head tied": tie(True),
    **CACHE_MUTANTS,
    **HEAD_MUTANTS,
}
