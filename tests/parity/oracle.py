"""The side of transformers 4.56.2, eager.

What it does otherwise than documented is put right here, so that a case need not know:

- additive masks are what its eager attention takes of four dimensions: a boolean one is made one;
- a token classifier without a cache and with ``return_dict=False`` leaves the hidden states out.
"""

import inspect
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import cache_utils

from tests.parity.cases import LOWEST, Case, Step
from tests.parity.results import (
    CLASSES,
    Results,
    add_gradients,
    real_cache,
    tensors_of,
    unpack,
)

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def build(case: Case) -> transformers.PreTrainedModel:
    """The model of a case, with its weights, which it takes by ``strict=True``."""
    config = transformers.GPTBigCodeConfig(**case.config, attn_implementation="eager")
    model: transformers.PreTrainedModel = getattr(transformers, CLASSES[case.plan.kind])(config)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict(case.weights(shapes), strict=True)
    return model


def load(case: Case, folder: Path) -> transformers.PreTrainedModel:
    """The model that lies in a folder, of which nothing may be missing and nothing left."""
    model, report = getattr(transformers, CLASSES[case.plan.kind]).from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
    )
    if any(report.values()):
        raise ValueError(f"transformers read the folder with {report}")
    return model


def arguments_of(kind: str) -> tuple[str, ...]:
    """The arguments of ``forward`` in their order."""
    forward = inspect.signature(getattr(transformers, CLASSES[kind]).forward)
    return tuple(name for name in forward.parameters if name not in {"self", "kwargs"})


def run(case: Case, model: transformers.PreTrainedModel) -> Results:
    """Run a case."""
    plan, results = case.plan, Results()
    model.train(plan.course == "train")
    # What the classifiers find out about their problem they write into the configuration.
    model.config.problem_type = case.config.get("problem_type")
    cache = _first_cache(case)
    embeds: list[Tensor] = []
    with torch.set_grad_enabled(plan.course == "train"):
        for number, step in enumerate(case.steps):
            arguments = dict(step.arguments)
            if plan.course == "train" and plan.embeds:
                arguments["inputs_embeds"] = arguments["inputs_embeds"].clone().requires_grad_()
                embeds.append(arguments["inputs_embeds"])
            fields, record = _call(case, model, step, arguments, cache)
            results.records.append(record)
            cache = fields.get("past_key_values", cache)
            for name, tensor in tensors_of(plan, step, fields):
                results.tensors[f"{number}.{name}"] = tensor
        if plan.course == "train":
            add_gradients(case, model, results, embeds)
    if cache is not None:
        _add_cache(case, results, cache)
    return results


def _first_cache(case: Case) -> cache_utils.Cache | None:
    plan = case.plan
    if case.past:
        pairs = [layer.chunk(2, dim=-1) for layer in case.past]
        return cache_utils.DynamicCache.from_legacy_cache(pairs)
    return cache_utils.DynamicCache() if plan.handed else None


def _call(
    case: Case,
    model: transformers.PreTrainedModel,
    step: Step,
    arguments: dict[str, Any],
    cache: cache_utils.Cache | None,
) -> tuple[dict[str, Any], str]:
    plan = case.plan
    mask = arguments.get("attention_mask")
    if mask is not None and mask.dim() == 4 and mask.dtype == torch.bool:
        arguments["attention_mask"] = torch.zeros(mask.shape).masked_fill(~mask, LOWEST)
    if plan.kind == "token" and plan.return_dict is False and not plan.keeps_cache:
        output = model(**arguments | {"return_dict": True}, past_key_values=cache).to_tuple()
    else:
        output = model(**arguments, past_key_values=cache)
    return unpack(plan, step, output), type(output).__name__


def _add_cache(case: Case, results: Results, cache: cache_utils.Cache) -> None:
    own = cache.self_attention_cache if hasattr(cache, "self_attention_cache") else cache
    for place, layer in enumerate(own.layers):
        merged = torch.cat([layer.keys, layer.values], dim=-1).detach()
        results.tensors[f"cache.{place}"] = real_cache(case, merged)
