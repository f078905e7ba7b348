"""Surprisal as colours: how many bits look how, and which characters a token's colour covers."""

import codecs
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bigcode_cli.cli.html import Paint, Swatch
from bigcode_cli.records import TokenScore

BOUNDS = (1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 14.0)
"""Bits at which the next level begins. What costs less than the first is expected, and plain."""

CAPTION = "bits a token"

_BLACK, _WHITE = "#000000", "#ffffff"

ON_LIGHT = (
    None,
    Paint("#ffffb2", _BLACK),
    Paint("#fed976", _BLACK),
    Paint("#feb24c", _BLACK),
    Paint("#fd8d3c", _BLACK),
    Paint("#fc4e2a", _BLACK),
    Paint("#e31a1c", _WHITE),
    Paint("#800026", _WHITE),
)
"""ColorBrewer's YlOrRd: the more bits the darker, whichever hues an eye can tell apart."""

ON_DARK = (
    None,
    Paint("#280b53", _WHITE),
    Paint("#65156e", _WHITE),
    Paint("#9f2a63", _WHITE),
    Paint("#d44842", _BLACK),
    Paint("#f57d15", _BLACK),
    Paint("#fac127", _BLACK),
    Paint("#fcffa4", _BLACK),
)
"""matplotlib's inferno: the more bits the lighter."""


def label(first: int, last: int) -> str:
    """The bits from a first level to a last one."""
    if last == len(BOUNDS):
        return f"≥{BOUNDS[first - 1]:.0f}"
    return f"{BOUNDS[first - 1]:.0f}–{BOUNDS[last]:.0f}" if first else f"<{BOUNDS[last]:.0f}"


LEGEND = tuple(
    Swatch(label(number, number), light, dark)
    for number, (light, dark) in enumerate(zip(ON_LIGHT, ON_DARK, strict=True))
)


def level(bits: float) -> int:
    """The position in ``LEGEND`` of a surprisal."""
    return bisect_right(BOUNDS, bits)


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole characters, and the tokens that they are made of.

    Attributes:
        text: may be empty only where tokens stand for nothing.
        tokens: one, or those that share characters.
    """

    text: str
    tokens: tuple[TokenScore, ...]

    @property
    def bits(self) -> float | None:
        """Surprisal of the most surprising token; ``None`` where none counts."""
        return max(
            (bits for token in self.tokens if (bits := token.bits) is not None), default=None
        )

    @property
    def level(self) -> int | None:
        """The position in ``LEGEND``; ``None`` where no token counts."""
        return None if (bits := self.bits) is None else level(bits)


class Pieces:
    """Tokens as they come, put together where they begin or end within a character.

    The pieces' texts joined are the tokens' bytes as UTF-8, with U+FFFD where they are none.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._held: list[TokenScore] = []

    def push(self, tokens: Sequence[TokenScore]) -> Iterator[Piece]:
        """The pieces that are whole now."""
        for token in tokens:
            self._held.append(token)
            self._text += self._decoder.decode(token.data)
            if not self._decoder.getstate()[0]:
                yield from self._take()

    def flush(self) -> Iterator[Piece]:
        """What is left of a text that ends within a character."""
        self._text += self._decoder.decode(b"", final=True)
        yield from self._take()

    def _take(self) -> Iterator[Piece]:
        text, self._text = self._text, ""
        tokens, self._held = tuple(self._held), []
        if tokens:
            yield Piece(text, tokens)
