"""Low-rank adapters (Hu et al. 2021, LoRA): train a narrow change to each matrix of the layers.

The constant that LoRA divides by its rank is left out: with Adam it only scales the learning rate
of ``up``. What comes of it is stored as ``model.low_rank`` describes.
"""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from bigcode_cli.errors import UsageError
from bigcode_cli.model.layers import Linear
from bigcode_cli.model.low_rank import merged

LayerT = TypeVar("LayerT", bound=nn.Linear)


class LowRankLinear(Linear):
    """A linear layer that is frozen, and two narrow matrices beside it that are trained.

    At first it gives what the layer gave: ``up`` is zero, ``down`` is drawn as He et al. 2015.

    Attributes:
        up: ``(out, rank)``.
        down: ``(rank, in)``.
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.requires_grad_(False)
        like = self.weight
        self.up = nn.Parameter(like.new_zeros(self.out_features, rank))
        self.down = nn.Parameter(like.new_empty(rank, self.in_features))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, hidden: Tensor) -> Tensor:
        """``(…, in)`` to ``(…, out)``."""
        narrow = functional.linear(hidden, self.down)
        return super().forward(hidden) + functional.linear(narrow, self.up)


def add_low_rank(model: nn.Module, rank: int, *, first_layer: int = 0) -> None:
    """Put factors beside each matrix of a model's layers, and freeze those layers' matrices.

    The factors are parameters beside it: ``named_parameters`` calls them ``….c_attn.up`` and
    ``….c_attn.down``, as they are stored. Nothing else is frozen.

    Args:
        model: of any class of the family, with its weights.
        rank: columns of ``up``, the same everywhere.
        first_layer: layers before it stay as they are, counted from 0.

    Raises:
        UsageError: no rank from 1 to the lesser side of the smallest matrix.
    """
    found = _layers(model, nn.Linear, first_layer)
    most = min(min(linear.weight.shape) for linear in found.values())
    if not 1 <= rank <= most:
        raise UsageError(f"a rank is from 1 to {most} here, not {rank}")
    for name, linear in found.items():
        model.set_submodule(name, LowRankLinear(linear, rank))


def low_rank_factors(model: nn.Module) -> dict[str, Tensor]:
    """The factors by the names that they are stored under."""
    return {
        f"{name}.{half}": getattr(layer, half).detach()
        for name, layer in _layers(model, LowRankLinear).items()
        for half in ("up", "down")
    }


@torch.no_grad()
def round_factors(model: nn.Module, dtype: torch.dtype) -> None:
    """Make the factors what they are once they are stored in ``dtype``."""
    for factor in low_rank_factors(model).values():
        factor.copy_(factor.to(dtype))


@torch.no_grad()
def merge_low_rank(model: nn.Module) -> None:
    """Make a plain model of one with factors, the same that is loaded once they are stored."""
    for name, layer in _layers(model, LowRankLinear).items():
        plain = Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        whole = merged(layer.weight, layer.up, layer.down).to(layer.weight.dtype)
        plain.weight, plain.bias = nn.Parameter(whole, requires_grad=False), layer.bias
        model.set_submodule(name, plain)


def _layers(model: nn.Module, kind: type[LayerT], first_layer: int = 0) -> dict[str, LayerT]:
    """The linear layers of this kind within the blocks, by name."""
    inner = getattr(model, "transformer", model).h
    prefix = next(name for name, module in model.named_modules() if module is inner)
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, kind)
        and name.startswith(f"{prefix}.")
        and int(name.removeprefix(f"{prefix}.").partition(".")[0]) >= first_layer
    }
