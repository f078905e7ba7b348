import re
from collections.abc import Sequence
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.errors import InputError
from bigcode_cli.training.heads.examples import Example, Mark, bio_tags, read_example, split
from bigcode_cli.training.heads.scores import Item, macro_f1, score_classes
from tests.tokenizers import tiny_tokenizer

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@st.composite
def marked(draw: st.DrawFn) -> tuple[str, list[Mark]]:
    text = draw(TEXTS)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pairs = zip(cuts[::2], cuts[1::2], strict=False)
    return text, [Mark(start, end, draw(st.sampled_from("AB"))) for start, end in pairs]


def slow_tags(text: str, marks: Sequence[Mark], lengths: Sequence[int]) -> list[str]:
    """Each token's bytes against each part's, one by one."""
    ends = list(accumulate(lengths))
    owners = []
    for end, length in zip(ends, lengths, strict=True):
        own = set(range(end - length, end))
        touching = [
            mark
            for mark in marks
            if own & set(range(len(text[: mark.start].encode()), len(text[: mark.end].encode())))
        ]
        owners.append(touching[0] if touching else None)
    return [
        "O" if mark is None else f"{'I' if at and owners[at - 1] is mark else 'B'}-{mark.label}"
        for at, mark in enumerate(owners)
    ]


@given(marked())
def test_tags_are_those_of_the_tokens_that_a_part_touches(case: tuple[str, list[Mark]]) -> None:
    text, marks = case
    lengths = [tiny_tokenizer().byte_lengths[id_] for id_ in tiny_tokenizer().encode(text)]
    assert bio_tags(text, marks, lengths) == slow_tags(text, marks, lengths)


ITEMS = st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.just(3)))


@given(st.lists(st.tuples(ITEMS, ITEMS)))
def test_scores_are_those_of_counting(texts: list[tuple[set[Item], set[Item]]]) -> None:
    found = score_classes("abc", texts)
    known = []
    for score in found:
        everything = [
            (item in wanted, item in told)
            for wanted, told in texts
            for item in wanted | told
            if item[0] == score.label
        ]
        right = sum(a and b for a, b in everything)
        told, support = sum(b for _, b in everything), sum(a for a, _ in everything)
        assert score.support == support
        assert score.precision == (right / told if told else None)
        assert score.recall == (right / support if support else None)
        if score.precision and score.recall:
            precision, recall = score.precision, score.recall
            assert score.f1 == pytest.approx(2 * precision * recall / (precision + recall))
        else:
            assert score.f1 == (0 if everything else None)
        known += [] if score.f1 is None else [score.f1]
    assert macro_f1(found) == (pytest.approx(sum(known) / len(known)) if known else None)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("ab"))), st.floats(0, 0.99))
def test_a_split_keeps_equal_texts_together(records: list[tuple[int, str]], share: float) -> None:
    examples = [Example(f"x:{at}", str(n), (label,)) for at, (n, label) in enumerate(records)]
    kept, held = split(examples, share, seed=3)
    assert sorted(kept + held, key=lambda e: int(e.place[2:])) == examples
    assert not {example.text for example in kept} & {example.text for example in held}
    texts = len({example.text for example in examples})
    assert share * texts - 3 < len({example.text for example in held}) <= share * texts
    assert {e.labels for e in held} <= {e.labels for e in kept}


def test_both_sides_of_a_split_have_the_labels() -> None:
    examples = [Example(f"x:{at}", str(at), ("ab"[at % 10 == 0],)) for at in range(100)]
    kept, held = split(examples, 0.2, seed=0)
    assert [sum(e.labels == ("b",) for e in side) for side in (kept, held)] == [8, 2]


@pytest.mark.parametrize(
    ("content", "kind", "complaint"),
    [
        ({"label": "a"}, "sequence", '"text"'),
        ({"text": "", "label": "a"}, "sequence", '"text"'),
        ({"text": "\ud800", "label": "a"}, "sequence", "surrogate"),
        ({"text": "t", "label": 3}, "sequence", "label"),
        ({"text": "t", "labels": ["a"]}, "sequence", 'no "label"'),
        ({"text": "t"}, "token", '"spans"'),
        ({"text": "t", "spans": [{"start": 0, "end": 2, "label": "a"}]}, "token", "end <= 1"),
        ({"text": "t", "spans": [{"start": True, "end": 1, "label": "a"}]}, "token", "whole"),
        ({"text": "t", "spans": [{"start": 0, "end": 1, "label": "O"}]}, "token", "no span"),
        ({"text": " ", "spans": [{"start": 0, "end": 1, "label": "a"}]}, "token", "blank"),
    ],
)
def test_what_is_no_labelled_text_is_told_with_its_place(
    content: dict[str, object], kind: str, complaint: str
) -> None:
    with pytest.raises(InputError, match=f"f:7: .*{re.escape(complaint)}"):
        read_example(content, "f:7", kind, multi_label=False)  # type: ignore[arg-type]


def test_spans_are_sorted_and_cut_as_classify_cuts_them() -> None:
    spans = [{"start": 3, "end": 6, "label": "b"}, {"start": 0, "end": 1, "label": "a"}]
    found = read_example({"text": "x  yz ", "spans": spans}, "f:1", "token", multi_label=False)
    assert found.marks == (Mark(0, 1, "a"), Mark(3, 5, "b"))
    spans[1]["end"] = 4
    with pytest.raises(InputError, match="overlap"):
        read_example({"text": "x  yz ", "spans": spans}, "f:1", "token", multi_label=False)
