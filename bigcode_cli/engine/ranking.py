"""Which of several middles is the best: the one that the model likes, and what follows it too.

A middle's score is the log-probability of its tokens, plus that of the suffix's first tokens
behind prefix and middle, read from left to right. The first term alone cannot tell a middle that
leads back into the suffix from one that does not: the prompt has shown the suffix, but nothing
makes the model use it.

Both are normalised by their length as in Wu et al. 2016 (section 7): ``sum / length ** ALPHA``.
The figures below are of the built-in model, the greedy middle and nine sampled ones at
temperatures 0.4 and 0.8: exact middles of HumanEval-Infilling's 1,033 single-line tasks, with the
line's end in the middle or in the suffix.
"""

import math
from collections.abc import Sequence
from itertools import takewhile

from bigcode_cli.engine.output import Output
from bigcode_cli.engine.protocol import Backend
from bigcode_cli.text.tokenizer import Tokenizer

ALPHA = 0.6
"""Between sums, which prefer what is short, and means, which care little for it: 20.3 and 21.3 %
exact against 18.5 and 20.1 % with means, and 16.3 and 15.7 % of the greedy middle alone."""

SUFFIX_TOKENS = 16
"""Of the suffix, how many are scored. With 8, up to one point less; with 32, no more."""

PREFIX_TOKENS = 256
"""Of the prefix, how many are read before. With 64, up to one point less; with 1,024, no more."""


def rank(
    outputs: Sequence[Output],
    prefix: str,
    suffix: str,
    tokenizer: Tokenizer,
    backend: Backend,
    *,
    line_end: str = "",
) -> list[tuple[Output, float]]:
    """The outputs with their scores, best first; of those with the same text, the best one.

    Middles of nothing but blanks stand behind all others: the suffix goes well with many a prefix,
    but whoever asks has something missing.

    Args:
        outputs: ended, with the log-probability of each token; among equals, the first is best.
        prefix, suffix: the texts around the hole, as the model was shown them.
        line_end: what is still to come between a middle and the suffix.
    """
    best: dict[str, Output] = {}
    for output in outputs:
        known = best.get(output.text)
        if known is None or middle_score(output) > middle_score(known):
            best[output.text] = output
    middles = [text + line_end for text in best]
    fits = suffix_scores(middles, prefix, suffix, tokenizer, backend)
    scored = [
        (output, middle_score(output) + fit)
        for output, fit in zip(best.values(), fits, strict=True)
    ]
    return sorted(scored, key=lambda pair: (not pair[0].text.strip(), -pair[1]))


def middle_score(output: Output) -> float:
    """Of the middle's tokens, the one that ended it counted in."""
    return _normalised([token.logprob for token in output.logprobs[: output.tokens_of_text]])


def suffix_scores(
    middles: Sequence[str], prefix: str, suffix: str, tokenizer: Tokenizer, backend: Backend
) -> list[float]:
    """Of the suffix's first tokens behind each middle; zero for all where there is no suffix.

    Prefix and middle are encoded as the one text that they are; the suffix by itself, so that its
    tokens are the same behind every middle. Where the context is too short, the left end goes.
    """
    context = backend.info.n_positions
    after = tokenizer.encode(suffix)[: min(SUFFIX_TOKENS, context // 4)]
    if not after:
        return [0.0] * len(middles)
    # Tokens may begin inside of a character.
    read = tokenizer.decode(tokenizer.encode(prefix)[-PREFIX_TOKENS:]).lstrip("\ufffd")
    texts = [tokenizer.encode(read + middle) for middle in middles]
    surplus = max(0, max(map(len, texts)) - (context - len(after) - 1))
    rows = [[tokenizer.eos_id, *text[surplus:]] for text in texts]
    shared = takewhile(lambda ids: len(set(ids)) == 1, zip(*rows, strict=False))
    common = [ids[0] for ids in shared]
    tails = [[*row[len(common) :], *after] for row in rows]
    return [_normalised(some) for some in backend.score_tails(common, tails, len(after))]


def _normalised(logprobs: Sequence[float]) -> float:
    return math.fsum(logprobs) / math.pow(len(logprobs), ALPHA)
