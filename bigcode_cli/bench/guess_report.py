"""What guessing ahead was worth: rows for programs, a text for people.

Times over times are of one task and round, both ways one after the other; intervals take the tasks
for independent.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from functools import reduce
from operator import add
from typing import Any

from bigcode_cli.bench.guess_run import Pair, Turn
from bigcode_cli.bench.infill_tasks import InfillTask, digest
from bigcode_cli.bench.intervals import bootstrap_ratio, median_interval, wilson
from bigcode_cli.bench.speed_readme import hardware_of
from bigcode_cli.records import InfillRequest, Passes

Row = dict[str, Any]


def guess_rows(pairs: Sequence[Pair], guesses: str) -> list[Row]:
    """A row for each group of tasks of which some were filled.

    Args:
        guesses: who makes them: ``lookup``, or the draft's name.
    """
    done = [pair for pair in pairs if pair.error is None]
    groups = dict.fromkeys(pair.task.group for pair in done)
    return [
        _row(group, [one for one in done if one.task.group == group], guesses) for group in groups
    ]


def guess_settings(tasks: Sequence[InfillTask], request: InfillRequest, rounds: int) -> Row:
    """What was filled, and how."""
    groups = dict.fromkeys(task.group for task in tasks)
    some = {group: [task for task in tasks if task.group == group] for group in groups}
    return {
        "tasks": {group: {"n": len(mine), "sha256": digest(mine)} for group, mine in some.items()},
        "span": request.span or "auto",
        "order": request.order or "auto",
        "temperature": request.sampling.temperature,
        "max_new_tokens": request.max_new_tokens,
        "rounds": rounds,
    }


def guess_raw(pairs: Sequence[Pair]) -> list[Row]:
    """Everything that the rows were made of."""
    return [
        {
            "task": pair.task.id,
            "group": pair.task.group,
            "error": pair.error,
            "texts": list(dict.fromkeys(turn.text for turn in (*pair.plain, *pair.guessed))),
            "plain": [_turn(turn) for turn in pair.plain],
            "guessed": [_turn(turn) for turn in pair.guessed],
            "forced": asdict(pair.forced) if pair.forced is not None else None,
        }
        for pair in pairs
    ]


def _turn(turn: Turn) -> Row:
    told = asdict(turn)
    del told["text"]  # among the task's
    return told


def _row(group: str, pairs: Sequence[Pair], guesses: str) -> Row:
    count = len(pairs)
    exact = sum(pair.is_exact for pair in pairs)
    turns = [turn for pair in pairs for turn in pair.guessed]
    forced = [pair.forced for pair in pairs if pair.forced is not None]
    return {
        "tasks": group,
        "guesses": guesses,
        "n": count,
        "different_texts": sum(not pair.is_equal for pair in pairs),
        "exact_match": exact / count,
        "exact_match_interval": wilson(exact, count),
        "mean_tokens": statistics.fmean(pair.plain[0].tokens for pair in pairs),
        **_told(_sum([turn.passes for turn in turns]), _decoded(turns)),
        "decode": _speed_up([_times(pair, "decode_s") for pair in pairs]),
        "whole": _speed_up([_times(pair, "whole_s") for pair in pairs]),
        "if_right": _told(_sum(forced), sum(_tokens(one) for one in forced)) if forced else None,
    }


def _told(passes: Passes, tokens: int) -> Row:
    """What guesses came to.

    ``tokens_per_pass`` counts those that came into the text, not what a last pass gave beyond it;
    the first token of each is no pass's.
    """
    return {
        "passes": passes.count,
        "tokens_per_pass": tokens / passes.count if passes.count else None,
        "passes_without_guess": passes.without,
        "guessed_tokens": passes.guessed,
        "accepted_tokens": passes.accepted,
        "accepted_share": passes.accepted / passes.guessed if passes.guessed else None,
        "accepted_histogram": list(passes.held),
    }


def _sum(passes: Sequence[Passes | None]) -> Passes:
    return reduce(add, [one for one in passes if one is not None], Passes())


def _decoded(turns: Sequence[Turn]) -> int:
    return sum(turn.tokens - 1 for turn in turns)


def _tokens(passes: Passes) -> int:
    return passes.count + passes.accepted


def _times(pair: Pair, what: str) -> list[tuple[float, float]]:
    """Of each round, seconds without guesses and with."""
    both = zip(pair.plain, pair.guessed, strict=True)
    return [(getattr(one, what), getattr(other, what)) for one, other in both]


def _speed_up(tasks: Sequence[list[tuple[float, float]]]) -> Row | None:
    """Times without guesses over times with: above 1 guessing is faster.

    ``median`` is that of the tasks, of each the median of its rounds, with the interval of a
    median; ``total`` that of all time, with its bootstrap interval over tasks. ``slowest`` is the
    task that lost most, which on a busy machine is noise more than anything.
    """
    timed = [[pair for pair in rounds if min(pair) > 0] for rounds in tasks]
    timed = [rounds for rounds in timed if rounds]
    if not timed:
        return None
    ratios = [statistics.median(plain / guessed for plain, guessed in rounds) for rounds in timed]
    sums = [(sum(a for a, _ in rounds), sum(b for _, b in rounds)) for rounds in timed]
    plain_s, guessed_s = map(sum, zip(*sums, strict=True))
    return {
        "n": len(ratios),
        "median": statistics.median(ratios),
        "median_interval": median_interval(ratios),
        "total": plain_s / guessed_s,
        "total_interval": bootstrap_ratio(sums),
        "slowest": min(ratios),
        "plain_s": plain_s,
        "guessed_s": guessed_s,
    }


def guess_table(found: Sequence[Row]) -> str:
    """The rows as text."""
    return "\n".join(map(_page, found))


def _page(row: Row) -> str:
    lines = [
        f"{row['tasks']}: {row['n']:,} tasks, guesses by {row['guesses']}",
        f"texts that differ    {row['different_texts']:,} of {row['n']:,}",
        f"exact match          {row['exact_match'] * 100:.1f} % of middles of "
        f"{row['mean_tokens']:,.1f} tokens on average",
        f"tokens a pass        {_passes(row)}",
        f"decoding             {_faster(row['decode'])}",
        f"whole requests       {_faster(row['whole'])}",
    ]
    if row["if_right"] is not None:
        lines.append(f"were all right       {_passes(row['if_right'])} (lookup, not timed)")
    return "".join(line + "\n" for line in lines)


def _passes(told: Row) -> str:
    average = told["tokens_per_pass"]
    if average is None:
        return "no pass"
    line = f"{average:.2f} in {told['passes']:,} passes"
    if not told["guessed_tokens"]:
        return f"{line}, nothing guessed"
    times = [f"{held}×{count:,}" for held, count in enumerate(told["accepted_histogram"]) if count]
    return (
        f"{line}; {told['accepted_share'] * 100:.0f} % of {told['guessed_tokens']:,} guesses held: "
        f"{' '.join(times)}, no guess×{told['passes_without_guess']:,}"
    )


def _faster(told: Row | None) -> str:
    if told is None:
        return "not timed"
    low, high = told["median_interval"]
    least, most = told["total_interval"]
    return (
        f"{told['median']:.2f} [{low:.2f}, {high:.2f}] times as fast (median), "
        f"{told['total']:.2f} [{least:.2f}, {most:.2f}] in all: "
        f"{told['plain_s']:.2f} s without, {told['guessed_s']:.2f} s with"
    )


def guess_markdown(answers: Sequence[Row]) -> str:
    """README's table of such answers: a line for each group of tasks; no answer is no table."""
    if not answers:
        return ""
    lines = [
        [
            "hardware", "model", "weights", "tasks", "guesses", "tokens a pass", "guesses held",
            "if all were right", "decoding", "whole request", "texts that differ",
        ],
        ["---"] * 5 + ["---:"] * 6,
    ]  # fmt: skip
    for answer in answers:
        told = answer["environment"]
        for row in answer["results"]:
            right = row["if_right"]
            lines.append(
                [
                    hardware_of(told),
                    told["model"],
                    told["weights"],
                    f"{row['n']:,} × {row['tasks']}",
                    row["guesses"],
                    _average(row),
                    "" if row["accepted_share"] is None else f"{row['accepted_share'] * 100:.0f} %",
                    "" if right is None else _average(right),
                    _interval(row["decode"]),
                    _interval(row["whole"]),
                    f"{row['different_texts']:,}",
                ]
            )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _average(told: Row) -> str:
    average = told["tokens_per_pass"]
    return "" if average is None else f"{average:.2f}"


def _interval(told: Row | None) -> str:
    if told is None:
        return ""
    low, high = told["median_interval"]
    return f"{told['median']:.2f} [{low:.2f}, {high:.2f}] ×"
