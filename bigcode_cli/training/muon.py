"""Muon that updates matrices of one shape together: PyTorch's steps, in fewer launches.

A small model has dozens of small matrices, and one by one they cost a GPU a quarter of a step.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor


class GroupedMuon(torch.optim.Muon):
    """``torch.optim.Muon`` (Jordan et al. 2024; Liu et al. 2025) with ``match_rms_adamw``.

    State and state dict are the library's, and what one writes the other reads.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Update all matrices that have a gradient; a closure is not taken."""
        for group in self.param_groups:
            alike: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.shape].append(weight)
            for weights in alike.values():
                self._update(weights, group)

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """One step of matrices of one shape."""
        grads = [weight.grad for weight in weights if weight.grad is not None]
        momenta = [self._momentum(weight) for weight in weights]
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        updates = torch.stack(torch._foreach_lerp(grads, momenta, group["momentum"]))
        directions = orthogonal(updates, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rate = group["lr"]
        torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
        scaled = 0.2 * rate * max(weights[0].shape) ** 0.5
        torch._foreach_add_(weights, list(directions.to(weights[0].dtype)), alpha=-scaled)

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum_buffer"]
        return momentum


def orthogonal(
    matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Each matrix with its singular values near 1: Newton–Schulz, quintic.

    In bfloat16 on a GPU, as the library; in float32 elsewhere, since most CPUs multiply bfloat16 at
    a tenth of the speed.

    Args:
        matrices: ``(count, rows, columns)``.
    """
    first, second, third = coefficients
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = x.bfloat16() if x.is_cuda else x.float()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=second, alpha=third)
        x = torch.baddbmm(x, polynomial, x, beta=first)
    return x.mT if is_tall else x
