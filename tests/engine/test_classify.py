"""Classified texts against the model run by hand, one window at a time, and planted mistakes."""

import random
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.backends import torch_classifier
from bigcode_cli.backends.torch_classifier import Model, TorchClassifier
from bigcode_cli.engine import classify
from bigcode_cli.engine.classify import ClassifySession, activated
from bigcode_cli.engine.protocol import Activation, Passage
from bigcode_cli.engine.windows import windows
from bigcode_cli.errors import InputError, ModelCorruptError, UsageError
from bigcode_cli.model.heads import (
    GPTBigCodeForSequenceClassification,
    GPTBigCodeForTokenClassification,
)
from bigcode_cli.records import (
    ChangeCosts,
    Classified,
    ClassifyOptions,
    ClassifyRequest,
    Failure,
    LabelledSpan,
    Spans,
)
from bigcode_cli.text.spans import find_spans, read_tags
from bigcode_cli.text.tag_paths import best_path, boundaries, followers, likeliest
from tests.heads import (
    FRUITS,
    NUMBER_TAGS,
    fruit_model,
    fruit_text,
    head_config,
    head_session,
    number_model,
    number_text,
)
from tests.model.models import wide_of
from tests.tokenizers import tiny_tokenizer

CONTEXT, STRIDE = 12, 5
COSTS = ChangeCosts(word=0.75, mark=0.5, free=0.25)
TEXTS = (
    "a",
    "",
    "x = 1\n",
    "def add(first, second):\n    return first + second\n" * 3,
    "é日🙂" * 7,
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@cache
def wide_sequence() -> GPTBigCodeForSequenceClassification:
    """A head whose logits hang on every token before."""
    return wide_of(GPTBigCodeForSequenceClassification, head_config(FRUITS, n_layer=2))


@cache
def wide_token() -> GPTBigCodeForTokenClassification:
    """Likewise."""
    return wide_of(GPTBigCodeForTokenClassification, head_config(NUMBER_TAGS, n_layer=2))


def requests(texts: Sequence[str]) -> list[ClassifyRequest]:
    return [ClassifyRequest(text=text, id=str(at)) for at, text in enumerate(texts)]


def spans_by(
    texts: Sequence[str],
    options: ClassifyOptions | None = None,
    costs: ChangeCosts | None = None,
) -> list[Spans]:
    """What the session on ``wide_token`` says."""
    session = head_session(wide_token(), change_costs=costs)
    found = list(session.classify(requests(texts), options))
    assert all(isinstance(one, Spans) for one in found)
    return found  # type: ignore[return-value]


def scores_by(
    texts: Sequence[str], options: ClassifyOptions | None = None
) -> list[dict[str, float]]:
    """What the session on ``wide_sequence`` says."""
    session = head_session(wide_sequence())
    found = list(session.classify(requests(texts), options))
    return [one.scores for one in found if isinstance(one, Classified)]


def all_windows(length: int, context: int, stride: int) -> Iterator[tuple[int, int]]:
    """Where windows lie: each ends ``stride`` behind the last, which reaches back all it can."""
    end = min(context, length)
    while True:
        yield max(0, end - context), end
        if end == length:
            return
        end = min(end + stride, length)


@torch.no_grad()
def logits_alone(model: Model, ids: Sequence[int]) -> torch.Tensor:
    """Of one row, without padding or mask."""
    output: Any = model(torch.tensor([list(ids)]))
    return output.logits[0].double()  # type: ignore[no-any-return]


def spans_by_hand(
    text: str, context: int, stride: int, costs: ChangeCosts | None
) -> tuple[LabelledSpan, ...]:
    """Each token's scores from the window that gives it the most left context."""
    ids = tiny_tokenizer().encode(text)
    if not ids:
        return ()
    tags, rows = read_tags(NUMBER_TAGS), []
    spread = list(all_windows(len(ids), context, stride))
    for at in range(len(ids)):
        holding = [(start, end) for start, end in spread if start <= at < end]
        start, end = max(holding, key=lambda window: at - window[0])
        rows.append(logits_alone(wide_token(), ids[start:end])[at - start].log_softmax(-1))
    lengths = [len(tiny_tokenizer().token_bytes(id_)) for id_ in ids]
    found = [int(row.argmax()) for row in rows]
    if costs is not None:
        scores = array("f", torch.cat(rows).tolist())
        found = best_path(scores, followers(tags), boundaries(text, lengths), costs)
    told = [row[label].exp().item() for row, label in zip(rows, found, strict=True)]
    return find_spans(text, [tags[label] for label in found], told, lengths)


def scores_by_hand(text: str, context: int, stride: int) -> dict[str, float]:
    """The softmax of the mean of the windows' logits."""
    ids = tiny_tokenizer().encode(text)
    if not ids:
        return {}
    total = torch.zeros(len(FRUITS), dtype=torch.float64)
    spread = list(all_windows(len(ids), context, stride))
    for start, end in spread:
        total += logits_alone(wide_sequence(), ids[start:end])
    return dict(zip(FRUITS, (total / len(spread)).softmax(-1).tolist(), strict=True))


def check_scores(texts: Sequence[str], context: int = CONTEXT, stride: int = STRIDE) -> None:
    """The session's are those by hand."""
    found = scores_by(texts, ClassifyOptions(context=context, stride=stride))
    for text, scores in zip(texts, found, strict=True):
        assert scores == pytest.approx(scores_by_hand(text, context, stride), rel=1e-4)


def check_spans(
    texts: Sequence[str],
    context: int = CONTEXT,
    stride: int = STRIDE,
    costs: ChangeCosts | None = None,
) -> None:
    """The session's are those by hand."""
    found = spans_by(texts, ClassifyOptions(context=context, stride=stride), costs)
    for text, told in zip(texts, found, strict=True):
        expected = spans_by_hand(text, context, stride, costs)
        assert [(s.start, s.end, s.label) for s in told.spans] == [
            (s.start, s.end, s.label) for s in expected
        ]
        assert [s.score for s in told.spans] == pytest.approx([s.score for s in expected], rel=1e-4)


def check_paths(texts: Sequence[str], context: int = CONTEXT, stride: int = STRIDE) -> None:
    """Likewise, where changes cost something."""
    check_spans(texts, context, stride, COSTS)


def test_a_trained_head_tells_texts_apart() -> None:
    rng = random.Random(3)
    drawn = [fruit_text(rng) for _ in range(60)]
    found = list(head_session(fruit_model()).classify(requests([text for text, _ in drawn])))
    for one, (_, kind) in zip(found, drawn, strict=True):
        assert isinstance(one, Classified)
        assert list(one.scores) == list(FRUITS)
        assert sum(one.scores.values()) == pytest.approx(1)
        assert max(one.scores, key=one.scores.__getitem__) == FRUITS[kind]


def test_a_trained_head_finds_spans() -> None:
    rng = random.Random(3)
    drawn = [number_text(rng) for _ in range(60)]
    right = 0
    for text, one in zip(
        drawn, head_session(number_model()).classify(requests(drawn)), strict=True
    ):
        assert isinstance(one, Spans)
        expected = [
            (match.start(), match.end(), "NUMBER" if match[0].isdigit() else "NAME")
            for match in re.finditer("[0-9]+|[A-Z]+", text)
        ]
        right += [(span.start, span.end, span.label) for span in one.spans] == expected
    assert right >= 50


@pytest.mark.parametrize(("context", "stride"), [(12, 5), (12, 11), (12, 1), (2, 1), (64, 32)])
def test_windows_give_what_they_give_by_hand(context: int, stride: int) -> None:
    check_scores(TEXTS, context, stride)
    check_spans(TEXTS, context, stride)
    check_paths(TEXTS, context, stride)


def test_a_part_goes_on_from_window_to_window() -> None:
    text = "x = 1\n" * 30
    dear = ChangeCosts(word=1e4, mark=1e4, free=1e4)
    for options in (ClassifyOptions(), ClassifyOptions(context=8, stride=3)):
        (cut,), (whole,) = spans_by([text], options), spans_by([text], options, dear)
        assert len(cut.spans) > 1
        assert [span.text for span in whole.spans] in ([], [text.strip()])


@settings(max_examples=20)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=4), st.integers(2, 20), st.data())
def test_any_texts_in_any_windows_give_what_they_give_by_hand(
    texts: list[str], context: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, context - 1))
    texts = [text for text in texts if max(text, default="") < "\U00040000"]
    check_scores(texts, context, stride)


def test_a_text_that_fits_is_run_once_and_whole() -> None:
    text = "def add(first, second):"
    length = len(tiny_tokenizer().encode(text))
    single = logits_alone(wide_sequence(), tiny_tokenizer().encode(text)).softmax(-1).tolist()
    for context in (length, length + 1, 64):
        for stride in (1, context // 2):
            (scores,) = scores_by([text], ClassifyOptions(context=context, stride=stride))
            assert list(scores.values()) == pytest.approx(single, rel=1e-4)
            (whole,), (windowed,) = (
                spans_by([text]),
                spans_by([text], ClassifyOptions(context=context, stride=stride)),
            )
            assert whole.spans == windowed.spans


def test_texts_side_by_side_give_what_they_give_alone() -> None:
    rng = random.Random(4)
    texts = [number_text(rng, rng.randint(1, 50)) for _ in range(30)]
    together = scores_by(texts)
    for text, scores in zip(texts, together, strict=True):
        (alone,) = scores_by([text])
        assert scores == pytest.approx(alone, rel=1e-4)
    for text, found in zip(texts, spans_by(texts), strict=True):
        (single,) = spans_by([text])
        assert [(s.text, s.label) for s in found.spans] == [(s.text, s.label) for s in single.spans]
        assert [s.score for s in found.spans] == pytest.approx(
            [s.score for s in single.spans], rel=1e-4
        )


@given(st.text())
def test_a_span_is_where_it_says_in_any_text(text: str) -> None:
    (found,) = head_session(wide_token()).classify(requests([text]))
    if isinstance(found, Failure):
        assert isinstance(found.error, InputError)
        return
    assert isinstance(found, Spans)
    for span in found.spans:
        assert text[span.start : span.end] == span.text
        line = text.split("\n")[span.line - 1]
        mark = span.line == 1 and text.startswith("\ufeff")
        assert line[span.column - 1 + mark :].startswith(span.text.split("\n")[0])


def test_spans_below_the_threshold_are_left_out() -> None:
    (every,) = spans_by([TEXTS[3]])
    scores = sorted(span.score for span in every.spans)
    middle = scores[len(scores) // 2]
    (some,) = spans_by([TEXTS[3]], ClassifyOptions(threshold=middle))
    assert some.spans == tuple(span for span in every.spans if span.score >= middle)


def test_an_empty_text_has_no_label() -> None:
    assert scores_by([""]) == [{}]
    (found,) = spans_by([""])
    assert found.spans == ()


def test_what_cannot_be_encoded_fails_alone_and_in_its_turn() -> None:
    found = list(head_session(wide_sequence()).classify(requests(["a", "\ud800", "b"])))
    assert [type(one) for one in found] == [Classified, Failure, Classified]
    assert [(one.request, one.id) for one in found] == [(0, "0"), (1, "1"), (2, "2")]
    assert isinstance(found[1], Failure)
    assert "lone surrogate" in found[1].error.message


def test_an_id_without_a_row_never_reaches_the_model() -> None:
    model = wide_of(GPTBigCodeForSequenceClassification, head_config(FRUITS, vocab_size=300))
    session = head_session(model)
    one, other = session.classify(requests(["return", "~"]))
    known = max(tiny_tokenizer().encode("return"))
    assert isinstance(one, Failure)
    assert one.error.message == f"the tokenizer knows the id {known}, the model 300 tokens"
    assert isinstance(other, Classified)
    with pytest.raises(ModelCorruptError, match="the model 300 tokens"):
        session.classifier.logits([Passage((1, 300), 0)])


@pytest.mark.parametrize(
    "head", [GPTBigCodeForSequenceClassification, GPTBigCodeForTokenClassification]
)
def test_logits_that_are_no_numbers_are_an_error(head: type[Model]) -> None:
    model = wide_of(head, head_config(FRUITS))
    with torch.no_grad():
        model.transformer.ln_f.weight.fill_(3e38)
    with pytest.raises(ModelCorruptError, match="not numbers") as caught:
        list(head_session(model).classify(requests(["a"])))
    assert caught.value.hint == "try --dtype float32"


def test_texts_are_taken_as_they_are_needed() -> None:
    taken = []

    def texts() -> Iterator[ClassifyRequest]:
        for at in range(1000):
            taken.append(at)
            yield ClassifyRequest(text="x = 1\n" * 10)

    next(iter(head_session(wide_sequence(), batch_tokens=64).classify(texts())))
    assert len(taken) < 20


def test_progress_is_told_in_bytes() -> None:
    class Told:
        lines: list[tuple[int, int | None]] = []  # noqa: RUF012

        def note(self, text: str) -> None:
            raise AssertionError(text)

        def progress(self, label: str, done: int, total: int | None, unit: str) -> None:
            assert (label, unit) == ("classifying", "B")
            self.lines.append((done, total))

    texts = ["é" * 40, "abc"]
    size = sum(len(text.encode()) for text in texts)
    options = ClassifyOptions(context=8, stride=4)
    list(head_session(wide_sequence()).classify(
        requests(texts), options, report=Told(), total_bytes=size
    ))  # fmt: skip
    done = [at for at, _ in Told.lines]
    assert done == sorted(done)
    assert Told.lines[-1] == (size, size)
    assert all(total == size and at < size for at, total in Told.lines[:-1])


@pytest.mark.parametrize(("context", "stride"), [(65, None), (None, 64), (8, 8)])
def test_windows_that_do_not_fit_are_refused_at_once(
    context: int | None, stride: int | None
) -> None:
    with pytest.raises(UsageError, match=r"context|stride"):
        head_session(wide_token()).classify([], ClassifyOptions(context=context, stride=stride))


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=6))
def test_scores_are_what_torch_makes_of_logits(logits: list[float]) -> None:
    tensor = torch.tensor(logits, dtype=torch.float64)
    expected: dict[Activation, list[float]] = {
        "softmax": tensor.softmax(-1).tolist(),
        "sigmoid": tensor.sigmoid().tolist(),
        "none": logits,
    }
    for activation, values in expected.items():
        assert activated(logits, activation) == pytest.approx(values, rel=1e-9, abs=1e-300)
        assert activated([], activation) == []


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_scores_are_what_the_activation_makes_of_the_mean(activation: Activation) -> None:
    session = head_session(wide_sequence(), activation=activation)
    (found,) = session.classify(requests(["x = 1"]))
    assert isinstance(found, Classified)
    logits = logits_alone(wide_sequence(), tiny_tokenizer().encode("x = 1")).tolist()
    assert list(found.scores.values()) == pytest.approx(activated(logits, activation), rel=1e-4)


Plant = Callable[[pytest.MonkeyPatch], None]
Check = Callable[[Sequence[str]], None]


def forget_the_mask(patch: pytest.MonkeyPatch) -> None:
    """The last token of a padded row is taken for real."""
    real = GPTBigCodeForSequenceClassification.forward

    def forward(self: Any, ids: torch.Tensor, **options: Any) -> Any:
        mask = options.pop("attention_mask", None)
        return real(self, ids, attention_mask=None if mask is None else mask | True, **options)

    patch.setattr(GPTBigCodeForSequenceClassification, "forward", forward)


def pad_on_the_left(patch: pytest.MonkeyPatch) -> None:
    """With neither the mask nor the positions moved."""
    real = TorchClassifier._run

    def run(self: TorchClassifier, passages: Sequence[Passage]) -> Any:
        longest = max(len(passage.ids) for passage in passages)
        return real(
            self,
            [Passage((0,) * (longest - len(p.ids)) + p.ids, p.counted) for p in passages],
        )

    patch.setattr(TorchClassifier, "_run", run)


def windows_off_by_one(patch: pytest.MonkeyPatch) -> None:
    """Each window but the first begins one token late."""

    def shifted(chunks: Any, **sizes: int) -> Iterator[Passage]:
        for window in windows(chunks, **sizes):
            late = window.counted > 0
            yield Passage(window.ids[late:], window.counted - late)

    patch.setattr(classify, "windows", shifted)


def windows_too_short(patch: pytest.MonkeyPatch) -> None:
    """The context is one less than was asked for."""

    def shorter(chunks: Any, *, context: int, stride: int, first: int) -> Iterator[Passage]:
        return windows(chunks, context=context - 1, stride=stride, first=first)

    patch.setattr(classify, "windows", shorter)


def counted_off_by_one(patch: pytest.MonkeyPatch) -> None:
    """A token's scores are those of the one before it."""
    real = TorchClassifier.token_scores

    def token_scores(self: TorchClassifier, passages: Sequence[Passage]) -> Any:
        return real(self, [Passage((0, *p.ids[:-1]), p.counted) for p in passages])

    patch.setattr(TorchClassifier, "token_scores", token_scores)


def scores_of_other_labels(patch: pytest.MonkeyPatch) -> None:
    """Labels are laid out before tokens."""
    real = TorchClassifier.token_scores

    def token_scores(self: TorchClassifier, passages: Sequence[Passage]) -> Any:
        count = len(self.info.labels)
        found = real(self, passages)
        return [sum((scores[at::count] for at in range(count)), array("f")) for scores in found]

    patch.setattr(TorchClassifier, "token_scores", token_scores)


def costs_forgotten(patch: pytest.MonkeyPatch) -> None:
    def alone(scores: Any, follow: Sequence[object], *_: object) -> list[int]:
        return likeliest(scores, len(follow))

    patch.setattr(classify, "best_path", alone)


def boundaries_of_another_text(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(classify, "boundaries", lambda text, lengths: boundaries(text[::-1], lengths))


def last_window_alone(patch: pytest.MonkeyPatch) -> None:
    real = ClassifySession._classified
    patch.setattr(
        ClassifySession, "_classified", lambda self, job, logits: real(self, job, logits[-1:])
    )


def mean_over_labels(patch: pytest.MonkeyPatch) -> None:
    """The mean is taken over the wrong axis."""
    real = ClassifySession._classified

    def classified(self: ClassifySession, job: Any, logits: Sequence[list[float]]) -> Classified:
        flat = [sum(row) / len(row) for row in logits]
        means = (flat * len(FRUITS))[: len(FRUITS)]
        return real(self, job, [means] if logits else [])

    patch.setattr(ClassifySession, "_classified", classified)


def mean_of_probabilities(patch: pytest.MonkeyPatch) -> None:
    real = TorchClassifier.logits

    def logits(self: TorchClassifier, passages: Sequence[Passage]) -> list[list[float]]:
        return [activated(row, "softmax") for row in real(self, passages)]

    patch.setattr(TorchClassifier, "logits", logits)


def end_of_text_before(patch: pytest.MonkeyPatch) -> None:
    """As if the text began with an end of text."""
    real = TorchClassifier._run

    def run(self: TorchClassifier, passages: Sequence[Passage]) -> Any:
        logits, kept = real(self, [Passage((0, *p.ids), p.counted) for p in passages])
        return (logits[:, 1:] if logits.dim() == 3 else logits), kept[:, 1:]

    patch.setattr(TorchClassifier, "_run", run)


def probabilities_of_labels_lost(patch: pytest.MonkeyPatch) -> None:
    """The lowest logit is taken for the highest."""
    real = torch_classifier._finite
    patch.setattr(torch_classifier, "_finite", lambda logits: -real(logits))


@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (forget_the_mask, check_scores),
        (pad_on_the_left, check_scores),
        (pad_on_the_left, check_spans),
        (windows_off_by_one, check_scores),
        (windows_off_by_one, check_spans),
        (windows_too_short, check_scores),
        (windows_too_short, check_spans),
        (counted_off_by_one, check_spans),
        (counted_off_by_one, check_paths),
        (scores_of_other_labels, check_spans),
        (scores_of_other_labels, check_paths),
        (costs_forgotten, check_paths),
        (boundaries_of_another_text, check_paths),
        (last_window_alone, check_scores),
        (mean_over_labels, check_scores),
        (mean_of_probabilities, check_scores),
        (end_of_text_before, check_scores),
        (end_of_text_before, check_spans),
        (probabilities_of_labels_lost, check_scores),
    ],
)
def test_a_planted_mistake_is_seen(
    plant: Plant, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(TEXTS)
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        check(TEXTS)
