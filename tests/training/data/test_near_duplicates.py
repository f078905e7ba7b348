import random
import subprocess
import sys
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.errors import UsageError
from bigcode_cli.training.data import near_duplicates as near
from bigcode_cli.training.data.near_duplicates import (
    Sketch,
    near_duplicate_groups,
    similarity,
    sketch,
    without_near_duplicates,
)

WORDS = [f"word_{number}" for number in range(400)]


def runs(text: str) -> set[tuple[str, ...]]:
    """The slow, obvious way: runs of five words of a text whose words stand between blanks."""
    words = text.split()
    return {tuple(words[start : start + 5]) for start in range(max(1, len(words) - 4))} - {()}


def jaccard(first: str, second: str) -> float:
    ours, theirs = runs(first), runs(second)
    return len(ours & theirs) / len(ours | theirs) if ours and theirs else 0.0


def edited(words: list[str], draw: random.Random) -> list[str]:
    """A text with some of its words in other places, others or gone."""
    words = list(words)
    for _ in range(draw.randrange(12)):
        place = draw.randrange(len(words))
        words[place : place + draw.randrange(3)] = draw.choices(WORDS, k=draw.randrange(3))
    return words


def family(draw: random.Random, size: int) -> list[str]:
    """Texts of which many stem from one another."""
    texts = [draw.choices(WORDS, k=draw.randrange(8, 160))]
    while len(texts) < size:
        if draw.random() < 0.3:
            texts.append(draw.choices(WORDS, k=draw.randrange(8, 160)))
        else:
            texts.append(edited(draw.choice(texts), draw))
    return [" ".join(words) for words in texts]


def slowly_kept(texts: list[str]) -> list[bool]:
    kept: list[str] = []
    answers = []
    for text in texts:
        answers.append(all(jaccard(text, other) < 0.7 for other in kept))
        if answers[-1]:
            kept.append(text)
    return answers


def slow_groups(texts: list[str]) -> list[list[int]]:
    group = list(range(len(texts)))
    for first, second in combinations(range(len(texts)), 2):
        if jaccard(texts[first], texts[second]) >= 0.7:
            group = [group[first] if one == group[second] else one for one in group]
    found: dict[int, list[int]] = {}
    for number, one in enumerate(group):
        found.setdefault(one, []).append(number)
    return list(found.values())


text = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=30).map(" ".join)


@given(text, text)
def test_similarity_is_that_of_the_runs_of_words(first: str, second: str) -> None:
    assert similarity(sketch(first), sketch(second)) == jaccard(first, second)


@pytest.mark.parametrize("seed", range(3))
def test_near_duplicates_are_those_that_comparing_all_pairs_finds(seed: int) -> None:
    texts = family(random.Random(seed), 120)
    sketches = [sketch(text) for text in texts]
    kept = list(without_near_duplicates(sketches))
    assert kept == slowly_kept(texts)
    assert 20 < sum(kept) < 110
    groups = near_duplicate_groups(sketches)
    assert groups == slow_groups(texts)
    # Groups reach further than pairs do: some have members that are not alike.
    assert any(jaccard(texts[g[0]], texts[n]) < 0.7 for g in groups for n in g)


@settings(max_examples=50)
@given(st.lists(text, max_size=12))
def test_what_is_dropped_is_like_something_kept_before_it(texts: list[str]) -> None:
    answers = list(without_near_duplicates(map(sketch, texts)))
    kept = [text for text, answer in zip(texts, answers, strict=True) if answer]
    for number, answer in enumerate(answers):
        before = [texts[n] for n in range(number) if answers[n]]
        assert answer or any(jaccard(texts[number], other) >= 0.7 for other in before)
    assert len({frozenset(runs(text)) for text in kept if text}) == len([t for t in kept if t])


@settings(max_examples=50)
@given(st.lists(text, max_size=12))
def test_groups_hold_each_number_once_and_in_order(texts: list[str]) -> None:
    groups = near_duplicate_groups([sketch(text) for text in texts])
    assert sorted(n for group in groups for n in group) == list(range(len(texts)))
    assert groups == sorted(map(sorted, groups))


def test_the_threshold_itself_is_near_enough() -> None:
    whole, part = WORDS[:14], WORDS[:11]
    assert jaccard(" ".join(whole), " ".join(part)) == 0.7
    sketches = [sketch(" ".join(words)) for words in (whole, part, WORDS[:10])]
    assert list(without_near_duplicates(sketches)) == [True, False, True]


def test_one_that_is_like_two_others_brings_them_together() -> None:
    others = (WORDS[:100], WORDS[20:120], WORDS[10:110])
    texts = [" ".join(words) for words in (*others, WORDS[200:])]
    assert jaccard(texts[0], texts[1]) < 0.7 < jaccard(texts[0], texts[2])
    assert near_duplicate_groups(list(map(sketch, texts))) == [[0, 1, 2], [3]]


def test_operators_and_white_space_are_no_words() -> None:
    first = "def f(a, b):\n    return a + b * g(c)\n"
    assert similarity(sketch(first), sketch("def f(a,b): return a-b  / g [c]")) == 1
    assert similarity(sketch("größe = zahl_1 über müde ärzte"), sketch("gr e zahl_1 ber m")) == 0
    assert similarity(sketch("数 学 変 数 値"), sketch("数 学 変 数 値")) == 1


@pytest.mark.parametrize("mark", ["#", "//", " *", "--"])
def test_a_licence_at_the_head_makes_no_two_files_alike(mark: str) -> None:
    terms = " ".join(WORDS[:150])
    header = f"{mark} Copyright 2020 somebody\n\n{mark} {terms}\n\n"
    codes = [" ".join(WORDS[start : start + 20]) for start in (200, 300)]
    assert similarity(*(sketch(header + code) for code in codes)) == 0
    assert similarity(sketch(header + codes[0]), sketch(codes[0])) == 1
    # Other comments count, and so does what is nothing but a licence.
    plain = header.replace("Copyright", "Written")
    assert similarity(*(sketch(plain + code) for code in codes)) > 0.7
    assert similarity(sketch(header), sketch(header)) == 1


@pytest.mark.parametrize("nothing", ["", "\n", "()[]{} + -\n"])
def test_a_text_without_words_is_like_no_other(nothing: str) -> None:
    sketches = [sketch(nothing)] * 3
    assert similarity(*sketches[:2]) == 0
    assert list(without_near_duplicates(sketches)) == [True] * 3
    assert near_duplicate_groups(sketches) == [[0], [1], [2]]


def test_a_text_of_few_words_is_like_itself() -> None:
    sketches = [sketch("import os"), sketch("import sys"), sketch("import  os\n")]
    assert near_duplicate_groups(sketches) == [[0, 2], [1]]
    assert list(without_near_duplicates(sketches)) == [True, True, False]


def test_a_lone_surrogate_does_no_harm() -> None:
    assert similarity(sketch("a \ud800 b"), sketch("a \ud800 b")) == 1


def test_a_sketch_does_not_depend_on_the_process() -> None:
    code = (
        "from bigcode_cli.training.data.near_duplicates import sketch\n"
        "print(sketch('one two three four five six').signature.hex())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == sketch("one two three four five six").signature.hex()


def test_many_copies_take_no_time_squared() -> None:
    sketches = [sketch(" ".join(WORDS))] * 5000
    assert len(near_duplicate_groups(sketches)) == 1
    assert sum(without_near_duplicates(sketches)) == 1


def test_without_the_library_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(UsageError) as caught:
        near_duplicate_groups([Sketch(b"", b"")])
    assert "datasketch" in caught.value.message
    assert caught.value.hint == "pip install 'bigcode-cli[train]'"


def test_the_library_is_imported_only_when_needed() -> None:
    code = (
        "import sys, bigcode_cli.training.data.near_duplicates\n"
        "sys.exit('datasketch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bands_find_pairs_at_the_threshold() -> None:
    assert 1 - (1 - near.THRESHOLD**near.ROWS) ** near.BANDS > 0.9998
