"""Which of several middles is the best: the one that the model likes, and what follows it too.

A middle's score is the mean log-probability of its tokens plus that of the suffix's first tokens
behind prefix and middle, read from left to right. The first term alone cannot tell a middle that
leads back into the suffix from one that does not: the prompt has shown the suffix, but nothing
makes the model use it.
"""

import math
from collections.abc import Sequence

from bigcode_cli.engine.output import Output
from bigcode_cli.engine.protocol import Backend
from bigcode_cli.text.tokenizer import Tokenizer

SUFFIX_TOKENS = 16
"""Of the suffix, how many are scored; more is less and less the middle's doing."""

PREFIX_TOKENS = 256
"""Of the prefix, how many are read before: what is further away tells little of the suffix."""


def rank(
    outputs: Sequence[Output], prefix: str, suffix: str, tokenizer: Tokenizer, backend: Backend
) -> list[tuple[Output, float]]:
    """The outputs with their scores, best first; of those with the same text, the best one.

    Args:
        outputs: ended, with the log-probability of each token; among equals, the first is best.
        prefix, suffix: the texts around the hole, as the model was shown them.
    """
    best: dict[str, Output] = {}
    for output in outputs:
        known = best.get(output.text)
        if known is None or middle_score(output) > middle_score(known):
            best[output.text] = output
    fits = suffix_scores(list(best), prefix, suffix, tokenizer, backend)
    scored = [
        (output, middle_score(output) + fit)
        for output, fit in zip(best.values(), fits, strict=True)
    ]
    return sorted(scored, key=lambda pair: -pair[1])


def middle_score(output: Output) -> float:
    """Mean log-probability of the middle's tokens, the one that ended it counted in."""
    told = [token.logprob for token in output.logprobs[: output.tokens_of_text]]
    return math.fsum(told) / len(told)


def suffix_scores(
    middles: Sequence[str], prefix: str, suffix: str, tokenizer: Tokenizer, backend: Backend
) -> list[float]:
    """Of each middle, the mean log-probability of the suffix's first tokens behind it.

    Zero for all where there is no suffix. Prefix, middle and suffix are encoded each by itself, so
    that the suffix's tokens are the same whatever stands before them. In a short context, the
    suffix has a quarter of it, a middle's end half, and the prefix what they leave.
    """
    context = backend.info.n_positions
    after = tokenizer.encode(suffix)[: min(SUFFIX_TOKENS, context // 4)]
    if not after:
        return [0.0] * len(middles)
    tails = [[*tokenizer.encode(middle)[-(context // 2) :], *after] for middle in middles]
    room = min(PREFIX_TOKENS, context - max(len(tail) for tail in tails))
    before = [tokenizer.eos_id, *tokenizer.encode(prefix)][-room:]
    scores = backend.score_tails(before, tails, len(after))
    return [math.fsum(some) / len(some) for some in scores]
