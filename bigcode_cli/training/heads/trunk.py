"""A base under a new head, and which of its weights are trained."""

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from bigcode_cli.backends.devices import choose_device
from bigcode_cli.backends.reading import reading_keys
from bigcode_cli.backends.torch_classifier import CLASSES, Model
from bigcode_cli.errors import BigcodeWarning, UsageError
from bigcode_cli.model.checkpoint import load_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import ChangeCosts, ModelFolder
from bigcode_cli.training.heads.samples import HeadOptions
from bigcode_cli.training.low_rank import add_low_rank


def load_base(
    base: ModelFolder,
    labels: Sequence[str],
    options: HeadOptions,
    change_costs: ChangeCosts | None = None,
) -> Model:
    """The base under a new head, in float32, with what is not to be trained frozen.

    Args:
        change_costs: that a token head's labels are to be read with.

    Raises:
        ModelError: the base cannot be loaded.
        UsageError: it has fewer layers than are to be trained, no matrix of that rank, or the
            device is not here.
    """
    if base.base is not None:
        raise UsageError(
            f"{base.name} holds only what differs from another model", "name that one with --model"
        )
    config = GPTBigCodeConfig.from_file(base.path)
    if options.unfreeze > config.n_layer:
        raise UsageError(f"--unfreeze {options.unfreeze}: {base.name} has {config.n_layer} layers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BigcodeWarning)  # that there is no head yet
        model = load_model(
            CLASSES[options.kind],
            base.path,
            device=choose_device(options.device),
            dtype=torch.float32,
            config=_head_config(config, labels, options, change_costs),
        )
    model.draw(head_of(model))
    _freeze(model, options)
    return model


def head_of(model: Model) -> nn.Module:
    """The layer that makes logits of hidden states."""
    return model.get_submodule("score" if hasattr(model, "score") else "classifier")


def _head_config(
    config: GPTBigCodeConfig,
    labels: Sequence[str],
    options: HeadOptions,
    change_costs: ChangeCosts | None,
) -> GPTBigCodeConfig:
    """The base's configuration, with what the head is."""
    kind = "multi_label_classification" if options.multi_label else "single_label_classification"
    return config.with_changes(
        id2label=dict(enumerate(labels)),
        problem_type=kind if options.kind == "sequence" else None,
        extra=reading_keys(
            config,
            read_twice=options.read_twice,
            context=options.context,
            change_costs=change_costs,
        ),
    )


def _freeze(model: Model, options: HeadOptions) -> None:
    """Let the head be trained, and of the trunk what the options say."""
    model.transformer.requires_grad_(options.unfreeze == -1)
    if options.unfreeze > 0:
        model.transformer.h[-options.unfreeze :].requires_grad_(True)
        model.transformer.ln_f.requires_grad_(True)
    if options.tune == "norms":
        for parameter in model.transformer.parameters():
            parameter.requires_grad_(parameter.ndim == 1)
    if options.tune == "low-rank":
        add_low_rank(model, options.rank)
