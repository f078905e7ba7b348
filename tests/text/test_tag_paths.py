"""Paths through the labels of tokens against all paths there are, and planted mistakes."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import astuple
from itertools import pairwise, product

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bigcode_cli.records import ChangeCosts
from bigcode_cli.text import tag_paths as module
from bigcode_cli.text.spans import Tag, merged, read_tags
from bigcode_cli.text.tag_paths import FREE, MARK, WORD, boundaries, followers, goes_on, likeliest

BIO = ("O", "B-A", "I-A", "B-B", "I-B")
BILOU = ("O", "B-A", "I-A", "L-A", "U-A")
PLAIN = ("O", "A", "B")
NO_OUTSIDE = ("A", "B")
ALL_BEGIN = ("B-A", "B-B")
SCHEMES = st.sampled_from([BIO, BILOU, PLAIN, NO_OUTSIDE, ALL_BEGIN])

# Sums of eighths are exact, so that what is equal is equal whatever the order of the sum.
EIGHTHS = st.integers(-80, 0).map(lambda eighths: eighths / 8)
COSTS = st.integers(0, 80).map(lambda eighths: eighths / 8)
ALL_COSTS = st.builds(ChangeCosts, word=COSTS, mark=COSTS, free=COSTS)
NOTHING = ChangeCosts(word=0.0, mark=0.0, free=0.0)


def drawn(
    data: st.DataObject, most: int, values: st.SearchStrategy[float] = EIGHTHS
) -> tuple[tuple[Tag, ...], "array[float]", bytes]:
    """Tags, scores of some tokens, and the kinds of their boundaries."""
    tags = read_tags(data.draw(SCHEMES))
    tokens = data.draw(st.integers(0, most))
    size = tokens * len(tags)
    scores = array("f", data.draw(st.lists(values, min_size=size, max_size=size)))
    bounds = max(0, tokens - 1)
    kinds = data.draw(
        st.lists(st.sampled_from((WORD, MARK, FREE)), min_size=bounds, max_size=bounds)
    )
    return tags, scores, bytes(kinds)


def path_of(
    tags: Sequence[Tag], scores: "array[float]", kinds: bytes, costs: ChangeCosts
) -> list[int]:
    return module.best_path(scores, followers(tags), kinds, costs)


def cost_of(path: Sequence[int], tags: Sequence[Tag], kinds: bytes, costs: ChangeCosts) -> float:
    """Of its changes."""
    prices = dict(zip((WORD, MARK, FREE), (costs.word, costs.mark, costs.free), strict=True))
    steps = zip(kinds, pairwise(path), strict=True)
    return sum(prices[kind] for kind, (s, t) in steps if not goes_on(tags[s], tags[t]))


def worth(
    path: Sequence[int],
    tags: Sequence[Tag],
    scores: "array[float]",
    kinds: bytes,
    costs: ChangeCosts,
) -> float:
    """What the best path has most of."""
    told = sum(scores[at * len(tags) + label] for at, label in enumerate(path))
    return told - cost_of(path, tags, kinds, costs)


def check_path(data: st.DataObject) -> None:
    """It is worth as much as the best of all paths, and is that one where there is one alone."""
    tags, scores, kinds = drawn(data, 4)
    costs = data.draw(ALL_COSTS)
    found = path_of(tags, scores, kinds, costs)
    every = list(product(range(len(tags)), repeat=len(scores) // len(tags)))
    values = [worth(path, tags, scores, kinds, costs) for path in every]
    assert values[every.index(tuple(found))] == max(values)


@settings(max_examples=300)
@given(st.data())
def test_no_path_is_better(data: st.DataObject) -> None:
    check_path(data)


@given(st.data())
def test_where_changes_cost_nothing_each_token_has_its_likeliest_label(
    data: st.DataObject,
) -> None:
    values = st.floats(-1e4, 0, width=32) | st.sampled_from([-1.0, -0.5, float("-inf")])
    tags, scores, kinds = drawn(data, 30, values)
    assert path_of(tags, scores, kinds, NOTHING) == likeliest(scores, len(tags))


@given(st.data())
def test_changes_never_cost_more_than_those_of_the_likeliest_labels(data: st.DataObject) -> None:
    tags, scores, kinds = drawn(data, 30)
    costs = data.draw(ALL_COSTS)
    found = cost_of(path_of(tags, scores, kinds, costs), tags, kinds, costs)
    assert found <= cost_of(likeliest(scores, len(tags)), tags, kinds, costs)


@given(st.data())
def test_dearer_changes_are_never_more(data: st.DataObject) -> None:
    tags, scores, kinds = drawn(data, 30)
    low, high = sorted(data.draw(st.tuples(COSTS, COSTS)))
    one = ChangeCosts(word=1.0, mark=1.0, free=1.0)
    counts = [
        cost_of(
            path_of(tags, scores, kinds, ChangeCosts(word=at, mark=at, free=at)), tags, kinds, one
        )
        for at in (low, high)
    ]
    assert low == high or counts[1] <= counts[0]


@given(st.data())
def test_what_no_change_is_worth_has_none_where_that_can_be(data: st.DataObject) -> None:
    tags, scores, kinds = drawn(data, 30)
    far = ChangeCosts(word=1e4, mark=1e4, free=1e4)
    found = path_of(tags, scores, kinds, far)
    spelled = [tags[label] for label in found]
    can = any(goes_on(tag, tag) for tag in tags)
    assert not can or all(goes_on(s, t) for s, t in pairwise(spelled))
    assert not can or len({tag.label for tag in spelled}) <= 1


@given(st.data())
def test_changes_are_where_parts_begin_and_end(data: st.DataObject) -> None:
    tags = read_tags(data.draw(SCHEMES))
    spelled = data.draw(st.lists(st.sampled_from(tags), max_size=12))
    changes = [at for at, (s, t) in enumerate(pairwise(spelled), 1) if not goes_on(s, t)]
    runs = pairwise([0, *changes, len(spelled)])
    parts = [(start, end, spelled[start].label) for start, end in runs if start < end]
    assert [part for part in parts if part[2] is not None] == list(merged(spelled))


def test_a_long_text_is_read_as_its_parts_are() -> None:
    tags = read_tags(PLAIN)
    part = array("f", [-0.1, -3.0, -4.0] * 3 + [-2.5, -0.1, -9.0] * 2 + [-0.3, -1.5, -9.0])
    costs = ChangeCosts(word=2.0, mark=1.0, free=0.5)
    once = path_of(tags, part, bytes([FREE] * 5), costs)
    assert once == [0, 0, 0, 1, 1, 0]
    kinds = bytes([FREE] * (6 * 20_000 - 1))
    assert path_of(tags, part * 20_000, kinds, costs) == once * 20_000


def test_of_equals_the_lowest_is_the_likeliest() -> None:
    assert likeliest(array("f", [-2, -1, -1, -3, -3, -3]), 3) == [1, 0]
    assert likeliest(array("f"), 3) == []


@pytest.mark.parametrize(
    ("text", "lengths", "kinds"),
    [
        ("", [], []),
        ("ab", [2], []),
        ("ab1", [1, 1, 1], [WORD, WORD]),
        ("a.b", [1, 1, 1], [MARK, MARK]),
        ("a_b", [1, 1, 1], [MARK, MARK]),
        ("a.. b", [1, 1, 1, 1, 1], [MARK, MARK, FREE, FREE]),
        ("='a'", [1, 1, 1, 1], [FREE] * 3),
        ('="`x', [1, 1, 1, 1], [FREE] * 3),
        ("a\nb\tc", [1, 1, 1, 2], [FREE] * 3),
        ("éa日b", [1, 1, 1, 1, 2, 1], [WORD] * 5),
        ("日.é ", [3, 1, 2, 1], [MARK, MARK, FREE]),
        ("x ab. y", [1, 3, 2, 1], [FREE, MARK, FREE]),
    ],
)
def test_boundaries_are_told_by_the_bytes_beside_them(
    text: str, lengths: list[int], kinds: list[int]
) -> None:
    assert list(boundaries(text, lengths)) == kinds


@given(st.text(), st.data())
def test_the_kind_of_a_boundary_hangs_on_its_characters_alone(
    text: str, data: st.DataObject
) -> None:
    size = len(text.encode())
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, size - 1))))) if size > 1 else []
    lengths = [stop - start for start, stop in pairwise([0, *cuts, size])]
    characters = [character for character in text for _ in character.encode()]

    def kind(character: str) -> int:
        if not character.isascii() or character.isalnum():
            return WORD
        return FREE if character.isspace() or character in "\"'`" else MARK

    expected = [max(kind(characters[at - 1]), kind(characters[at])) for at in cuts]
    assert list(boundaries(text, lengths)) == expected


Plant = Callable[[pytest.MonkeyPatch], None]


def begins_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(f"{__name__}.followers", lambda tags: [
        [at for at, t in enumerate(tags) if s.label == t.label and not s.ends]
        for s in tags
    ])  # fmt: skip


def followers_for_sources(patch: pytest.MonkeyPatch) -> None:
    real = followers

    def wrong(tags: Sequence[Tag]) -> list[list[int]]:
        follow = real(tags)
        return [
            [at for at, after in enumerate(follow) if label in after] for label in range(len(tags))
        ]

    patch.setattr(f"{__name__}.followers", wrong)


def prices_swapped(patch: pytest.MonkeyPatch) -> None:
    real = module.best_path

    def wrong(
        scores: "array[float]", follow: Sequence[Sequence[int]], kinds: bytes, costs: ChangeCosts
    ) -> list[int]:
        word, mark, free = astuple(costs)
        return real(scores, follow, kinds, ChangeCosts(word=free, mark=mark, free=word))

    patch.setattr(module, "best_path", wrong)


def boundaries_off_by_one(patch: pytest.MonkeyPatch) -> None:
    real = module.best_path

    def wrong(
        scores: "array[float]", follow: Sequence[Sequence[int]], kinds: bytes, costs: ChangeCosts
    ) -> list[int]:
        return real(scores, follow, kinds[1:] + kinds[:1], costs)

    patch.setattr(module, "best_path", wrong)


def one_token_at_a_time(patch: pytest.MonkeyPatch) -> None:
    def wrong(scores: "array[float]", follow: Sequence[Sequence[int]], *_: object) -> list[int]:
        return likeliest(scores, len(follow))

    patch.setattr(module, "best_path", wrong)


@pytest.mark.parametrize(
    "plant",
    [
        begins_lost,
        followers_for_sources,
        prices_swapped,
        boundaries_off_by_one,
        one_token_at_a_time,
    ],
)
def test_a_planted_mistake_is_seen(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    draw = settings(max_examples=1000, phases=[Phase.generate], database=None)(
        given(st.data())(check_path)
    )
    with pytest.raises((AssertionError, ExceptionGroup)):
        draw()
