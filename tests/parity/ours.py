"""This package's side."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bigcode_cli
from bigcode_cli.errors import BigcodeWarning
from bigcode_cli.model.cache import KVCache, LegacyCache
from bigcode_cli.model.outputs import ModelOutput
from bigcode_cli.model.pretrained import GPTBigCodePreTrainedModel
from tests.parity.cases import Case
from tests.parity.plans import Plan
from tests.parity.results import (
    ARGUMENTS,
    CLASSES,
    Results,
    add_gradients,
    real_cache,
    tensors_of,
    unpack,
)


def empty(case: Case, attention: str) -> GPTBigCodePreTrainedModel:
    """The model of a case, its weights not yet those of the case."""
    config = bigcode_cli.GPTBigCodeConfig.from_dict(case.config)
    model: GPTBigCodePreTrainedModel = _class_of(case.plan.kind)(config, attention)
    return model


def build(case: Case, attention: str) -> GPTBigCodePreTrainedModel:
    """The model of a case, with its weights, which it takes by ``strict=True``."""
    model = empty(case, attention)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict(case.weights(shapes), strict=True)
    return model


def load(case: Case, folder: Path, attention: str) -> GPTBigCodePreTrainedModel:
    """The model that lies in a folder."""
    model: GPTBigCodePreTrainedModel = _class_of(case.plan.kind).from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention
    )
    return model


def run(case: Case, model: GPTBigCodePreTrainedModel) -> Results:
    """Run a case."""
    plan, results = case.plan, Results()
    model.train(plan.course == "train")
    if plan.checkpointing:
        model.gradient_checkpointing_enable()
    cache = _first_cache(case, model)
    embeds: list[Tensor] = []
    with torch.set_grad_enabled(plan.course == "train"):
        for number, step in enumerate(case.steps):
            arguments = dict(step.arguments)
            if plan.course == "train" and plan.embeds:
                arguments["inputs_embeds"] = arguments["inputs_embeds"].clone().requires_grad_()
                embeds.append(arguments["inputs_embeds"])
            output = _call(plan, model, arguments | {"past_key_values": cache})
            results.records.append(type(output).__name__)
            fields = unpack(plan, step, output)
            cache = fields.get("past_key_values", cache)
            for name, tensor in tensors_of(plan, step, fields):
                results.tensors[f"{number}.{name}"] = tensor
        if plan.course == "train":
            add_gradients(case, model, results, embeds)
    if isinstance(cache, KVCache):
        _add_cache(case, results, cache)
    return results


def _first_cache(case: Case, model: GPTBigCodePreTrainedModel) -> KVCache | LegacyCache | None:
    """A legacy tuple, an empty cache, or none."""
    plan = case.plan
    if case.past:
        legacy: LegacyCache = [layer[:, 0] if plan.multi_query else layer for layer in case.past]
        # A pair of one head does not tell which attention it is of.
        if plan.pairs and (plan.multi_query or case.config["n_head"] > 1):
            legacy = [layer.chunk(2, dim=-1) for layer in case.past]
        # The token classifier does not give out the cache that it makes of a tuple.
        return KVCache.from_legacy_cache(legacy) if plan.kind == "token" else tuple(legacy)
    if not plan.handed:
        return None
    return KVCache.allocate(
        model.config, plan.batch, case.capacity, dtype=torch.float32, device="cpu"
    )


def _call(
    plan: Plan, model: GPTBigCodePreTrainedModel, arguments: dict[str, Any]
) -> ModelOutput | tuple[Any, ...]:
    with warnings.catch_warnings():
        # What another kernel does instead, and what hides padding, is said once, and meant here.
        warnings.simplefilter("ignore", BigcodeWarning)
        names = ARGUMENTS[plan.kind] if plan.positional else ()
        placed = [arguments.pop(name, None) for name in names]
        output: ModelOutput | tuple[Any, ...] = model(*placed, **arguments)
        return output


def _add_cache(case: Case, results: Results, cache: KVCache) -> None:
    """What the legacy tuple tells, in the layout of transformers 4.37.2."""
    heads, width = case.config["n_head"], 2 * (case.config["n_embd"] // case.config["n_head"])
    is_shared = case.plan.multi_query
    inner = (case.plan.slots, width) if is_shared else (heads, case.plan.slots, width)
    for place, layer in enumerate(cache.to_legacy_cache()):
        if layer.shape != (case.plan.batch, *inner):
            raise ValueError(f"a legacy layer of {tuple(layer.shape)}")
        merged = layer[:, None] if is_shared else layer
        results.tensors[f"cache.{place}"] = real_cache(case, merged.detach())


def _class_of(kind: str) -> Any:
    return getattr(bigcode_cli, CLASSES[kind])
