"""Learning rates over the course of a training, and the optimizers that follow them."""

from bisect import bisect_right

import torch

from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.training.muon import GroupedMuon
from bigcode_cli.training.recipe import TrainingSettings


def rate_factor(position: float, warm_up: float) -> float:
    """The learning rate over its peak at a share of the training: up, then down to 0, linearly."""
    if position < warm_up:
        return max(position / warm_up, 0.01)
    return max(0.0, (1 - position) / (1 - warm_up))


def planned_factor(position: float, settings: TrainingSettings) -> float:
    """``rate_factor`` of the stretch between two warm restarts that a position lies in.

    Loshchilov & Hutter 2017 ("SGDR"), with a linear fall.
    """
    bounds = [0.0, *settings.restarts, 1.0]
    stretch = min(bisect_right(bounds, position), len(bounds) - 1)
    begin, end = bounds[stretch - 1], bounds[stretch]
    factor = rate_factor((position - begin) / (end - begin), settings.warm_up)
    return factor if stretch == 1 else factor * settings.restart_rate


def make_optimizers(
    model: GPTBigCodeForCausalLM, settings: TrainingSettings
) -> list[torch.optim.Optimizer]:
    """Matrices within layers apart from embeddings, norms and biases, which are not decayed."""
    named = dict(model.named_parameters())
    inner = [w for name, w in named.items() if ".h." in name and w.ndim == 2]
    outer = [w for name, w in named.items() if not (".h." in name and w.ndim == 2)]
    fused = outer[0].is_cuda
    betas = settings.beta1, settings.beta2
    first: torch.optim.Optimizer
    if settings.optimizer == "muon":
        # Updates of AdamW's size, so that its learning rates serve.
        first = GroupedMuon(
            inner,
            settings.learning_rate,
            weight_decay=settings.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
    else:
        first = torch.optim.AdamW(
            inner,
            settings.learning_rate,
            betas=betas,
            weight_decay=settings.weight_decay,
            fused=fused,
        )
    rate = settings.embedding_learning_rate
    second = torch.optim.AdamW(outer, rate, betas=betas, weight_decay=0.0, fused=fused)
    for optimizer in (first, second):
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return [first, second]
