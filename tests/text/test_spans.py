"""Spans against their laws, on any text and any tags, and against a twin that goes by characters.

The planted mistakes at the end show that the laws bite.
"""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bigcode_cli.records import LabelledSpan
from bigcode_cli.text import spans as module
from bigcode_cli.text.spans import find_spans, merged, read_tags, redacted

BIO = ("O", "B-A", "I-A", "B-B", "I-B")
BILOU = ("O", *(f"{sign}-{label}" for label in "AB" for sign in "BILU"))
PLAIN = ("O", "A", "B")
TEXTS = st.text(
    st.sampled_from("ab \t\n\r\ufeff\u3000é日🙂\u0301\x85") | st.characters(codec="utf-8")
)


def drawn(data: st.DataObject) -> tuple[str, list[int], list[str], list[float]]:
    """A text, its bytes cut into tokens anywhere, and a label and a score of each token."""
    text = data.draw(TEXTS)
    size = len(text.encode())
    cuts = data.draw(st.sets(st.integers(1, max(1, size - 1))) if size > 1 else st.just(set()))
    bounds = [0, *sorted(cuts), size] if size else [0]
    lengths = [stop - start for start, stop in pairwise(bounds)]
    labels = st.sampled_from(data.draw(st.sampled_from([BIO, BILOU, PLAIN])))
    count = len(lengths)
    names = data.draw(st.lists(labels, min_size=count, max_size=count))
    scores = data.draw(st.lists(st.floats(0, 1), min_size=count, max_size=count))
    return text, lengths, names, scores


def found(
    text: str, lengths: Sequence[int], names: Sequence[str], scores: Sequence[float]
) -> tuple[LabelledSpan, ...]:
    tags = dict(zip(BIO + BILOU, read_tags(BIO + BILOU), strict=True))
    tags |= dict(zip(PLAIN, read_tags(PLAIN), strict=True))
    return module.find_spans(text, [tags[name] for name in names], scores, lengths)


def check_laws(text: str, spans: Sequence[LabelledSpan]) -> None:
    """What holds of the spans of any text."""
    taken = 0
    for span in spans:
        assert taken <= span.start < span.end <= len(text)
        assert span.text == text[span.start : span.end]
        assert not any(map(module._is_blank, (span.text[0], span.text[-1])))
        lines = text[: span.start].split("\n")
        mark = len(lines) == 1 and text.startswith("\ufeff")
        assert (span.line, span.column) == (len(lines), len(lines[-1]) + 1 - mark)
        taken = span.end


def by_characters(text: str, lengths: Sequence[int], names: Sequence[str]) -> list[tuple[str, str]]:
    """Texts and labels of the spans, found by walking every byte of every character."""
    part_of: list[int | None] = []  # of each byte
    label_of: list[str] = []  # of each part
    before = None
    for length, name in zip(lengths, names, strict=True):
        sign, _, label = name.rpartition("-")
        if label == "O":
            before = None
            part_of += [None] * length
            continue
        if before is None or label != before or sign in ("B", "U"):
            label_of.append(label)
        part_of += [len(label_of) - 1] * length
        before = None if sign in ("L", "U") else label
    inside: list[int | None] = []  # of each character: the first part that has a byte of it
    at = 0
    for character in text:
        size = len(character.encode())
        inside.append(next((part for part in part_of[at : at + size] if part is not None), None))
        at += size
    result = []
    for part, label in enumerate(label_of):
        whole = "".join(c for c, p in zip(text, inside, strict=True) if p == part)
        whole = re.sub(r"^[\s\ufeff]+|[\s\ufeff]+$", "", whole)
        if whole:
            result.append((whole, label))
    return result


def check_spans(data: st.DataObject) -> None:
    """They keep the laws, and are those that the twin finds."""
    text, lengths, names, scores = drawn(data)
    spans = found(text, lengths, names, scores)
    check_laws(text, spans)
    assert [(span.text, span.label) for span in spans] == by_characters(text, lengths, names)


def check_redaction(data: st.DataObject) -> None:
    """The redacted text with the spans put back is the text."""
    text, lengths, names, scores = drawn(data)
    spans = found(text, lengths, names, scores)
    hidden = module.redacted(text, spans)
    back, taken, shift = "", 0, 0
    for span in spans:
        sign = f"[{span.label}]"
        start = span.start + shift
        assert hidden[start : start + len(sign)] == sign
        back += hidden[taken:start] + span.text
        taken = start + len(sign)
        shift += len(sign) - len(span.text)
    assert back + hidden[taken:] == text


@settings(max_examples=300)
@given(st.data())
def test_spans_of_any_text_keep_the_laws(data: st.DataObject) -> None:
    check_spans(data)


@given(st.data())
def test_redacted_text_with_the_spans_put_back_is_the_text(data: st.DataObject) -> None:
    check_redaction(data)


def test_a_threshold_leaves_out_what_scores_less_on_the_mean() -> None:
    tags = read_tags(BIO)
    spelled = [tags[BIO.index(name)] for name in ("B-A", "I-A", "O", "B-B", "B-A")]
    scores = [0.5, 0.75, 1.0, 0.25, 0.625]
    spans = find_spans("abcde", spelled, scores, [1] * 5, threshold=0.625)
    assert [(span.text, span.score) for span in spans] == [("ab", 0.625), ("e", 0.625)]


def test_a_part_that_is_left_out_leaves_the_character_that_it_shared() -> None:
    tags = read_tags(BIO)
    spans = find_spans("日", [tags[1], tags[3]], [0.5, 0.75], [1, 2], threshold=0.6)
    assert [(span.text, span.label) for span in spans] == [("日", "B")]


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ("O O", []),
        ("B-A I-A O B-B", [(0, 2, "A"), (3, 4, "B")]),
        ("B-A B-A", [(0, 1, "A"), (1, 2, "A")]),
        ("I-A I-A", [(0, 2, "A")]),
        ("O I-A I-B", [(1, 2, "A"), (2, 3, "B")]),
        ("B-A I-B I-A", [(0, 1, "A"), (1, 2, "B"), (2, 3, "A")]),
        ("B-A I-A L-A I-A", [(0, 3, "A"), (3, 4, "A")]),
        ("U-A U-A L-A", [(0, 1, "A"), (1, 2, "A"), (2, 3, "A")]),
        ("B-A U-A I-A", [(0, 1, "A"), (1, 2, "A"), (2, 3, "A")]),
        ("B-A E-A S-A", [(0, 2, "A"), (2, 3, "A")]),
    ],
)
def test_schemes_are_read_and_ill_formed_sequences_too(
    names: str, parts: list[tuple[int, int, str]]
) -> None:
    labels = ("O", *(f"{sign}-{label}" for sign in "BILUES" for label in "AB"))
    tags = read_tags(labels)
    assert list(merged(tags[labels.index(name)] for name in names.split())) == parts


def test_plain_labels_are_no_scheme_however_they_begin() -> None:
    tags = read_tags(("O", "S-EXPRESSION", "E-MAIL", "LABEL_0"))
    assert [tag.label for tag in tags] == [None, "S-EXPRESSION", "E-MAIL", "LABEL_0"]
    assert list(merged([tags[1], tags[1], tags[2], tags[0], tags[3]])) == [
        (0, 2, "S-EXPRESSION"),
        (2, 3, "E-MAIL"),
        (4, 5, "LABEL_0"),
    ]


def test_a_label_with_a_hyphen_keeps_it() -> None:
    assert [tag.label for tag in read_tags(("B-IP-ADDRESS", "I-IP-ADDRESS"))] == ["IP-ADDRESS"] * 2


def test_a_score_is_the_mean_of_its_tokens() -> None:
    tags = read_tags(PLAIN)
    (span,) = find_spans("abc", [tags[1]] * 3, [0.5, 0.75, 1], [1, 1, 1])
    assert span.score == 0.75


def test_a_byte_order_mark_is_no_column_and_in_no_span() -> None:
    tags = read_tags(PLAIN)
    (span,) = find_spans("\ufeffab", [tags[1]] * 3, [1, 1, 1], [3, 1, 1])
    assert (span.start, span.line, span.column, span.text) == (1, 1, 1, "ab")


def test_lengths_of_another_text_are_refused() -> None:
    with pytest.raises(ValueError, match="2 bytes for a text of 3"):
        find_spans("日", [read_tags(PLAIN)[1]], [1.0], [2])


Plant = Callable[[pytest.MonkeyPatch], None]


def bounds_off_by_one(patch: pytest.MonkeyPatch) -> None:
    real = module._Characters.before
    patch.setattr(module._Characters, "before", lambda self, byte: max(0, real(self, byte) - 1))


def starts_off_by_one(patch: pytest.MonkeyPatch) -> None:
    real = module._Characters.holding
    patch.setattr(module._Characters, "holding", lambda self, byte: real(self, byte) + 1)


def bytes_for_characters(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module._Characters, "holding", lambda _self, byte: byte)
    patch.setattr(module._Characters, "before", lambda _self, byte: byte)


def blanks_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "trimmed", lambda _text, start, end: (min(start, end), end))


def columns_from_zero(patch: pytest.MonkeyPatch) -> None:
    real = module._Lines.place

    def place(self: module._Lines, at: int) -> tuple[int, int]:
        line, column = real(self, at)
        return line, column - 1

    patch.setattr(module._Lines, "place", place)


def second_begins_lost(patch: pytest.MonkeyPatch) -> None:
    real = module._read_tag

    def read(label: str, *, is_scheme: bool) -> module.Tag:
        tag = real(label, is_scheme=is_scheme)
        return module.Tag(tag.label, ends=tag.ends)

    patch.setattr(module, "_read_tag", read)


def ends_lost(patch: pytest.MonkeyPatch) -> None:
    real = module._read_tag

    def read(label: str, *, is_scheme: bool) -> module.Tag:
        tag = real(label, is_scheme=is_scheme)
        return module.Tag(tag.label, begins=tag.begins)

    patch.setattr(module, "_read_tag", read)


def redaction_off_by_one(patch: pytest.MonkeyPatch) -> None:
    def wrong(text: str, spans: Sequence[LabelledSpan]) -> str:
        for span in reversed(spans):
            text = text[: span.start] + f"[{span.label}]" + text[span.end + 1 :]
        return text

    patch.setattr(module, "redacted", wrong)


@pytest.mark.parametrize(
    "plant",
    [
        bounds_off_by_one,
        starts_off_by_one,
        bytes_for_characters,
        blanks_kept,
        columns_from_zero,
        second_begins_lost,
        ends_lost,
        redaction_off_by_one,
    ],
)
def test_a_planted_mistake_is_seen(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    check = check_redaction if plant is redaction_off_by_one else check_spans
    # What fails need not be made small here.
    draw = settings(max_examples=300, phases=[Phase.generate], database=None)(
        given(st.data())(check)
    )
    with pytest.raises((AssertionError, IndexError, ExceptionGroup)):
        draw()


def test_redaction_keeps_everything_else() -> None:
    text = "\ufeffname = 'x'\r\n\tx\r"
    start = text.index("'x'")
    span = LabelledSpan(
        start=start, end=start + 3, line=1, column=8, label="SECRET", score=1.0, text="'x'"
    )
    assert redacted(text, [span]) == "\ufeffname = [SECRET]\r\n\tx\r"
