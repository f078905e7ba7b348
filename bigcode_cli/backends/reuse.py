"""Keys and values of the last prompt, kept for one that begins alike.

Whoever asks for a completion at each pause in typing sends nearly the same prompt each time. A
token's keys and values depend on the tokens up to it alone, so those of the common beginning are
copied instead of computed: a few megabytes a thousand tokens with multi-query attention. A copy
leaves the rows that they came from untouched, which may still be stepped.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bigcode_cli.model.cache import KVCache

MIN_REUSED = 16
"""Fewer tokens in common, control tokens mostly, are computed anew: it costs no more."""


class KeptRow:
    """One row's tokens and their cache.

    Args:
        ids: what the row's prompt holds and what was sampled since; may grow, and may be longer
            than what the model was fed.
        cache: of that one row; may grow too.
    """

    def __init__(self, ids: list[int], cache: "KVCache") -> None:
        self._ids = ids
        self._cache = cache

    def lend(self, cache: "KVCache", ids: Sequence[int]) -> int:
        """Copy into an empty cache what the two have in common from their first token.

        At least the last of ``ids`` is left to be fed: the next token is read from its state.

        Returns:
            how many tokens the cache holds now.
        """
        count = reusable(self._ids[: self._cache.longest], ids)
        if count == 0:
            return 0
        for own, theirs in zip(self._cache.layers, cache.layers, strict=True):
            theirs[:, :, :count] = own[:, :, :count]
        cache.advance(count)
        return count


def reusable(held: Sequence[int], ids: Sequence[int]) -> int:
    """How many of the ids that a cache holds serve a prompt, whose last id is always fed."""
    pairs = zip(held, ids[: len(ids) - 1], strict=False)
    count = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return count if count >= MIN_REUSED else 0
