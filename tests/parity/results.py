"""What running a case gives on either side: named tensors, real places alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bigcode_cli.model.outputs import ModelOutput
from tests.parity.cases import Case, Step
from tests.parity.draws import Draw
from tests.parity.labels import IGNORED
from tests.parity.plans import Plan

FEW_LABELS = 4
"""A loss of fewer is told apart: it has the rounding of single logits, which nothing averages."""

FIELDS = {
    "model": ("last_hidden_state", "past_key_values", "hidden_states", "attentions"),
    "causal": ("loss", "logits", "past_key_values", "hidden_states", "attentions"),
    "sequence": ("loss", "logits", "past_key_values", "hidden_states", "attentions"),
    "token": ("loss", "logits", "hidden_states", "attentions"),
}
"""In their documented order."""

_INPUTS = (
    "input_ids",
    "past_key_values",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "head_mask",
    "inputs_embeds",
)
_ENCODER = ("encoder_hidden_states", "encoder_attention_mask")
_WISHES = ("use_cache", "output_attentions", "output_hidden_states", "return_dict")

ARGUMENTS = {
    "model": (*_INPUTS, *_ENCODER, *_WISHES, "cache_position"),
    "causal": (*_INPUTS, *_ENCODER, "labels", *_WISHES, "cache_position"),
    "sequence": (*_INPUTS, "labels", *_WISHES),
    "token": (*_INPUTS, "labels", *_WISHES),
}
"""Of ``forward``, in their order."""

CLASSES = {
    "model": "GPTBigCodeModel",
    "causal": "GPTBigCodeForCausalLM",
    "sequence": "GPTBigCodeForSequenceClassification",
    "token": "GPTBigCodeForTokenClassification",
}


@dataclass
class Results:
    """Tensors by name: ``0.logits``, ``1.attentions.2``, ``cache.0``, ``grad.wte.weight``.

    Attributes:
        records: the class of each pass's output.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    records: list[str] = field(default_factory=list)


def unpack(plan: Plan, step: Step, output: ModelOutput | tuple[Any, ...]) -> dict[str, Any]:
    """The fields of an output, a record of either side or a tuple.

    Raises:
        ValueError: they are not those that were asked for.
    """
    asked = {
        "loss": "labels" in step.arguments,
        "past_key_values": plan.keeps_cache,
        "hidden_states": plan.hidden_states,
        "attentions": plan.attentions,
    }
    names = [name for name in FIELDS[plan.kind] if asked.get(name, True)]
    if (plan.return_dict is False) != isinstance(output, tuple):
        raise ValueError(f"return_dict {plan.return_dict} gave {type(output).__name__}")
    if isinstance(output, tuple):
        return dict(zip(names, output, strict=True))
    if list(output.keys()) != names:
        raise ValueError(f"{', '.join(output.keys())} instead of {', '.join(names)}")
    return {name: output[name] for name in names}


def tensors_of(plan: Plan, step: Step, fields: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a pass, the cache left out; zero where nothing is real.

    Raises:
        ValueError: a field is no tensor, or a number is not finite, be it at padding.
    """
    for name, value in fields.items():
        if name == "past_key_values":
            continue
        if isinstance(value, tuple):
            for place, tensor in enumerate(value):
                yield f"{name}.{place}", _only_real(plan, step, name, tensor)
        else:
            is_few = name == "loss" and _labels_of(plan, step) < FEW_LABELS
            yield "few_labels_loss" if is_few else name, _only_real(plan, step, name, value)


def _labels_of(plan: Plan, step: Step) -> int:
    """How many labels the loss of a pass is the mean of."""
    labels: Tensor = step.arguments["labels"]
    counted = labels[:, 1:] if plan.kind == "causal" else labels
    return int((counted != IGNORED).sum())


def _only_real(plan: Plan, step: Step, name: str, tensor: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} is a {type(tensor).__name__}")
    if not tensor.isfinite().all():
        raise ValueError(f"{name} is not finite")
    if name == "loss" or (name == "logits" and plan.kind == "sequence"):
        return tensor
    real = step.real[:, None, :, None] if name == "attentions" else step.real[:, :, None]
    return tensor.where(real, 0.0)


def real_cache(case: Case, layer: Tensor) -> Tensor:
    """Keys and values ``(batch, kv_heads, slots, 2 * head_dim)``, zero where nothing is real."""
    return layer.where(case.real_slots[:, None, :, None], 0.0)


def objective(case: Case, tensors: Mapping[str, Tensor]) -> Tensor:
    """What gradients are taken of: all losses, or random projections of all outputs."""
    losses = [tensor for name, tensor in tensors.items() if name.endswith("loss")]
    if losses:
        return torch.stack(losses).sum()
    projections = [
        (tensor * signs_for(case, name, tensor).float()).sum() / tensor.numel() ** 0.5
        for name, tensor in tensors.items()
        if tensor.requires_grad
    ]
    return torch.stack(projections).sum()


def add_gradients(case: Case, model: nn.Module, results: Results, embeds: Sequence[Tensor]) -> None:
    """Gradients of the objective for every parameter and every ``inputs_embeds``."""
    torch.autograd.backward(objective(case, results.tensors))
    inputs = {f"{number}.inputs_embeds": tensor for number, tensor in enumerate(embeds)}
    for name, tensor in (dict(model.named_parameters()) | inputs).items():
        grad = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        results.tensors[f"grad.{name}"] = grad
    results.tensors = {name: tensor.detach() for name, tensor in results.tensors.items()}


def signs_for(case: Case, name: str, tensor: Tensor, count: int = 0) -> Tensor:
    """A random direction: 1 or -1 for each number of a tensor."""
    return Draw(f"{case.plan.draw_key} {name} {count}").signs(tensor.shape)
