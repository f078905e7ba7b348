"""Scored tokens summed by line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log

from bigcode_cli.records import TokenScore
from bigcode_cli.records.scoring import bits_per_byte


@dataclass(frozen=True, slots=True, kw_only=True)
class LineScore:
    """A line of a text: the tokens that begin in it and count.

    Attributes:
        line: its number, from 1.
        tokens: that count.
        n_bytes: that they stand for. A token that begins in this line and goes on in the next is
            counted here alone.
        nll_sum: their negative log-likelihood, in nats.
        text: of the line, without its end; bytes that are no UTF-8 are U+FFFD.
    """

    line: int
    tokens: int
    n_bytes: int
    nll_sum: float
    text: str

    @property
    def bits(self) -> float:
        """What the line costs."""
        return self.nll_sum / log(2)

    @property
    def bits_per_byte(self) -> float | None:
        """What each of its bytes costs."""
        return bits_per_byte(self.nll_sum, self.n_bytes)


class Lines:
    """The tokens of one text as they come, summed by line; no more is held than a line."""

    def __init__(self) -> None:
        self._data = bytearray()  # of the text, from the line under way on
        self._line = 1
        self._tokens = 0
        self._bytes = 0
        self._nll = 0.0

    def push(self, tokens: Sequence[TokenScore]) -> Iterator[LineScore]:
        """The lines that are done now and have a token that counts."""
        for token in tokens:
            if token.line > self._line:
                yield from self._take(token.line)
            self._data += token.data
            if token.logprob is not None:
                self._tokens += 1
                self._bytes += len(token.data)
                self._nll -= token.logprob

    def flush(self) -> Iterator[LineScore]:
        """The last line, if a token of it counts."""
        yield from self._take(self._line + 1)

    def _take(self, line: int) -> Iterator[LineScore]:
        """End the line under way; ``line`` is the next that a token begins in."""
        if self._tokens:
            end = self._data.find(b"\n")
            content = self._data if end < 0 else self._data[:end].removesuffix(b"\r")
            yield LineScore(
                line=self._line,
                tokens=self._tokens,
                n_bytes=self._bytes,
                nll_sum=self._nll,
                text=content.decode("utf-8", "replace"),
            )
        for _ in range(line - self._line):
            del self._data[: self._data.find(b"\n") + 1]
        self._line, self._tokens, self._bytes, self._nll = line, 0, 0, 0.0
