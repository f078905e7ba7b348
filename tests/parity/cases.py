"""The numbers of a case: its configuration, its inputs pass by pass, and what of them is real.

All come from Python's Mersenne Twister, which gives the same bytes everywhere, so that a case is
its seed and its number alone.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.model.golden_cases import draw_weights
from tests.parity.draws import Draw
from tests.parity.labels import draw_labels
from tests.parity.plans import Plan, make_plan

LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class Step:
    """One forward pass.

    Attributes:
        arguments: by name, ``past_key_values`` left out.
        real: bool ``(batch, time)``; false at padding.
    """

    arguments: dict[str, Any]
    real: Tensor


@dataclass(frozen=True)
class Case:
    """What both sides run.

    Attributes:
        config: keys of a ``config.json``.
        past: for each layer keys and values ``(batch, kv_heads, slots, 2 * head_dim)``, keys first.
        real_slots: bool ``(batch, slots)``, at the end.
        capacity: of the cache, where it is made by hand.
    """

    plan: Plan
    config: dict[str, Any]
    steps: tuple[Step, ...]
    past: tuple[Tensor, ...]
    real_slots: Tensor
    capacity: int

    def weights(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """A wide state dictionary; a tied head gets the embedding's numbers."""
        weights = draw_weights(1000 + 10_000 * self.plan.seed + self.plan.number, shapes)
        if "lm_head.weight" in weights and self.config["tie_word_embeddings"]:
            weights["lm_head.weight"] = weights["transformer.wte.weight"].clone()
        return weights


def draw_case(seed: int, number: int) -> Case:
    """Case ``number`` of a suite."""
    plan = make_plan(seed, number)
    draw = Draw(f"{plan.draw_key} numbers")
    config = _draw_config(plan, draw)
    kept = _draw_kept(plan, draw)
    steps = tuple(_draw_step(plan, draw, config, kept, step) for step in range(len(plan.sizes)))
    kv_heads = 1 if plan.multi_query else config["n_head"]
    shape = (plan.batch, kv_heads, plan.past, 2 * (config["n_embd"] // config["n_head"]))
    past = [draw.reals(shape, 2.0) for _ in range(config["n_layer"])] if plan.past else []
    return Case(plan, config, steps, tuple(past), kept, draw.randrange(1, plan.slots + 1))


def _draw_config(plan: Plan, draw: Draw) -> dict[str, Any]:
    heads = draw.choice((1, 2, 3, 4, 6, 8))
    # Narrower ones are so ill-conditioned, deep and unscaled, that rounding alone fails them.
    width = heads * draw.choice([size for size in (4, 6, 8, 10, 16, 20) if size * heads >= 16])
    vocabulary = draw.choice((53, 67, 84, 97, 101))
    problem, several, _ = plan.problem
    one_row = plan.batch == 1 and plan.mask != "right"
    pad = None if one_row and draw.random() < 0.7 else draw.randrange(vocabulary)
    # In evaluation a dropout of any probability is none.
    drop = [0.0] * 3 if plan.course == "train" else [draw.choice((0.0, 0.1, 0.5)) for _ in range(3)]
    config = {
        "model_type": "gpt_bigcode",
        "vocab_size": vocabulary,
        "n_positions": draw.choice((24, 31, 48)),
        "n_embd": width,
        "n_layer": draw.choice((1, 2, 3, 4)),
        "n_head": heads,
        "n_inner": draw.choice((None, 2 * width + 3, 5 * width)),
        "activation_function": plan.activation,
        "resid_pdrop": drop[0],
        "embd_pdrop": drop[1],
        "attn_pdrop": drop[2],
        "layer_norm_epsilon": draw.choice((1e-5, 1e-3, 0.1)),
        "use_cache": plan.cached_by_config,
        "multi_query": plan.multi_query,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": pad,
        **plan.flags,
    }
    if plan.by_config:
        config |= {name: wish for name, wish in _wishes(plan).items() if wish is not None}
    if plan.kind == "sequence":
        config["num_labels"] = draw.randrange(2, 6) if several else 1
        config["problem_type"] = problem
    if plan.kind == "token":
        config["num_labels"] = draw.randrange(2, 8)
        config["classifier_dropout"] = 0.0 if plan.course == "train" else draw.choice((None, 0.3))
    return config


def _draw_kept(plan: Plan, draw: Draw) -> Tensor:
    """The 2-D mask of all slots, bool ``(batch, slots)``: padding is false."""
    kept = torch.ones(plan.batch, plan.slots, dtype=torch.bool)
    start, size = plan.past, plan.sizes[0]
    for row in range(plan.batch):
        # The first row is always padded; every row keeps two tokens of its first pass at least.
        count = draw.randrange(row == 0, 4)
        if plan.mask == "left":
            kept[row, :count] = False
        elif plan.mask == "right":
            kept[row, start + size - min(count, size - 2) : start + size] = False
    return kept


def _draw_step(plan: Plan, draw: Draw, config: dict[str, Any], all_kept: Tensor, step: int) -> Step:
    start, time = plan.starts[step], plan.sizes[step]
    end = start + time
    kept = all_kept[:, :end]
    real = kept[:, start:]
    arguments: dict[str, Any] = {}
    ids = _draw_ids(plan, draw, config, real, is_first=step == 0)
    if plan.embeds:
        arguments["inputs_embeds"] = draw.reals((plan.batch, time, config["n_embd"]), 1.2)
    else:
        arguments["input_ids"] = ids
    arguments["attention_mask"] = _draw_mask(plan, draw, config["n_head"], kept, start)
    if plan.token_types:
        arguments["token_type_ids"] = draw.integers((plan.batch, time), config["vocab_size"])
    arguments["position_ids"] = _draw_positions(plan, draw, config["n_positions"], kept, start)
    arguments["head_mask"] = _draw_head_mask(plan, config)
    if plan.labels:
        arguments["labels"] = draw_labels(plan, draw, config, real)
    arguments["use_cache"] = plan.use_cache
    if not plan.by_config:
        arguments |= _wishes(plan)
    if plan.cache_position != "default":
        arguments["cache_position"] = torch.arange(start, end) + plan.shift
    given = {name: value for name, value in arguments.items() if value is not None}
    return Step(given, real)


def _wishes(plan: Plan) -> dict[str, bool | None]:
    """What outputs are asked for, by arguments or by the configuration."""
    return {
        "output_attentions": plan.attentions,
        "output_hidden_states": plan.hidden_states,
        "return_dict": plan.return_dict,
    }


def _draw_ids(
    plan: Plan, draw: Draw, config: dict[str, Any], real: Tensor, *, is_first: bool
) -> Tensor:
    """Ids ``(batch, time)``; a sequence classifier's are the padding token at padding alone."""
    vocabulary, pad = config["vocab_size"], config["pad_token_id"]
    if plan.kind != "sequence" or pad is None:
        return draw.integers(real.shape, vocabulary)
    ids = (pad + 1 + draw.integers(real.shape, vocabulary - 1)) % vocabulary
    if is_first and plan.mask not in {"left", "right"}:
        # No mask tells padding, so that the padding token does, which may stand inside too.
        real = real.clone()
        real[0, -2:] = False
        real[-1, 1] = False
    return torch.where(real, ids, pad)


def _draw_mask(plan: Plan, draw: Draw, heads: int, kept: Tensor, start: int) -> Tensor | None:
    end = kept.shape[1]
    if plan.mask == "none":
        return None
    if plan.mask in {"left", "right"}:
        # Whatever is not zero keeps.
        one = random.Random(plan.draw_key).choice((True, 1, 3, 0.5))
        return kept * torch.tensor(one)
    rows, columns = draw.choice((1, plan.batch)), draw.choice((1, heads))
    seen = draw.chances((rows, columns, end - start, end), 0.7)
    causal = torch.ones(end, end, dtype=torch.bool).tril()[start:]
    if draw.random() < 0.5:
        seen &= causal
    seen |= torch.eye(end, dtype=torch.bool)[start:]
    if plan.mask == "4-D boolean":
        return seen
    hidden = draw.choice((LOWEST, -math.inf, -7.0))
    return draw.reals(seen.shape, 3.0).masked_fill(~seen, hidden)


def _draw_positions(
    plan: Plan, draw: Draw, n_positions: int, kept: Tensor, start: int
) -> Tensor | None:
    """Positions ``(batch or 1, time)``, or ``None`` for the default."""
    end = kept.shape[1]
    if plan.positions == "default":
        return None
    if plan.positions == "by mask":
        return (kept.cumsum(dim=1) - 1).clamp(min=0)[:, start:]
    if plan.positions == "free":
        return draw.integers((plan.batch, end - start), n_positions)
    twister = random.Random(plan.draw_key)
    rows = twister.choice((1, plan.batch))
    offsets = [twister.randrange(n_positions - plan.slots + 1) for _ in range(rows)]
    return torch.tensor(offsets)[:, None] + torch.arange(start, end)


def _draw_head_mask(plan: Plan, config: dict[str, Any]) -> Tensor | None:
    """Factors of the heads, the same in each pass; no layer is without any head."""
    if plan.head_mask == "none":
        return None
    draw = random.Random(f"{plan.draw_key} heads")
    layers, heads = config["n_layer"], config["n_head"]
    rows = layers if plan.head_mask == "by layer and head" else 1
    mask = torch.tensor(
        [
            [draw.choice((0.0, 1.0, draw.uniform(0.2, 1.6))) for _ in range(heads)]
            for _ in range(rows)
        ]
    )
    for row in mask:
        row[draw.randrange(heads)] = draw.choice((1.0, 0.5))
    return mask if plan.head_mask == "by layer and head" else mask[0]
