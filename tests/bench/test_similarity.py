"""The edit distance against the textbook's recurrence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.bench.similarity import edit_similarity, levenshtein


def recurrence(first: str, second: str) -> int:
    """Wagner and Fischer 1974, a row at a time."""
    row = list(range(len(second) + 1))
    for place, character in enumerate(first, start=1):
        above, row = row, [place]
        for column, other in enumerate(second, start=1):
            replaced = above[column - 1] + (character != other)
            row.append(min(above[column] + 1, row[-1] + 1, replaced))
    return row[-1]


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ("kitten", "sitting", 3),
        ("saturday", "sunday", 3),
        ("", "abc", 3),
        ("abc", "", 3),
        ("", "", 0),
        ("ab", "ba", 2),
        ("é🙂", "é🙃", 1),
        ("a" * 100, "b" + "a" * 100, 1),
    ],
)
def test_known_distances(first: str, second: str, distance: int) -> None:
    assert levenshtein(first, second) == distance


@given(st.text("ab\n", max_size=40), st.text("ab\n", max_size=40))
def test_distance_equals_the_recurrence(first: str, second: str) -> None:
    assert levenshtein(first, second) == recurrence(first, second)


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_characters_and_lengths(first: str, second: str) -> None:
    assert levenshtein(first, second) == recurrence(first, second) == levenshtein(second, first)


@given(st.text(max_size=40), st.text(max_size=40))
def test_similarity_is_a_share_of_the_longer_text(first: str, second: str) -> None:
    similarity = edit_similarity(first, second)
    assert 0 <= similarity <= 1
    assert (similarity == 1) == (first == second)


def test_similarity_of_known_texts() -> None:
    assert edit_similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)
    assert edit_similarity("abc", "xyz") == 0
    assert edit_similarity("", "") == 1
