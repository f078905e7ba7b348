from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.cli import classify_views
from bigcode_cli.cli.classify_views import Choice, Item, LabelPage, LineView, span_labels
from bigcode_cli.cli.output import PipeAnswer
from bigcode_cli.cli.render import TerminalReporter
from bigcode_cli.engine.protocol import ClassifierInfo, HeadKind
from bigcode_cli.records import Classified, LabelledSpan, Spans
from tests.cli.running import Stream


def info_of(kind: HeadKind, *labels: str) -> ClassifierInfo:
    return ClassifierInfo(
        name="torch", device="cpu", dtype="float32", weights="float32", kind=kind, labels=labels,
        activation="softmax", n_positions=8, context=8, change_costs=None, batch_tokens=8,
        vocab_size=8, weight_bytes=0,
    )  # fmt: skip


def spans_of(text: str, *bounds: tuple[int, int, str]) -> Spans:
    spans = [
        LabelledSpan(
            start=start, end=end, line=1, column=1, label=label, score=0.5, text=text[start:end]
        )
        for start, end, label in bounds
    ]
    return Spans(request=0, id=None, model="m", spans=tuple(spans))


def lines_of(item: Item, found: Classified | Spans, info: ClassifierInfo) -> str:
    """What a pipe gets."""
    stream = Stream()
    LineView(PipeAnswer(stream.bytes, "utf-8"), TerminalReporter(), Choice(), info).show(
        item, found
    )
    return stream.bytes.getvalue().decode()


@given(
    st.dictionaries(st.text(), st.floats(0, 1)),
    st.none() | st.integers(1, 5),
    st.none() | st.floats(0, 1),
)
def test_the_best_labels_are_told_that_reach_the_threshold(
    scores: dict[str, float], top_k: int | None, threshold: float | None
) -> None:
    chosen = Choice(top_k, threshold).of(scores)
    told = dict(chosen)
    assert [score for _, score in chosen] == sorted(told.values(), reverse=True)
    assert all(scores[label] == score for label, score in chosen)
    assert all(threshold is None or score >= threshold for score in told.values())
    worst = min(told.values(), default=threshold or 0)
    if top_k is None or len(chosen) < top_k:
        left = [score for label, score in scores.items() if label not in told]
        assert all(score < worst or (threshold or 0) > score for score in left)


def test_of_equal_labels_the_first_comes_first() -> None:
    assert [label for label, _ in Choice(2).of({"b": 0.25, "a": 0.25, "c": 0.5})] == ["c", "b"]


@given(st.text(min_size=1), st.text(), st.text(min_size=1))
def test_a_line_stays_a_line_of_so_many_fields(text: str, path: str, label: str) -> None:
    text, path, label = (part.encode("utf-8", "ignore").decode() for part in (text, path, label))
    item = Item(path, None, path, text)
    told = lines_of(item, spans_of(text, (0, len(text), label)), info_of("token", "O", label))
    assert len(told.splitlines()) == (1 if text else told.count("\n"))
    assert told.count("\t") == 3 * told.count("\n")
    whole = Classified(request=0, id=None, model="m", scores={label: 0.5})
    told = lines_of(item, whole, info_of("sequence", label))
    assert (len(told.splitlines()), told.count("\t")) == (1, 2)


def test_labels_of_spans_are_told_once_and_without_their_signs() -> None:
    assert span_labels(info_of("token", "O", "B-A", "I-A", "B-B", "I-B")) == ("A", "B")
    assert span_labels(info_of("token", "O", "A", "B")) == ("A", "B")


def test_every_colour_of_the_page_can_be_read() -> None:
    def luminance(colour: str) -> float:
        """Relative, as WCAG 2.1 defines it."""
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for paints in classify_views.PAINTS:
        for paint in paints:
            low, high = sorted(map(luminance, (paint.ground, paint.ink)))
            assert (high + 0.05) / (low + 0.05) >= 7


def test_more_labels_than_colours_are_all_in_the_legend(tmp_path: Path) -> None:
    labels = [f"L{at}" for at in range(len(classify_views.PAINTS) + 2)]
    text = "".join(chr(0x41 + at) for at in range(len(labels)))
    bounds = [(at, at + 1, label) for at, label in enumerate(labels)]
    with LabelPage(tmp_path / "page", "m", Choice(), info_of("token", "O", *labels)) as page:
        page.show(Item("a", None, "a", text), spans_of(text, *bounds))
    content = (tmp_path / "page").read_text()
    for at, label in enumerate(labels):
        assert f'<span class="s{at}">{label}</span>' in content
        assert f'<span class="s{at}" data-tip="{label} 0.5000">{text[at]}</span>' in content


@pytest.mark.parametrize("text", ["x" * 200, "\u202eevil\x1b[2J" * 20])
def test_a_span_in_a_table_is_short_and_harmless(text: str) -> None:
    shown = classify_views._shortened(text)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert shown.endswith("…")
