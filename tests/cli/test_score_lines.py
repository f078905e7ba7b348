"""Tokens summed by line, on any text cut anyhow."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.cli.score_lines import Lines, LineScore
from bigcode_cli.engine.places import Places
from bigcode_cli.records import TokenScore


def cut(data: bytes, places: list[int], counts: list[bool]) -> list[TokenScore]:
    """Tokens of a text that is cut at some places."""
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    found, where = [], Places()
    for number, (start, end) in enumerate(pairwise(bounds)):
        piece = data[start:end]
        logprob = -float(number + 1) if counts[number % len(counts)] else None
        found.append(TokenScore(1, piece, *where.take(piece), logprob, 1, 0.0))
    return found


def summed(tokens: list[TokenScore], size: int) -> list[LineScore]:
    """The lines of tokens that come some at a time."""
    lines = Lines()
    done = [
        line
        for start in range(0, len(tokens), size)
        for line in lines.push(tokens[start : start + size])
    ]
    return [*done, *lines.flush()]


@given(
    st.text(alphabet="ab\n\r\té🙂", max_size=40),
    st.lists(st.integers(0, 200)),
    st.lists(st.booleans(), min_size=1),
    st.integers(1, 5),
)
def test_each_line_has_the_tokens_that_begin_in_it(
    text: str, places: list[int], counts: list[bool], size: int
) -> None:
    tokens = cut(text.encode(), places, counts)
    texts = text.split("\n")
    wanted = []
    for number in range(1, len(texts) + 1):
        here = [one for one in tokens if one.line == number and one.logprob is not None]
        if here:
            sizes = sum(len(one.data) for one in here)
            nll = -sum(one.logprob or 0 for one in here)
            is_last = number == len(texts)
            shown = texts[number - 1].removesuffix("" if is_last else "\r")
            wanted.append((number, len(here), sizes, nll, shown))
    found = summed(tokens, size)
    assert [
        (line.line, line.tokens, line.n_bytes, line.nll_sum, line.text) for line in found
    ] == wanted
    for line in found:
        assert line.bits == line.nll_sum / math.log(2)
        assert line.bits_per_byte == line.bits / line.n_bytes
