"""Guesses from the text so far, against a search by brute force."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.engine.lookup import MAX_MATCH, MAX_PLACES, Lookup, lookup_rates
from bigcode_cli.engine.protocol import Prompt, Sampler
from bigcode_cli.records import SamplingOptions


def lookup(ids: Sequence[int], rows: int = 1) -> list[Lookup]:
    samplers = (Sampler(options=SamplingOptions(), seed=0),) * rows
    return Lookup.of(Prompt(ids=tuple(ids), samplers=samplers, max_new_tokens=9), lookup_rates())


def by_brute_force(ids: Sequence[int]) -> list[int]:
    """What followed the longest match of two tokens and more, of equals the latest."""
    places = [p for p in range(2, len(ids)) if list(ids[p - 2 : p]) == list(ids[-2:])]
    lengths = {}
    for place in places[-MAX_PLACES:]:
        length = 2
        while length < MAX_MATCH and place > length and ids[place - length - 1] == ids[-length - 1]:
            length += 1
        lengths[place] = length
    if not lengths:
        return []
    place = max(lengths, key=lambda p: (lengths[p], p))
    text = list(ids)
    for _ in range(15):
        text.append(text[place])
        place += 1
    return text[len(ids) :]


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=60),
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), max_size=8),
    st.integers(1, 15),
)
def test_guesses_are_what_followed_the_longest_match(
    prompt: list[int], more: list[list[int]], count: int
) -> None:
    (row,) = lookup(prompt)
    text = list(prompt)
    for ids in [[], *more]:
        if ids:
            row.learn(ids)
            text += ids
        assert row.guess(count) == by_brute_force(text)[:count]
        assert len(row.chances(count)) == len(row.guess(count))


def test_nothing_is_guessed_of_what_is_new() -> None:
    assert lookup([1])[0].guess(5) == []
    assert lookup([1, 2, 3, 4])[0].guess(5) == []
    assert lookup([1, 2, 3, 1])[0].chances(5) == []


def test_a_repeated_line_is_guessed_on_and_on() -> None:
    assert lookup([7, 8, 9, 7, 8, 9, 7])[0].guess(7) == [8, 9, 7, 8, 9, 7, 8]


def test_rows_of_one_prompt_do_not_see_each_others_output() -> None:
    one, other = lookup([1, 2, 3], 2)
    one.learn([1, 2])
    other.learn([2, 3])
    assert one.guess(2) == [3, 1]
    assert other.guess(2) == [2, 3]


def test_chances_follow_what_held_without_any_guess_being_verified() -> None:
    (row,) = lookup([1, 2] * 20)
    before = row.chances(1)[0]
    for _ in range(40):
        row.learn([row.guess(1)[0]])
    assert row.chances(1)[0] > max(before, 0.97)
    for _ in range(30):
        row.learn([50, 51, 1, 2])  # 50 followed now, not what was guessed: see the match of 2
        row.learn([60])
    assert row.guess(1) == [50] or row.chances(1)[0] < before
