"""What changes cost, counted by hand."""

import math

from bigcode_cli.records import ChangeCosts
from bigcode_cli.training.heads.changes import change_costs
from bigcode_cli.training.heads.examples import Example, Mark
from tests.tokenizers import tiny_tokenizer


def costs_of(*examples: tuple[str, list[str]]) -> ChangeCosts:
    """Of texts and the parts that are marked in them."""
    made = []
    for text, parts in examples:
        starts = [text.index(part) for part in parts]
        marks = [
            Mark(start, start + len(part), "X") for start, part in zip(starts, parts, strict=True)
        ]
        made.append(Example("t", text, marks=tuple(marks)))
    return change_costs(made, tiny_tokenizer())


def rare(changes: int, boundaries: int) -> float:
    return -math.log((changes + 1) / (boundaries + 2))


def test_each_kind_of_boundary_has_its_own_cost() -> None:
    text = "Q1.Q2 Q3;Q4Q5"
    assert [len(tiny_tokenizer().token_bytes(at)) for at in tiny_tokenizer().encode(text)] == [
        1
    ] * len(text)
    # Words: 5 inside and one between the last two; marks: 4; blanks: 2.
    plain = costs_of((text, []))
    assert plain == ChangeCosts(word=rare(0, 6), mark=rare(0, 4), free=rare(0, 2))
    marked = costs_of((text, ["Q1.Q2", "Q4"]))
    assert marked == ChangeCosts(word=rare(1, 6), mark=rare(1, 4), free=rare(1, 2))


def test_a_part_next_to_a_part_is_one_change() -> None:
    assert costs_of(("ZQJ", ["ZQ", "J"])).word == rare(1, 2)
    together = costs_of(("ZQJ", ["ZQ", "J"]), ("ZQJ", ["ZQJ"]))
    assert together.word == rare(1, 4)


def test_what_was_never_seen_costs_a_bit() -> None:
    assert costs_of(("Q", ["Q"])).word == math.log(2)
