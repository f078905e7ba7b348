"""Matrices that differ from another model's by a product of two narrow ones: ``W + up @ down``.

Hu et al. 2021 (LoRA) write ``W + alpha / r · B A``; here ``up`` is B with that factor in it. A
folder of differences holds ``NAME.up`` and ``NAME.down`` for the base's ``NAME.weight``, a matrix
of a layer. The product is added as the weights are loaded, so that nothing beyond sees any of it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from bigcode_cli.errors import ModelCorruptError
from bigcode_cli.model.names import is_quantized
from bigcode_cli.model.tensor_index import FACTORS

if TYPE_CHECKING:
    from bigcode_cli.model.stored import Stored

UP, DOWN = FACTORS
LAYERS = "transformer.h."


def merged(weight: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """``weight + up @ down`` in float32.

    Args:
        weight: ``(out, in)``.
        up: ``(out, rank)``.
        down: ``(rank, in)``.
    """
    return weight.float().addmm(up.float(), down.float())


def with_factors(own: Mapping[str, "Stored"], below: Mapping[str, "Stored"]) -> dict[str, "Stored"]:
    """The tensors of a base, and those of a folder over them, with its factors put where they act.

    Raises:
        ModelCorruptError: factors of no matrix of a layer, of one that is stored whole, one
            without the other, or of shapes that do not fit.
    """
    factors = {name: stored for name, stored in own.items() if name.endswith(FACTORS)}
    whole = {name: stored for name, stored in own.items() if name not in factors}
    found = {**below, **whole}
    for name in factors:
        layer = name.removesuffix(UP).removesuffix(DOWN)
        up, down = factors.get(layer + UP), factors.get(layer + DOWN)
        if up is None or down is None:
            raise ModelCorruptError(f"{name:.100} is stored without its other half")
        target = f"{layer}.weight"
        if target in whole:
            raise ModelCorruptError(f"{target:.100} is stored whole and as two factors")
        is_inner = target.startswith(LAYERS) and is_quantized(target)
        if target not in below or not is_inner:
            raise ModelCorruptError(f"{name:.100} belongs to no matrix of the base's layers")
        _check_shapes(target, below[target].shape, up, down)
        found[target] = replace(below[target], factors=(up, down))
    return found


def _check_shapes(name: str, shape: tuple[int, ...], up: "Stored", down: "Stored") -> None:
    if up.quantized or down.quantized:
        raise ModelCorruptError(f"the factors of {name:.100} are of type int8")
    rank = down.shape[0] if down.shape else 0
    fits = len(shape) == 2 and (up.shape, down.shape) == ((shape[0], rank), (rank, shape[-1]))
    if not fits or not 0 < rank <= min(shape):
        raise ModelCorruptError(
            f"factors of shapes {up.shape} and {down.shape} do not fit {name:.100}, {shape}"
        )
