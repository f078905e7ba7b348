"""What scoring is held against: one token at a time, each with the context that it is promised."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch

from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.engine.session import Session
from bigcode_cli.records import Scored, ScoredTokens, ScoreOptions, ScoreRequest, TokenScore
from tests.tokenizers import TINY_TEXT

TEXTS = [
    "x",
    "def add(first, second):\n    return first + second\n",
    "été 日本語 🙂🙂\r\n\tprint('x')\n\n\n",
    TINY_TEXT,
    "aa bb\n" * 40,
]
OPTIONS = [
    ScoreOptions(context=context, stride=stride, bos=bos, tokens=True)
    for context, stride in [(None, None), (16, 8), (16, 1), (16, 15), (7, 3), (2, 1)]
    for bos in (True, False)
]


@dataclass(frozen=True)
class Expected:
    """A text's tokens, and the log-probability of each by brute force; ``None`` is not scored."""

    ids: list[int]
    logprobs: list[float | None]


def by_brute_force(session: Session, text: str, options: ScoreOptions) -> Expected:
    """Each token from a pass of its own, over just the tokens that its window shows it.

    The law, without windows: with context c and stride s, the window of the token at position p
    (the end of text before it counted in) begins at the largest multiple of s that leaves the
    token within c of it, but no later than c before the text's end.
    """
    ids = session.tokenizer.encode(text)
    row = [session.tokenizer.eos_id, *ids] if options.bos else ids
    context = options.context or session.info.n_positions
    stride = options.stride or context // 2
    logprobs: list[float | None] = []
    for position in range(len(row) - len(ids), len(row)):
        steps = max(0, -(-(position + 1 - context) // stride))
        start = max(0, min(steps * stride, len(row) - context))
        logprobs.append(log_probability(session, row[start : position + 1]))
    return Expected(ids, logprobs)


def log_probability(session: Session, ids: Sequence[int]) -> float | None:
    """Of the last id after the others, in float64; ``None`` where there are no others."""
    if len(ids) == 1:
        return None
    assert isinstance(session.backend, TorchBackend)
    with torch.inference_mode():
        logits = session.backend._model(torch.tensor([ids[:-1]]), use_cache=False).logits[0, -1]
    return float(logits.double().log_softmax(-1)[ids[-1]])


@dataclass(frozen=True)
class Told:
    """What a session told of a text."""

    tokens: list[TokenScore]
    scored: Scored


def score(session: Session, texts: Sequence[str], options: ScoreOptions) -> list[Told]:
    """Score the texts, each cut into uneven pieces."""
    requests = [ScoreRequest(pieces=[text[:7], text[7:8], "", text[8:]]) for text in texts]
    told: list[Told] = []
    tokens: list[TokenScore] = []
    for event in session.score(requests, options):
        if isinstance(event, ScoredTokens):
            tokens += event.tokens
        else:
            assert isinstance(event, Scored)
            told.append(Told(tokens, event))
            tokens = []
    return told


def faults(told: Sequence[Told], expected: Sequence[Expected]) -> list[str]:
    """Where what was told is not what brute force found."""
    found = []
    for one, wanted in zip(told, expected, strict=True):
        logprobs = [logprob for logprob in wanted.logprobs if logprob is not None]
        sizes = [len(token.data) for token in one.tokens if token.logprob is not None]
        checks = {
            "ids": [token.id for token in one.tokens] == wanted.ids,
            "logprobs": same([token.logprob for token in one.tokens], wanted.logprobs),
            "tokens": one.scored.tokens == len(wanted.ids),
            "scored": one.scored.scored_tokens == len(logprobs),
            "nll": one.scored.nll_sum == pytest.approx(-math.fsum(logprobs), rel=1e-5, abs=1e-6),
            "bytes": one.scored.n_bytes == sum(sizes),
        }
        found += [name for name, holds in checks.items() if not holds]
    return found


def same(got: Sequence[float | None], wanted: Sequence[float | None]) -> bool:
    return len(got) == len(wanted) and all(
        (one is None) is (other is None) and (one is None or one == pytest.approx(other, abs=2e-4))
        for one, other in zip(got, wanted, strict=True)
    )
