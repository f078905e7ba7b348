"""Scores against one token at a time, each with the context that it is promised."""

import math
import threading
from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.backends import torch as backend_module
from bigcode_cli.engine.protocol import Passage, PassageScores, Pending
from bigcode_cli.engine.scoring import log_probabilities
from bigcode_cli.engine.session import Session
from bigcode_cli.errors import InputError, ModelCorruptError, UsageError
from bigcode_cli.records import (
    Failure,
    Scored,
    ScoredTokens,
    ScoreOptions,
    ScoreRequest,
    TokenScore,
)
from tests.engine.scoring_cases import OPTIONS, TEXTS, Expected, by_brute_force, faults, score
from tests.sessions import random_session


@pytest.mark.parametrize("place", range(len(OPTIONS)))
def test_scores_equal_brute_force(
    session: Session, expected: list[list[Expected]], place: int
) -> None:
    assert faults(score(session, TEXTS, OPTIONS[place]), expected[place]) == []


@pytest.mark.parametrize("options", OPTIONS[:4])
def test_texts_score_side_by_side_as_they_do_alone(session: Session, options: ScoreOptions) -> None:
    for text, together in zip(TEXTS, score(session, TEXTS, options), strict=True):
        [alone] = score(session, [text], options)
        assert together.scored.nll_sum == pytest.approx(alone.scored.nll_sum, rel=1e-6)
        assert together.scored.n_bytes == alone.scored.n_bytes


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(max_size=60), max_size=6), st.integers(2, 20), st.booleans(), st.data())
def test_any_texts_score_as_brute_force_says(
    texts: list[str], context: int, bos: bool, data: st.DataObject
) -> None:
    session = random_session()
    stride = data.draw(st.integers(1, context - 1))
    options = ScoreOptions(context=context, stride=stride, bos=bos, tokens=True)
    wanted = [by_brute_force(session, text, options) for text in texts]
    assert faults(score(session, texts, options), wanted) == []


def test_the_tokens_are_the_text_with_places_ranks_and_entropies(session: Session) -> None:
    for text, one in zip(TEXTS, score(session, TEXTS, OPTIONS[2]), strict=True):
        assert b"".join(token.data for token in one.tokens) == text.encode()
        for token in one.tokens:
            assert token.rank is not None
            assert token.entropy is not None
            assert token.bits == pytest.approx(-(token.logprob or 0) / math.log(2))
            assert 1 <= token.rank <= session.info.vocab_size
            assert 0 <= token.entropy <= math.log(session.info.vocab_size) + 1e-5
        lines = [token.line for token in one.tokens]
        assert lines == sorted(lines)
        assert lines[-1] == text[: -1 if text.endswith("\n") else None].count("\n") + 1


@pytest.mark.parametrize("options", OPTIONS)
def test_only_the_lines_asked_for_count(session: Session, options: ScoreOptions) -> None:
    lines = frozenset({2, 5, 17, 1000})
    text = TEXTS[3]
    [whole] = score(session, [text], options)
    request = ScoreRequest(pieces=[text], lines=lines)
    *told, scored = session.score([request], options)
    tokens = [token for one in told if isinstance(one, ScoredTokens) for token in one.tokens]
    wanted = [token for token in whole.tokens if token.line in lines and token.logprob is not None]
    counted = [token for token in tokens if token.logprob is not None]
    assert [(token.line, token.column) for token in counted] == [
        (token.line, token.column) for token in wanted
    ]
    assert isinstance(scored, Scored)
    assert scored.tokens == len(tokens) == len(whole.tokens)
    assert scored.scored_tokens == len(wanted)
    assert scored.n_bytes == sum(len(token.data) for token in wanted)
    assert scored.nll_sum == pytest.approx(-sum(token.logprob or 0 for token in wanted), rel=1e-5)


def test_windows_without_a_line_asked_for_are_not_run(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    real = session.backend.begin_score

    def counting(
        passages: Sequence[Passage], *, detail: bool = False
    ) -> Pending[list[PassageScores]]:
        ran.append(len(passages))
        return real(passages, detail=detail)

    monkeypatch.setattr(session.backend, "begin_score", counting)
    text = TEXTS[4]
    options = ScoreOptions(context=16, stride=8)
    list(session.score([ScoreRequest(pieces=[text], lines=frozenset({1}))], options))
    assert sum(ran) == 1
    ran.clear()
    list(session.score([ScoreRequest(pieces=[text], lines=frozenset())], options))
    assert ran == []


@pytest.mark.parametrize("bos", [True, False])
def test_an_empty_text_has_no_score(session: Session, bos: bool) -> None:
    options = ScoreOptions(bos=bos)
    [scored] = session.score([ScoreRequest(pieces=[])], options)
    assert isinstance(scored, Scored)
    assert (scored.tokens, scored.scored_tokens, scored.n_bytes, scored.nll_sum) == (0, 0, 0, 0)
    assert scored.loss is scored.perplexity is scored.bits_per_byte is None


def test_a_lone_token_without_an_end_of_text_before_it_has_no_score(session: Session) -> None:
    [scored] = session.score([ScoreRequest(pieces=["x"])], ScoreOptions(bos=False))
    assert isinstance(scored, Scored)
    assert (scored.tokens, scored.scored_tokens, scored.loss) == (1, 0, None)


def test_a_text_that_fails_leaves_the_others_alone(session: Session) -> None:
    def broken() -> Iterator[str]:
        yield "abc " * 50
        raise InputError("gone")

    options = ScoreOptions(context=16)
    requests = [
        ScoreRequest(pieces=["one"], id="1"),
        ScoreRequest(pieces=broken(), id="2"),
        ScoreRequest(pieces=["\ud800"], id="3"),
        ScoreRequest(pieces=["two"], id="4"),
    ]
    told = list(session.score(requests, options))
    assert [type(one) for one in told] == [Scored, Failure, Failure, Scored]
    assert [one.request for one in told] == [0, 1, 2, 3]
    assert [getattr(one, "id", None) for one in told] == ["1", "2", "3", "4"]
    assert isinstance(told[1], Failure)
    assert told[1].error.message == "gone"


def test_requests_are_taken_as_they_are_needed(session: Session) -> None:
    taken = 0

    def requests() -> Iterator[ScoreRequest]:
        nonlocal taken
        for taken in range(1, 100):  # noqa: B007
            yield ScoreRequest(pieces=["aa bb\n" * 40])

    events = session.score(requests(), ScoreOptions(context=16))
    next(events)
    events.close()
    assert taken < 40
    assert not any(thread.name == "ahead" for thread in threading.enumerate())


def test_nothing_is_read_ahead_any_more_when_scoring_was_interrupted(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> list[PassageScores]:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.backend, "begin_score", interrupted)
    with pytest.raises(KeyboardInterrupt) as held:
        list(session.score(ScoreRequest(pieces=["aa bb\n" * 40]) for _ in range(400)))
    assert not any(thread.name == "ahead" for thread in threading.enumerate())
    del held


def test_logits_that_are_no_numbers_are_a_failure() -> None:
    session = random_session()
    assert isinstance(session.backend, backend_module.TorchBackend)
    with torch.no_grad():
        session.backend._model.transformer.ln_f.weight[3] = torch.nan
    [failure] = session.score([ScoreRequest(pieces=["text"])])
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, ModelCorruptError)
    assert "not numbers" in failure.error.message


def test_a_context_beyond_the_model_is_refused(session: Session) -> None:
    with pytest.raises(UsageError, match="129"):
        session.score([], ScoreOptions(context=129))


def test_log_probabilities_of_ids_are_those_of_their_text(session: Session) -> None:
    options = ScoreOptions(context=16, stride=5, tokens=True)
    [told] = score(session, [TEXTS[3]], options)
    ids = [session.tokenizer.eos_id, *(token.id for token in told.tokens)]
    logprobs = log_probabilities(session.backend, ids, context=16, stride=5)
    assert logprobs == pytest.approx([token.logprob for token in told.tokens], abs=1e-6)


class Progress:
    def __init__(self) -> None:
        self.told: list[tuple[int, int | None]] = []

    def note(self, text: str) -> None: ...

    def progress(self, label: str, done: int, total: int | None, unit: str) -> None:
        assert (label, unit) == ("scoring", "B")
        self.told.append((done, total))


def test_progress_counts_bytes_up_to_the_end(session: Session) -> None:
    size, report = len(TEXTS[3].encode()), Progress()
    request = ScoreRequest(pieces=[TEXTS[3]])
    list(session.score([request], ScoreOptions(context=16), report=report, total_bytes=size))
    assert report.told[-1] == (size, size)
    done = [done for done, _ in report.told]
    assert done == sorted(done)
    assert len(set(done)) > 3


def test_token_scores_without_a_probability_have_no_bits() -> None:
    assert TokenScore(1, b"x", 1, 1, None, None, None).bits is None
