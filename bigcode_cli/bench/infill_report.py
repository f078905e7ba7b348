"""What was measured, summed up: rows for programs, tables for people.

Intervals take the tasks for independent. Those of one problem or file are alike, so that another
draw of problems would vary somewhat more.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bigcode_cli.bench.infill_run import Latency, Measured, Outcome
from bigcode_cli.bench.infill_tasks import InfillTask, digest
from bigcode_cli.bench.intervals import bootstrap_mean, paired_shares, wilson

Row = dict[str, Any]

SHARES = {
    "exact_match": "exact match %",
    "edit_similarity": "similarity %",
    "pass_at_1": "pass@1 %",
}
TIMES = {"first_token_s": "first token ms", "whole_s": "whole ms"}


def rows(measured: Sequence[Measured]) -> list[Row]:
    """One row for each group of tasks in each way, the first way's before the others'.

    Every other way is compared with the first one, task by task.
    """
    found = []
    for group in dict.fromkeys(outcome.group for outcome in measured[0].outcomes):
        base = _of(measured[0].outcomes, group)
        for one in measured:
            outcomes = _of(one.outcomes, group)
            row = {"tasks": group, "variant": one.variant.name, **_summary(outcomes)}
            row["latency"] = _latency([each for each in one.latencies if each.group == group])
            if one is not measured[0]:
                row["difference"] = _difference(outcomes, base)
            found.append(row)
    return found


def settings(tasks: Sequence[InfillTask], measured: Sequence[Measured]) -> Row:
    """What was filled, and how in the first way."""
    request = measured[0].variant.request
    groups = dict.fromkeys(task.group for task in tasks)
    some = {group: [task for task in tasks if task.group == group] for group in groups}
    return {
        "tasks": {group: {"n": len(mine), "sha256": digest(mine)} for group, mine in some.items()},
        "span": request.span or "auto",
        "order": request.order or "auto",
        "candidates": request.candidates,
        "temperature": request.sampling.temperature,
        "cut_overlap": request.cut_overlap,
        "max_new_tokens": request.max_new_tokens,
    }


def raw(measured: Sequence[Measured]) -> list[Row]:
    """Everything that the rows were made of."""
    return [
        {
            "variant": one.variant.name,
            "seconds": one.seconds,
            "outcomes": [asdict(outcome) for outcome in one.outcomes],
            "latencies": [asdict(latency) for latency in one.latencies],
        }
        for one in measured
    ]


def _of(outcomes: Sequence[Outcome], group: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.group == group]


def _summary(outcomes: Sequence[Outcome]) -> Row:
    count = len(outcomes)
    similarities = [outcome.similarity for outcome in outcomes]
    exact = sum(outcome.exact for outcome in outcomes)
    row: Row = {
        "n": count,
        "exact_match": exact / count,
        "exact_match_interval": wilson(exact, count),
        "edit_similarity": sum(similarities) / count,
        "edit_similarity_interval": bootstrap_mean(similarities),
        "finish_reasons": dict(Counter(one.finish_reason for one in outcomes).most_common()),
        "mean_tokens": sum(outcome.tokens for outcome in outcomes) / count,
    }
    run = [outcome for outcome in outcomes if outcome.verdict is not None]
    if run:
        passed = sum(outcome.passed for outcome in run)
        row["pass_at_1"] = passed / len(run)
        row["pass_at_1_interval"] = wilson(passed, len(run))
        row["verdicts"] = dict(Counter(str(one.verdict) for one in run).most_common())
    return row


def _difference(outcomes: Sequence[Outcome], base: Sequence[Outcome]) -> Row:
    """What this way is better by than the base; negative where it is worse."""
    pairs = list(zip(outcomes, base, strict=True))
    nearer = [one.similarity - other.similarity for one, other in pairs]
    row: Row = {
        "exact_match": sum(one.exact - other.exact for one, other in pairs) / len(pairs),
        "exact_match_interval": paired_shares((one.exact, other.exact) for one, other in pairs),
        "edit_similarity": sum(nearer) / len(pairs),
        "edit_similarity_interval": bootstrap_mean(nearer),
    }
    run = [(one.passed, other.passed) for one, other in pairs if one.verdict is not None]
    if run:
        row["pass_at_1"] = sum(one - other for one, other in run) / len(run)
        row["pass_at_1_interval"] = paired_shares(run)
    return row


def _latency(latencies: Sequence[Latency]) -> Row:
    firsts = [one.first_token_s for one in latencies if one.first_token_s is not None]
    return {
        "n": len(latencies),
        "first_token_s": _quantiles(firsts),
        "whole_s": _quantiles([one.whole_s for one in latencies]),
    }


def _quantiles(values: Sequence[float]) -> Row | None:
    """The median and the 90th percentile, each a value that was measured (nearest rank)."""
    if not values:
        return None
    ranked = sorted(values)
    return {
        "median": ranked[math.ceil(len(ranked) * 0.5) - 1],
        "p90": ranked[math.ceil(len(ranked) * 0.9) - 1],
    }


def table(found: Sequence[Row]) -> str:
    """The rows as text: shares and means with their 95 % intervals, times as median / p90."""
    shares = [key for key in SHARES if any(key in row for row in found)]
    compared = [row for row in found if "difference" in row]
    names = ["tasks", "variant"] if compared else ["tasks"]
    titles = [SHARES[key] for key in shares]
    lines = [[*names, "n", *titles, *TIMES.values()]]
    for row in found:
        times = (_time(row["latency"][key]) for key in TIMES)
        cells = (_share(row, key) for key in shares)
        lines.append([*(row[name] for name in names), f"{row['n']:,}", *cells, *times])
    text = _aligned(lines) + "\n"
    if compared:
        lines = [["tasks", "against base", *titles]]
        for row in compared:
            cells = (_share(row["difference"], key, sign="+") for key in shares)
            lines.append([row["tasks"], row["variant"], *cells])
        text += _aligned(lines) + "\n"
    return text + _endings(found)


def _share(row: Row, key: str, sign: str = "") -> str:
    if key not in row:
        return "-"
    low, high = row[f"{key}_interval"]
    return f"{row[key] * 100:{sign}.1f} [{low * 100:{sign}.1f}, {high * 100:{sign}.1f}]"


def _time(times: Row | None) -> str:
    return "-" if times is None else f"{times['median'] * 1000:,.0f} / {times['p90'] * 1000:,.0f}"


def _endings(found: Sequence[Row]) -> str:
    lines = []
    for row in found:
        ends = ", ".join(f"{reason} {count:,}" for reason, count in row["finish_reasons"].items())
        line = f"{row['tasks']}, {row['variant']}: ended by {ends}"
        if "verdicts" in row:
            ends = ", ".join(f"{verdict} {count:,}" for verdict, count in row["verdicts"].items())
            line += f"; run to {ends}"
        lines.append(line + "\n")
    return "".join(lines)


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )
