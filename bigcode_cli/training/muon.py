"""Muon with matrices of one shape orthogonalised together.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". The same steps as
``torch.optim.Muon(adjust_lr_fn="match_rms_adamw")``, which goes through the matrices one by one:
on a GPU, launching so many small products costs more than computing them.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5
_SMALLEST_NORM = 1e-7


def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest orthogonal matrices, about, by a quintic Newton–Schulz iteration in bfloat16.

    Args:
        matrices: ``(count, rows, columns)``.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    flat = (matrices.mT if tall else matrices).bfloat16()
    flat = flat / flat.norm(dim=(-2, -1), keepdim=True).clamp(min=_SMALLEST_NORM)
    for _ in range(STEPS):
        gram = flat @ flat.mT
        update = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        flat = torch.baddbmm(flat, update, flat, beta=a)
    return flat.mT if tall else flat


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised; decoupled weight decay; the update's size as AdamW's (0.2 RMS).

    Args:
        params: matrices.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        *,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all matrices that have a gradient."""
        del closure
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes[matrix.shape].append(matrix)
            for shape, matrices in shapes.items():
                self._update(matrices, shape, group["lr"], group["weight_decay"], group["momentum"])

    def _update(
        self,
        matrices: list[Tensor],
        shape: torch.Size,
        lr: float,
        weight_decay: float,
        momentum: float,
    ) -> None:
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        for matrix in matrices:
            if not self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        buffers = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        nesterov = torch._foreach_lerp(gradients, buffers, momentum)
        updates = orthogonalise(torch.stack(list(nesterov))).to(matrices[0].dtype)
        torch._foreach_mul_(matrices, 1 - lr * weight_decay)
        size = lr * 0.2 * math.sqrt(max(shape))
        torch._foreach_add_(matrices, list(updates.unbind()), alpha=-size)
