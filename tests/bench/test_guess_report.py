"""What guesses gained, summed up."""

from typing import Any

import pytest

from bigcode_cli.bench.guess_report import (
    guess_markdown,
    guess_raw,
    guess_rows,
    guess_settings,
    guess_table,
)
from bigcode_cli.bench.guess_run import Pair, Turn
from bigcode_cli.bench.infill_tasks import InfillTask
from bigcode_cli.records import InfillRequest, Passes


def turn(whole: float, decode: float, passes: Passes | None = None, text: str = "x") -> Turn:
    return Turn(text=text, tokens=9, whole_s=whole, decode_s=decode, passes=passes)


def pair(name: str, *turns: Turn, forced: Passes | None = None, group: str = "edit") -> Pair:
    task = InfillTask(prefix="a", suffix="b", middle="x", id=name, group=group)
    return Pair(task=task, plain=list(turns[::2]), guessed=list(turns[1::2]), forced=forced)


HELD = Passes(without=2, held=(1, 0, 1), guessed=6)
"""Four passes: 8 tokens were the text's, of which 6 came of them."""

PAIRS = [
    pair("a", turn(3.0, 2.0), turn(2.0, 1.0, HELD), forced=Passes(0, (0, 0, 2), 6)),
    pair("b", turn(2.0, 1.0), turn(2.0, 1.0, HELD), turn(8.0, 3.0), turn(2.0, 1.0, HELD)),
    pair("c", turn(1.0, 0.5), turn(2.0, 1.0, HELD, text="y")),
]


def test_ratios_are_of_tasks_and_of_all_time() -> None:
    (row,) = guess_rows(PAIRS, "lookup")
    # Of b, whose rounds give 1 and 4 (decoding 1 and 3), the median.
    assert (row["whole"]["median"], row["whole"]["slowest"]) == (1.5, 0.5)
    assert row["whole"]["total"] == 14 / 8
    assert (row["decode"]["median"], row["decode"]["n"]) == (2.0, 3)
    assert row["decode"]["total"] == 6.5 / 4
    low, high = row["decode"]["median_interval"]
    assert low <= 2.0 <= high
    low, high = row["whole"]["total_interval"]
    assert low <= 14 / 8 <= high


def test_guesses_are_counted_over_every_turn_and_tokens_of_the_texts_alone() -> None:
    (row,) = guess_rows(PAIRS, "lookup")
    assert (row["passes"], row["passes_without_guess"]) == (16, 8)
    assert (row["guessed_tokens"], row["accepted_tokens"]) == (24, 8)
    assert row["accepted_histogram"] == [4, 0, 4]
    assert row["tokens_per_pass"] == 4 * 8 / 16
    assert row["accepted_share"] == pytest.approx(1 / 3)
    assert row["if_right"]["tokens_per_pass"] == 3.0


def test_texts_that_differ_and_failures_are_counted_apart() -> None:
    broken = pair("d")
    broken.error = "no room"
    (row,) = guess_rows([*PAIRS, broken], "mini")
    assert (row["n"], row["different_texts"]) == (3, 1)
    assert (row["guesses"], row["exact_match"]) == ("mini", 1.0)
    assert guess_rows([broken], "mini") == []
    raw = guess_raw([*PAIRS, broken])
    assert [one["error"] for one in raw] == [None, None, None, "no room"]
    assert [one["texts"] for one in raw] == [["x"], ["x"], ["x", "y"], []]


def test_groups_have_a_row_each_and_no_time_none() -> None:
    still = pair("e", turn(1.0, 0.0), turn(1.0, 0.0, Passes()), group="line")
    edits, line = guess_rows([*PAIRS, still], "lookup")
    assert (edits["tasks"], line["tasks"]) == ("edit", "line")
    assert line["decode"] is None
    assert (line["tokens_per_pass"], line["if_right"]) == (None, None)
    text = guess_table([edits, line])
    assert "decoding             not timed" in text
    assert "tokens a pass        no pass" in text


def test_the_text_tells_all_of_it() -> None:
    text = guess_table(guess_rows(PAIRS, "lookup"))
    assert text.splitlines()[:4] == [
        "edit: 3 tasks, guesses by lookup",
        "texts that differ    1 of 3",
        "exact match          100.0 % of middles of 9.0 tokens on average",
        "tokens a pass        2.00 in 16 passes; 33 % of 24 guesses held: 0×4 2×4, no guess×8",
    ]
    assert "1.75 [" in text
    assert "14.00 s without, 8.00 s with" in text
    assert text.endswith("were all right       3.00 in 2 passes; 67 % of 6 guesses held: 2×2, "
                         "no guess×0 (lookup, not timed)\n")  # fmt: skip


def test_settings_tell_the_tasks_and_the_way() -> None:
    tasks = [one.task for one in PAIRS]
    told = guess_settings(tasks, InfillRequest(prefix="", suffix="", max_new_tokens=7), 3)
    assert told["tasks"]["edit"]["n"] == 3
    assert (told["rounds"], told["max_new_tokens"], told["span"]) == (3, 7, "auto")


def test_the_readme_has_a_line_for_each_group_of_each_answer() -> None:
    answer: dict[str, Any] = {
        "environment": {"gpu": "A GPU", "model": "mini", "weights": "bfloat16"},
        "results": guess_rows(PAIRS, "lookup"),
    }
    *_, line = guess_markdown([answer]).splitlines()
    head = "| A GPU | mini | bfloat16 | 3 × edit | lookup | 2.00 | 33 % | 3.00 | 2.00 ["
    assert line.startswith(head)
    assert line.endswith("] × | 1 |")
    on_cpu = {"gpu": None, "cpu": "A CPU", "threads": 2}
    both = guess_markdown([answer, {**answer, "environment": {**answer["environment"], **on_cpu}}])
    assert "| 2 threads of A CPU | mini |" in both
    assert guess_markdown([]) == ""
