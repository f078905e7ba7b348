"""Several engines at one model and width, by turns: what each turn took, and the answer of it.

Every engine has its own process and the same threads; A B C A B C …, so that a machine that slows
down slows all of them. As many rounds as there is time for.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bigcode_cli.bench.cases import Case
from bigcode_cli.bench.cpu_pipe import Engine as Work
from bigcode_cli.bench.cpu_pipe import Width
from bigcode_cli.bench.measure import Samples
from bigcode_cli.bench.sides import OURS
from bigcode_cli.bench.speed_rows import Engine, Row, ratio, timed
from bigcode_cli.errors import BigcodeError

ROUNDS = range(3, 16)
"""The fewest and, less one, the most: of 6 and more the interval of the ratio is one of 95 %."""

CHECKED_IDS = 64

_ALIKE: Mapping[Width, float] = {"f32": 1e-4, "f16": 2e-2, "int8": 0.2, "int4": 0.6}
"""How far logits may be apart, relative to ours: further, it is another model or another sum."""

_REST_S = 0.05
"""Before each turn: threads of the last one may look for work for a moment more."""


@dataclass(frozen=True, slots=True)
class Side:
    """An engine that has the model open.

    Attributes:
        told: what ``cpu_pipe.Engine.open`` gave.
    """

    name: str
    engine: Work
    told: Mapping[str, Any]


def distances(sides: Sequence[Side], width: Width, ids: Sequence[int]) -> dict[str, float]:
    """How far each peer's logits are from ours: the length of the difference over that of ours.

    Raises:
        BigcodeError: further than rounding explains.
    """
    logits = {side.name: side.engine.logits(ids) for side in sides}
    ours = logits.pop(OURS)
    found = {name: math.dist(ours, theirs) / math.hypot(*ours) for name, theirs in logits.items()}
    for name, distance in found.items():
        if not distance <= _ALIKE[width]:
            raise BigcodeError(f"logits of {name} are {distance:.2g} apart: not the same work")
    return found


def take_turns(
    sides: Sequence[Side],
    case: Case,
    ids: Sequence[int],
    seconds: float,
    *,
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = time.sleep,
) -> list[Samples]:
    """Time one case on all of them, after a round that warms up and tells how many there can be."""
    found = [Samples(case, side.name, tokens=case.tokens) for side in sides]

    def one_round() -> list[int]:
        taken = []
        for side in sides:
            rest(_REST_S)
            engine = side.engine
            taken.append(engine.prompt(ids) if case.kind == "pp" else engine.decode(case.n_gen))
        return taken

    begun = clock()
    one_round()
    affordable = int(seconds / max(clock() - begun, 1e-9))
    for _ in range(min(max(affordable, ROUNDS[0]), ROUNDS[-1])):
        for samples, taken in zip(found, one_round(), strict=True):
            samples.samples_ns.append(taken)
    return found


def results(done: Sequence[Samples], sides: Sequence[Side], bandwidth: float) -> list[Row]:
    """A row for each side at each case, as ``bigcode bench`` has them.

    Args:
        bandwidth: bytes a second that all threads read; what a step reads of the weights, times
            the tokens a second, is a share of it.
    """
    ours = {one.case: one for one in done if one.side == OURS}
    by_name = {side.name: side for side in sides}
    found = []
    for one in done:
        told = by_name[one.side].told
        engine = Engine(
            name=one.side,
            backend=str(told["version"]),
            dtype="float32",
            weights=str(told["name"]),
            weight_bytes=int(told["read_bytes"]),
        )
        row = timed(one, engine)
        if one.case.kind == "tg":
            row["bandwidth_fraction"] = engine.weight_bytes * row["median_ts"] / bandwidth
        if one.side != OURS:
            row["ratio"] = ratio(ours[one.case].samples_ns, one.samples_ns)
        found.append(row)
    return found
