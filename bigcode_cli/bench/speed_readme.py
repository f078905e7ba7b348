"""README's table of speeds, made of the answers that are committed."""

from collections.abc import Sequence
from itertools import compress
from typing import Any

from bigcode_cli.bench.sides import OURS

Row = dict[str, Any]

TITLES = ("hardware", "model", "weights", "test", "ours", "first token, ms", "of limit")
FIGURES = {"ours", "first token, ms", "of limit", "ratio"}


def table(answers: Sequence[Row]) -> str:
    """A line for each case of each answer, in Markdown: tokens a second, and a column each peer.

    The ratio is to the fastest peer of the case, with its 95 % interval. A column that tells
    nothing is left out, and no answer is no table.
    """
    if not answers:
        return ""
    peers = list(
        dict.fromkeys(
            row["engine"]
            for answer in answers
            for row in answer["results"]
            if row["engine"] != OURS
        )
    )
    titles = [*TITLES[:-2], *peers, *(["ratio"] if peers else []), *TITLES[-2:]]
    right = FIGURES | set(peers)
    rule = ["---:" if title in right else "---" for title in titles]
    lines = [line for answer in answers for line in _lines(answer, peers)]
    told = [any(cells) for cells in zip(*lines, strict=True)] if lines else [True] * len(titles)
    shown = [list(compress(line, told)) for line in (titles, rule, *lines)]
    return "".join(f"| {' | '.join(line)} |\n" for line in shown)


def hardware_of(told: Row) -> str:
    """Of an answer's environment: the GPU, or how much of the CPU."""
    if told["gpu"]:
        return str(told["gpu"])
    threads = told["threads"]
    return f"{threads} thread{'s' * (threads != 1)} of {told['cpu']}"


def _lines(answer: Row, peers: Sequence[str]) -> list[list[str]]:
    told = answer["environment"]
    hardware = hardware_of(told)
    lines = []
    for ours in answer["results"]:
        if ours["engine"] != OURS or "median_ts" not in ours:
            continue
        others = {
            row["engine"]: row
            for row in answer["results"]
            if row["test"] == ours["test"] and row["engine"] != OURS and "median_ts" in row
        }
        line = [hardware, told["model"], told["weights"], ours["test"], _speed(ours)]
        line += [_speed(others[peer]) if peer in others else "" for peer in peers]
        if peers:
            best = max(others.values(), key=lambda row: float(row["median_ts"]), default=None)
            line.append("" if best is None else _ratio(best))
        lines.append([*line, _first(ours), _limit(ours)])
    return lines


def _speed(row: Row) -> str:
    speed = row["median_ts"]
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:,.1f}"


def _ratio(row: Row) -> str:
    if row.get("ratio") is None:
        return ""
    low, high = row["ratio"]["interval"]
    return f"{row['ratio']['median']:.2f} [{low:.2f}, {high:.2f}]"


def _first(row: Row) -> str:
    seconds = row.get("first_token_s")
    return "" if seconds is None else f"{seconds * 1000:,.1f}"


def _limit(row: Row) -> str:
    share = row.get("bandwidth_fraction", row.get("compute_fraction"))
    return "" if share is None else f"{share * 100:.0f} %"
