"""What was timed, as rows: llama-bench's keys, and what it does not tell."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from bigcode_cli.bench.cases import Case
from bigcode_cli.bench.intervals import median_interval, shift
from bigcode_cli.bench.limits import Limits, decode_bytes, pass_flops
from bigcode_cli.bench.measure import Samples
from bigcode_cli.bench.sides import OURS
from bigcode_cli.model.config import GPTBigCodeConfig

Row = dict[str, Any]

SIZES = ("n_prompt", "n_gen", "n_depth", "batch_size")
COMMON = ("model", "device", "gpu", "cpu", "cores", "threads", "dtype", "weights", "torch")
"""Of two runs that tell what the program's own change did."""

NS = "samples_ns"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Who did the work.

    Attributes:
        name: of the side.
        backend: of the engine, or the way that a peer runs in.
        dtype: of the activations; ``weights`` names how the weights are stored.
    """

    name: str
    backend: str
    dtype: str
    weights: str
    weight_bytes: int


def rows(
    done: Sequence[Samples],
    engines: Mapping[str, Engine],
    config: GPTBigCodeConfig,
    limits: Limits,
) -> list[Row]:
    """A row for each side at each case of which something is known; a peer's has its ratio."""
    found: list[Row] = []
    ours = {one.case: one for one in done if one.side == OURS}
    for one in done:
        if not one.samples_ns and one.error is None:
            continue
        engine = engines[one.side]
        row = timed(one, engine)
        if one.samples_ns:
            row |= _fractions(one.case, row["median_ns"] / 1e9, engine, config, limits)
        if one.side != OURS and one.samples_ns and one.case in ours:
            row["ratio"] = ratio(ours[one.case].samples_ns, one.samples_ns)
            if one.ids and ours[one.case].ids:
                row["same_ids"] = agreement(ours[one.case].ids, one.ids)
        found.append(row)
    return found


def ratio(ours: Sequence[int], theirs: Sequence[int]) -> Row | None:
    """Their time over ours, round by round: above 1 we are faster.

    Both sides of a round ran one after the other, so that a slow moment is in both. The interval
    is that of the median of the rounds' ratios.
    """
    paired = [their / our for our, their in zip(ours, theirs, strict=False)]
    if not paired:
        return None
    return {"median": statistics.median(paired), "interval": list(median_interval(paired))}


def differences(old: object, new: Row) -> list[str]:
    """What two runs do not have in common though it bears on speed: ``dtype: float32``."""
    then = old if isinstance(old, dict) else {}
    known = [name for name in COMMON if name in then]
    return [f"{name}: {then[name]}" for name in known if then[name] != new.get(name)]


def agreement(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> float:
    """The share of ids before two greedy sequences part, which rounding alone makes them do."""
    same = sum(
        sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=True)))
        for one, other in zip(ours, theirs, strict=True)
    )
    return same / sum(map(len, ours))


@dataclass(frozen=True, slots=True)
class Change:
    """A case that was timed before and now.

    Attributes:
        time_ratio: time now over time then; above 1 it has become slower.
        interval: of it, 95 %.
    """

    test: str
    time_ratio: float
    interval: tuple[float, float]

    def is_slower(self, share: float) -> bool:
        """Whether it took longer by more than a share, and by more than the runs scatter."""
        return self.time_ratio > 1 + share and self.interval[0] > 1


def changes(old: Sequence[Row], new: Sequence[Row]) -> list[Change]:
    """What both have, our engine's alone: two runs of another program tell nothing."""
    before = {row["test"]: _token_logs(row) for row in old if is_comparable(row)}
    found = []
    for row in new:
        if is_comparable(row) and row["test"] in before:
            middle, low, high = map(math.exp, shift(before[row["test"]], _token_logs(row)))
            found.append(Change(row["test"], middle, (low, high)))
    return found


def is_comparable(row: Row) -> bool:
    """Whether a row, which may come from a file, tells times of our engine."""
    times, tokens = row.get(NS), row.get("tokens")
    return (
        row.get("engine") == OURS
        and isinstance(row.get("test"), str)
        and isinstance(tokens, int)
        and tokens > 0
        and isinstance(times, list)
        and bool(times)
        and all(isinstance(taken, int | float) and taken > 0 for taken in times)
    )


def _token_logs(row: Row) -> list[float]:
    """Of the times for one token: a sampled text may have ended elsewhere."""
    return [math.log(taken / row["tokens"]) for taken in row[NS]]


def timed(one: Samples, engine: Engine) -> Row:
    """What a side took for a case, limits and peers left out."""
    case = one.case
    row: Row = {
        "test": case.label,
        "engine": engine.name,
        "backend": engine.backend,
        "dtype": engine.dtype,
        "weights": engine.weights,
        "weight_bytes": engine.weight_bytes,
        **{name: getattr(case, name) for name in SIZES},
        "end_to_end": case.kind == "e2e",
        "scored": case.kind == "sc",
    }
    if one.samples_ns:
        speeds = [one.tokens * 1e9 / taken for taken in one.samples_ns]
        row |= {
            "tokens": one.tokens,
            "avg_ns": statistics.fmean(one.samples_ns),
            "stddev_ns": _deviation(one.samples_ns),
            "median_ns": statistics.median(one.samples_ns),
            "avg_ts": statistics.fmean(speeds),
            "stddev_ts": _deviation(speeds),
            "median_ts": statistics.median(speeds),
            "median_ts_interval": list(median_interval(speeds)),
            NS: one.samples_ns,
            "samples_ts": speeds,
            "peak_memory_bytes": one.peak_memory_bytes,
        }
    if one.first_token_ns:
        row["first_token_s"] = statistics.median(one.first_token_ns) / 1e9
        row["first_token_samples_ns"] = one.first_token_ns
    if one.nll is not None:
        row["nll"] = one.nll
    if one.error is not None:
        row["error"] = one.error
    return row


def _fractions(
    case: Case, seconds: float, engine: Engine, config: GPTBigCodeConfig, limits: Limits
) -> Row:
    """How near a case comes to what the device can do, the least that it needs taken for granted.

    A peer that reads a whole preallocated cache, say, is counted what it would have needed.
    """
    if case.kind == "tg":
        needed = decode_bytes(case, config, engine.dtype, engine.weights)
        return {"bandwidth_fraction": needed / seconds / limits.read}
    if case.kind in {"pp", "sc"}:
        return {"compute_fraction": pass_flops(case, config) / seconds / limits.flops}
    return {}


def _deviation(values: Sequence[float]) -> float:
    """Of the sample, as llama-bench has it: 0 of a single one."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
