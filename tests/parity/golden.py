"""A share of the suite that needs no transformers: what the oracle gave, in a few numbers a tensor.

Cases are drawn from the seed again, so that the file holds results alone: of each tensor some
random projections, which no difference that matters leaves as they are, and its scale.
"""

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tests.parity.cases import Case, draw_case
from tests.parity.compare import Difference, quantity_of, scale_of, verdict
from tests.parity.results import Results, signs_for

GOLDEN_FILE = Path(__file__).with_name("golden.safetensors")
SEED = 0
NUMBERS = (*range(24), 26, 29, 37, 46, 100, 102, 158, 182)
"""The first, and some that alone see a mistake or that have what is rare among the first."""

PROJECTIONS = 4


def digest(case: Case, results: Results) -> dict[str, Tensor]:
    """Projections of each tensor, and what their differences are relative to: float64 ``(5,)``.

    The signs being random, the projection of a difference is about as large as its norm; that of
    all but gradients is divided by the root of their count, as an element is meant there.
    """
    return {name: _project(case, name, tensor.double()) for name, tensor in results.tensors.items()}


def _project(case: Case, name: str, tensor: Tensor) -> Tensor:
    is_gradient = quantity_of(name) == "grad"
    scale = tensor.norm().item() if is_gradient else scale_of(name, tensor)
    divisor = 1.0 if is_gradient else math.sqrt(tensor.numel())
    numbers = [
        (tensor * signs_for(case, name, tensor, count)).sum().item() / divisor
        for count in range(PROJECTIONS)
    ]
    return torch.tensor([*numbers, scale], dtype=torch.float64)


def write(expected: Mapping[int, Results]) -> None:
    """Write the golden file, from the oracle's results by case number."""
    tensors, index = {}, {}
    for number, results in expected.items():
        digests = digest(draw_case(SEED, number), results)
        names = sorted(digests)
        tensors[str(number)] = torch.stack([digests[name] for name in names]).float()
        index[number] = {"names": names, "records": results.records}
    save_file(tensors, GOLDEN_FILE, metadata={"index": json.dumps(index)})


@cache
def cases() -> tuple[Case, ...]:
    """All cases of the share."""
    return tuple(draw_case(SEED, number) for number in NUMBERS)


@cache
def _expected() -> tuple[dict[str, dict[str, list[str]]], dict[str, Tensor]]:
    with safe_open(GOLDEN_FILE, framework="pt") as file:
        index = json.loads(file.metadata()["index"])
        return index, {number: file.get_tensor(number) for number in index}


def judge(case: Case, results: Results) -> str | None:
    """What is wrong with this package's results, or ``None``."""
    index, tensors = _expected()
    number = str(case.plan.number)
    if results.records != index[number]["records"]:
        return f"outputs are {results.records}"
    digests, names = digest(case, results), index[number]["names"]
    if sorted(digests) != names:
        return f"other tensors: {', '.join(digests.keys() ^ set(names))}"
    found = []
    for name, golden in zip(names, tensors[number].double(), strict=True):
        size = (digests[name] - golden)[:-1].abs().max().item()
        scale = golden[-1].item()
        found.append(Difference(name, size / scale if scale else math.inf if size else 0.0))
    return verdict(found)
