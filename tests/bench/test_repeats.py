"""What counts as an edit among lines that are much like it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.bench import repeats as module
from bigcode_cli.bench.repeats import AFTER, BEFORE, repeated_share, repeats

CASES = "    check('a', one(1))\n    check('b', two(2))\n    check('c', three(3))\n"
NEXT = "    check('d', four(1))\n    check('b', two(4))\n    check('a', one(3))"
OTHER = "    import os\n    while os.path:\n        raise Something else"


def test_a_block_like_its_neighbours_repeats_and_another_does_not() -> None:
    assert repeats(CASES, NEXT, "")
    assert repeats("", NEXT, CASES)
    assert not repeats(CASES, OTHER, CASES)
    assert not repeats("", NEXT, "")


def test_a_copy_is_no_edit_wherever_it_stands_near() -> None:
    copy = NEXT.replace("    ", "  ", 1)  # another indentation of its first line
    assert not repeats(CASES + copy + "\n", NEXT, "")
    assert not repeats(CASES, NEXT, copy)
    assert repeats(CASES + copy + "\n" + "#" * BEFORE + "\n" + CASES, NEXT, "")


def test_what_stands_too_far_away_does_not_count() -> None:
    assert not repeats(CASES + "#" * BEFORE, NEXT, "#" * AFTER + CASES)


@pytest.mark.parametrize(
    ("block", "text", "share"),
    [
        ("a b c d e", "a b c d e", 1.0),
        ("a b c d", "a b c d", 0.0),  # no run is long enough
        ("a b c d e f g h i j", "x a b c d e y", 0.5),
        ("a b c d e f", "b c d e f", 5 / 6),
        ("a.b(c)", "a.b(c)", 1.0),  # signs are words
        ("", "a b c d e", 0.0),
    ],
)
def test_the_share_is_of_words_in_runs(block: str, text: str, share: float) -> None:
    assert repeated_share(block, [text]) == share


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=20))
def test_the_share_is_that_of_a_search_for_every_run(block: list[str], text: list[str]) -> None:
    joined = " ".join(text) + " "
    covered = set()
    for at in range(len(block) - module.RUN + 1):
        if " ".join(block[at : at + module.RUN]) + " " in joined:
            covered |= set(range(at, at + module.RUN))
    expected = len(covered) / len(block) if block else 0.0
    assert repeated_share(" ".join(block), [" ".join(text)]) == expected
