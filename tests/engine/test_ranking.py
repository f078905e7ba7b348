"""Scores against brute force: one forward pass a token, without a cache."""

import math
from typing import cast

import pytest
import torch

from bigcode_cli.engine.output import Output
from bigcode_cli.engine.ranking import (
    ALPHA,
    PREFIX_TOKENS,
    SUFFIX_TOKENS,
    rank,
    suffix_scores,
)
from bigcode_cli.engine.session import Session
from bigcode_cli.records import Infilled, InfillRequest, SamplingOptions, Span, TokenLogprob
from tests.sessions import random_session

PREFIX = "def add(first, second):\n    return "
SUFFIX = "\n\n\nclass Counter:\n    def __init__(self, start=0):\n        self.value = start\n"


@pytest.fixture(scope="module")
def session() -> Session:
    return random_session(n_positions=160)


def log_probabilities(session: Session, ids: list[int], start: int) -> list[float]:
    """Of ``ids[start:]``, each by a pass over all before it."""
    model = session.backend._model  # type: ignore[attr-defined]
    told = []
    with torch.inference_mode():
        for place in range(start, len(ids)):
            logits = model(torch.tensor([ids[:place]])).logits[0, -1]
            told.append(logits.log_softmax(-1)[ids[place]].item())
    return told


def normalised(logprobs: list[float]) -> float:
    return math.fsum(logprobs) / math.pow(len(logprobs), ALPHA)


@pytest.mark.parametrize(
    ("prefix", "suffix", "span", "healed", "lead", "line_end"),
    [
        (PREFIX, SUFFIX, "line", "", "", ""),
        ("def add(self):\n        ", SUFFIX, "block", " ", "", ""),
        ("def add(self):", SUFFIX, "block", "", "\n", ""),
        ("x = 1\n", SUFFIX.lstrip(), "line", "", "", "\n"),
    ],
    ids=["within a line", "behind an indentation", "behind a block's head", "before a line"],
)
def test_a_score_is_the_middles_and_the_suffixs_by_brute_force(
    session: Session, prefix: str, suffix: str, span: Span, healed: str, lead: str, line_end: str
) -> None:
    sampling = SamplingOptions(temperature=1.0, seed=9)
    request = InfillRequest(
        prefix=prefix,
        suffix=suffix,
        candidates=6,
        sampling=sampling,
        span=span,
        logprobs=0,
        max_new_tokens=20,
    )
    (done,) = session.infill([request])
    assert isinstance(done, Infilled)
    tokenizer = session.tokenizer
    prompt = list(session.assemble(request).ids)
    after = tokenizer.encode(suffix)[:SUFFIX_TOKENS]
    assert len({candidate.finish_reason for candidate in done.candidates}) > 1
    for candidate in done.candidates:
        assert candidate.logprobs is not None
        sampled, text, counted = [token.id for token in candidate.logprobs], "", 0
        length = len(healed + candidate.text.removeprefix(lead))
        while len(text) <= length and counted < len(sampled):
            counted += 1
            text = tokenizer.decode(sampled[:counted])
        middle = log_probabilities(session, prompt + sampled[:counted], len(prompt))
        before = [tokenizer.eos_id, *tokenizer.encode(prefix + candidate.text + line_end)]
        behind = log_probabilities(session, before + after, len(before))
        expected = normalised(middle) + normalised(behind)
        assert candidate.score == pytest.approx(expected, abs=1e-4)


def test_only_the_end_of_a_long_prefix_is_read() -> None:
    session = random_session(n_positions=400)
    tokenizer = session.tokenizer
    prefix = "first + second\n" * 100
    read = tokenizer.decode(tokenizer.encode(prefix)[-PREFIX_TOKENS:])
    assert len(read) < len(prefix)
    middles = ["x = 1", "", "été" * 30]
    after = tokenizer.encode(SUFFIX)[:SUFFIX_TOKENS]
    got = suffix_scores(middles, prefix, SUFFIX, tokenizer, session.backend)
    for middle, score in zip(middles, got, strict=True):
        before = [tokenizer.eos_id, *tokenizer.encode(read + middle)]
        behind = log_probabilities(session, before + after, len(before))
        assert score == pytest.approx(normalised(behind), abs=1e-4)


def test_middles_that_fill_the_context_are_scored_by_their_end() -> None:
    session = random_session(n_positions=24)
    middles = ["first + second\n" * 20, "x", "", "日本語" * 9]
    got = suffix_scores(middles, PREFIX, SUFFIX, session.tokenizer, session.backend)
    assert all(math.isfinite(score) and score < 0 for score in got)


def test_without_a_suffix_the_middle_alone_counts(session: Session) -> None:
    assert suffix_scores(["a", "b"], PREFIX, "", session.tokenizer, session.backend) == [0.0, 0.0]


class Told:
    """An output that has ended, as the ranking sees it."""

    def __init__(self, text: str, *logprobs: float) -> None:
        self.text = text
        self.tokens_of_text = len(logprobs)
        behind = (-50.0, -70.0)
        self.logprobs = [TokenLogprob(0, "", value) for value in (*logprobs, *behind)]


def test_of_equal_texts_the_better_one_stays_and_of_equals_the_first(session: Session) -> None:
    told = (("x", -1.0, -3.0), ("y", -1.0), ("x", -1.0), ("y", -1.0))
    outputs = [cast("Output", Told(text, *logprobs)) for text, *logprobs in told]
    ranked = rank(outputs, PREFIX, "", session.tokenizer, session.backend)
    assert [(outputs.index(output), score) for output, score in ranked] == [(2, -1.0), (1, -1.0)]


def test_blanks_stand_behind_whatever_else_there_is(session: Session) -> None:
    told = (("", -0.1), (" \n", -0.1), ("x", -9.0), ("y", -8.0))
    outputs = [cast("Output", Told(text, *logprobs)) for text, *logprobs in told]
    ranked = rank(outputs, PREFIX, SUFFIX, session.tokenizer, session.backend)
    assert {output.text for output, _ in ranked[:2]} == {"x", "y"}
    assert ranked[2][1] >= ranked[3][1] > ranked[0][1]


def test_a_middle_that_leads_into_the_suffix_beats_one_that_is_likelier_by_itself() -> None:
    session = random_session(n_positions=160)
    tokenizer = session.tokenizer
    fits = suffix_scores(["x = 1\n", "y = 2\n"], PREFIX, SUFFIX, tokenizer, session.backend)
    better = fits.index(max(fits))
    lead = abs(fits[0] - fits[1])
    for share in (0.9, 1.1):
        likelier = [-1.0 - lead * share * (rank == better) for rank in range(2)]
        told = [
            cast("Output", Told(text, logprob))
            for text, logprob in zip(("x = 1\n", "y = 2\n"), likelier, strict=True)
        ]
        ((first, _), _) = rank(told, PREFIX, SUFFIX, tokenizer, session.backend)
        assert (told.index(first) == better) == (share < 1)
