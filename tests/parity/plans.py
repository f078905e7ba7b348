"""What a case combines: choices alone, no tensors.

Every argument has a deck of levels for each model class. A deck is dealt out in rounds, shuffled
anew for each round, so that all levels come equally often whatever the seed; what does not go
together is then replaced by what does.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

Level = TypeVar("Level")

KINDS = ("model", "causal", "sequence", "token")
COURSES = (
    ("pass", "default"),
    ("pass", "shifted"),
    ("steps", "default"),
    ("steps", "given"),
    ("past", "default"),
    ("past", "shifted"),
    ("train", "default"),
    ("train", "given"),
)
"""One pass; a prompt, a chunk and single tokens over the cache; steps over a past that is given
as a legacy tuple; training mode with gradients. Beside it, what ``cache_position`` is, which the
classifiers do not take."""

ACTIVATIONS = (
    "gelu",
    "gelu_new",
    "gelu_pytorch_tanh",
    "gelu_fast",
    "relu",
    "silu",
    "tanh",
    "swish",
)

PROBLEMS: tuple[tuple[str | None, bool, str], ...] = (
    (None, False, "regression"),
    (None, True, "single_label_classification"),
    (None, True, "multi_label_classification"),
    ("regression", False, "regression"),
    ("regression", True, "regression"),
    ("single_label_classification", True, "single_label_classification"),
    ("single_label_classification", True, "single_label_classification"),
    ("multi_label_classification", True, "multi_label_classification"),
    ("multi_label_classification", False, "multi_label_classification"),
)
"""``problem_type``, whether there is more than one label, and the loss that they mean."""


@dataclass(kw_only=True)
class Plan:
    """The choices of one case; see the decks below for the levels."""

    seed: int
    number: int
    kind: str
    course: str
    mask: str
    embeds: bool
    token_types: bool
    positions: str
    head_mask: str
    attentions: bool | None
    hidden_states: bool | None
    return_dict: bool | None
    labels: bool
    use_cache: bool | None
    cache_position: str
    by_config: bool
    handed: bool
    pairs: bool
    positional: bool
    checkpointing: bool
    attention: str
    transfer: str
    batch: int
    problem: tuple[str | None, bool, str]
    activation: str
    multi_query: bool
    cached_by_config: bool
    shift: int = 0
    starts: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    past: int = 0
    flags: dict[str, bool] = field(default_factory=dict)

    @property
    def draw_key(self) -> str:
        """What the twister of this case is seeded with."""
        return f"parity {self.seed} {self.number}"

    @property
    def keeps_cache(self) -> bool:
        """Whether a pass that is given none makes a cache."""
        return self.cached_by_config if self.use_cache is None else self.use_cache

    @property
    def slots(self) -> int:
        """Slots in use at the end."""
        return self.past + sum(self.sizes)

    def arguments(self) -> list[str]:
        """What the report counts this case under."""
        named = {
            f"class {self.kind}": True,
            f"course {self.course}": True,
            f"attention_mask {self.mask}": True,
            "inputs_embeds": self.embeds,
            "token_type_ids": self.token_types,
            f"position_ids {self.positions}": True,
            f"head_mask {self.head_mask}": True,
            "output_attentions": self.attentions is True,
            "output_hidden_states": self.hidden_states is True,
            f"return_dict {self.return_dict}": True,
            "labels": self.labels,
            f"labels {self.problem[2]}": self.labels and self.kind == "sequence",
            f"use_cache {self.use_cache}": True,
            f"cache_position {self.cache_position}": True,
            "outputs asked for by the configuration": self.by_config,
            "past_key_values made by hand": self.handed,
            "past_key_values a legacy tuple, merged": self.past > 0 and not self.pairs,
            "past_key_values a legacy tuple of pairs": self.past > 0 and self.pairs,
            "arguments by place": self.positional,
            "gradient checkpointing": self.checkpointing,
            "gradient through the cache": self.course == "train" and len(self.sizes) > 1,
            f"weights by {self.transfer}": True,
            "multi_query": self.multi_query,
            "multi_head": not self.multi_query,
        }
        return [name for name, holds in named.items() if holds]


def make_plan(seed: int, number: int) -> Plan:
    """The choices of case ``number``."""
    index, kind_number = divmod(number, len(KINDS))
    kind = KINDS[kind_number]

    def deal(factor: str, levels: Sequence[Level]) -> Level:
        dealt, place = divmod(index, len(levels))
        twister = random.Random(f"plan {seed} {kind} {factor} {dealt}")
        return twister.sample(list(levels), len(levels))[place]

    both = (True, False)
    course, cache_position = deal("course", COURSES)
    plan = Plan(
        seed=seed,
        number=number,
        kind=kind,
        course=course,
        mask=deal("mask", ("none", "left", "right", "4-D float", "4-D boolean")),
        embeds=deal("embeds", (True, False, False)),
        token_types=deal("token_types", both),
        positions=deal("positions", ("default", "counted", "by mask", "free")),
        head_mask=deal("head_mask", ("none", "none", "by head", "by layer and head")),
        attentions=deal("attentions", (True, False, None)),
        hidden_states=deal("hidden_states", (True, True, False, None)),
        return_dict=deal("return_dict", (None, True, False)),
        labels=kind != "model" and deal("labels", (True, True, True, False)),
        use_cache=deal("use_cache", (None, True, False)),
        cache_position="default" if kind in {"sequence", "token"} else cache_position,
        by_config=deal("by_config", (True, False, False)),
        handed=deal("handed", both),
        pairs=deal("pairs", both),
        positional=deal("positional", (True, False, False)),
        checkpointing=deal("checkpointing", both),
        attention=deal("attention", ("sdpa", "auto")),
        transfer=deal("transfer", ("state_dict", "state_dict", "saved here", "saved there")),
        batch=deal("batch", (1, 2, 3)),
        problem=deal("problem", PROBLEMS),
        activation=deal("activation", ACTIVATIONS),
        multi_query=deal("multi_query", both),
        cached_by_config=deal("cached_by_config", (True, True, False)),
    )
    draw = random.Random(f"{plan.draw_key} plan")
    _settle_course(plan, draw)
    _settle_rest(plan, draw)
    return plan


def _settle_course(plan: Plan, draw: random.Random) -> None:
    """Which passes there are, and what their cache is."""
    prompt = draw.randrange(5, 9)
    if plan.course == "pass":
        plan.starts, plan.sizes = (0,), (draw.randrange(6, 13),)
    elif plan.course == "train":
        # Through the cache, or in one pass, half of those with checkpoints.
        plan.sizes = (prompt,) if plan.checkpointing or not plan.handed else (prompt, 4)
        plan.starts = (0, prompt)[: len(plan.sizes)]
    else:
        plan.past = draw.randrange(3, 7) if plan.course == "past" else 0
        plan.sizes = (4, 1, 1) if plan.past else (prompt, 3, 1, 1)
        plan.starts = tuple(plan.past + sum(plan.sizes[:step]) for step in range(len(plan.sizes)))
    plan.checkpointing = plan.checkpointing and plan.course == "train"
    if plan.checkpointing:
        plan.use_cache = False
    elif len(plan.sizes) > 1 and not plan.keeps_cache:
        plan.use_cache = True
    # The token classifier does not give its cache out, so that the caller has to make it.
    plan.handed = len(plan.sizes) > 1 and not plan.past and (plan.handed or plan.kind == "token")


def _settle_rest(plan: Plan, draw: random.Random) -> None:
    """What the oracle cannot do, or what would have no meaning."""
    if plan.kind == "sequence" and plan.embeds and plan.mask == "right":
        # Without ids it pools at the last place.
        plan.mask = "left"
    if plan.mask == "none" and not plan.keeps_cache:
        # It takes a break in the positions for the border of another sequence.
        if plan.positions == "free":
            plan.positions = "counted"
        if plan.cache_position == "shifted":
            plan.cache_position = "given"
    if plan.cache_position == "shifted":
        # Back, a padded query might see padding alone, of which each makes what it likes.
        is_back = plan.past and plan.mask not in {"left", "right"}
        plan.shift = draw.choice((-2, -1, 1, 2) if is_back else (1, 2))
    plan.flags = {
        "scale_attn_weights": draw.random() < 0.6,
        "attention_softmax_in_fp32": draw.random() < 0.7,
        "scale_attention_softmax_in_fp32": draw.random() < 0.7,
        "tie_word_embeddings": draw.random() < 0.6,
    }
