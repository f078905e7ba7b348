"""How far two sides are apart, and how far they may be."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from tests.parity.results import Results

TOLERANCES = {
    "loss": 1e-6,
    "few_labels_loss": 1e-5,
    "logits": 2e-5,
    "last_hidden_state": 2e-5,
    "hidden_states": 2e-5,
    "attentions": 2e-5,
    "cache": 2e-5,
    "grad": 1e-4,
}
"""By quantity: relative to the largest number of a tensor; for ``grad`` in the tensor's norm."""


FEW = 8
"""Numbers of a tensor that may all be small by chance."""


@dataclass(frozen=True)
class Difference:
    """Of one tensor, relative; infinite if it is not there or not of the same shape."""

    name: str
    size: float

    @property
    def quantity(self) -> str:
        """Which of ``TOLERANCES`` is meant."""
        return quantity_of(self.name)

    @property
    def excess(self) -> float:
        """How many times the tolerance."""
        return self.size / TOLERANCES[self.quantity]


def verdict(found: Sequence[Difference]) -> str | None:
    """What is wrong in a few words; ``None`` if all is within its tolerance."""
    bad = sorted((one for one in found if one.excess > 1), key=lambda one: -one.excess)
    if not bad:
        return None
    named = ", ".join(f"{one.name} {one.size:.1e}" for one in bad[:3])
    return f"{len(bad)} of {len(found)} tensors differ: {named}"


def quantity_of(name: str) -> str:
    """The quantity of a tensor of ``Results``."""
    return next(part for part in name.split(".") if part in TOLERANCES)


def differences(actual: Results, expected: Results) -> Iterator[Difference]:
    """One for each tensor of either side.

    Raises:
        ValueError: the outputs are records of another class.
    """
    if actual.records != expected.records:
        raise ValueError(f"outputs are {actual.records} instead of {expected.records}")
    for name in expected.tensors.keys() | actual.tensors.keys():
        if name not in actual.tensors or name not in expected.tensors:
            yield Difference(name, math.inf)
        else:
            yield Difference(name, _relative(name, actual.tensors[name], expected.tensors[name]))


def _relative(name: str, actual: Tensor, expected: Tensor) -> float:
    if actual.shape != expected.shape:
        return math.inf
    difference, expected = (actual - expected).double(), expected.double()
    if quantity_of(name) == "grad":
        size, scale = difference.norm().item(), expected.norm().item()
    else:
        size, scale = difference.abs().max().item(), scale_of(name, expected)
    if size == 0:
        return 0.0
    return size / scale if scale > 0 and not math.isnan(size) else math.inf


def scale_of(name: str, expected: Tensor) -> float:
    """What a difference is relative to: the largest number; 1 at least where there are but few.

    A few pooled logits, or a loss of few labels, may be small by chance: small differences of
    numbers that are not, with their rounding. The numbers that are drawn are of the order of 1.
    """
    largest = expected.abs().max().item()
    is_small = expected.numel() < FEW and quantity_of(name) != "loss"
    return max(largest, 1.0) if is_small else largest
