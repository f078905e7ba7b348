"""Which label each token of a text is given, from the log-probabilities of all labels.

Taken one by one, the most probable labels of neighbours cut parts to pieces. The best path through
them (Viterbi 1967) is the sequence of labels whose sum of log-probabilities, less the costs of its
changes of part, is highest. What a change costs hangs on the kind of the boundary between the two
tokens, told by the bytes on its sides: parts hardly ever begin or end inside of a word.

Scores are one array of float32 log-probabilities, of all labels of the first token, then of all
labels of the second, and so on.
"""

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate

from bigcode_cli.records import ChangeCosts
from bigcode_cli.text.spans import Tag

WORD, MARK, FREE = range(3)
"""The kinds of boundaries, in the order of ``ChangeCosts``."""

_QUOTES = "\"'`"


def _openness(byte: int) -> int:
    """The kind of the boundaries that a byte stands at, unless its neighbour is more open."""
    character = chr(byte)
    if byte >= 0x80 or character.isalnum():
        return WORD
    return FREE if character.isspace() or character in _QUOTES else MARK


_OPENNESS = bytes(map(_openness, range(256)))


def boundaries(text: str, lengths: Sequence[int]) -> bytes:
    """The kind of each boundary between two tokens, one less than there are tokens.

    It is ``FREE`` where a blank or a quotation mark stands on a side of it; ``WORD`` between two
    letters, digits or bytes of other characters than ASCII's, so inside of those too; else
    ``MARK``.

    Args:
        lengths: of each token in bytes; together they are the text in UTF-8.
    """
    kinds = text.encode().translate(_OPENNESS)
    return bytes(max(kinds[at - 1], kinds[at]) for at in accumulate(lengths[:-1]))


def goes_on(before: Tag, after: Tag) -> bool:
    """Whether a token is in what the one before it is in: one part, or outside of all."""
    return before.label == after.label and not before.ends and not after.begins


def followers(tags: Sequence[Tag]) -> tuple[tuple[int, ...], ...]:
    """Of each label, those that go on with what it is in."""
    return tuple(
        tuple(at for at, after in enumerate(tags) if goes_on(before, after)) for before in tags
    )


def likeliest(scores: "array[float]", count: int) -> list[int]:
    """The label with the highest score of each token; of equals the lowest.

    Args:
        count: of labels.
    """
    return [row.index(max(row)) for row in _rows(scores, count)]


def best_path(
    scores: "array[float]",
    follow: Sequence[Sequence[int]],
    kinds: Sequence[int],
    costs: ChangeCosts,
) -> list[int]:
    """The labels of tokens with the highest sum of scores less the costs of the changes.

    Args:
        follow: of each label, those that a token may have behind it at no cost: see ``followers``.
        kinds: of the boundaries, one less than there are tokens.
    """
    prices = (costs.word, costs.mark, costs.free)
    # Where all labels are best reached from one, which is nearly everywhere, its row is shared.
    shared = [[label] * len(follow) for label in range(len(follow))]
    came: list[list[int]] = []  # of each token but the first: the label before it, by its own
    rows = _rows(scores, len(follow))
    totals: Sequence[float] = next(rows, ())  # of the best paths to each label
    for kind, row in zip(kinds, rows, strict=True):
        # What all paths have in common is taken off, so that sums stay exact in long texts. Only
        # from labels worth more than the best and a change does it pay to go on.
        best, price = max(totals), prices[kind]
        source, changed = totals.index(best), best - price
        reached = [score - price for score in row]
        before = shared[source]
        for label in [at for at, total in enumerate(totals) if total > changed]:
            ahead = totals[label] - best
            for after in follow[label]:
                if ahead + row[after] > reached[after]:
                    reached[after] = ahead + row[after]
                    if label != before[after]:
                        before = before.copy() if before is shared[source] else before
                        before[after] = label
        totals = reached
        came.append(before)
    path = [totals.index(max(totals))] if totals else []
    for before in reversed(came):
        path.append(before[path[-1]])
    return path[::-1]


def _rows(scores: "array[float]", count: int) -> Iterator[tuple[float, ...]]:
    """The scores of one token after another."""
    return zip(*[iter(scores)] * count, strict=True)
