"""How scores and the texts they are of are written."""

import re
from dataclasses import dataclass

from bigcode_cli.cli.sources import Source
from bigcode_cli.records import Scored

_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What would end a line or a column, or cannot be written: bytes of names that are no UTF-8."""


@dataclass(frozen=True, slots=True)
class Item:
    """One text.

    Attributes:
        number: its position among the texts.
    """

    number: int
    source: Source

    @property
    def name(self) -> str:
        """How rows call it: its path, its record's id, or where its record is."""
        source = self.source
        if source.path is not None:
            return source.path
        return source.place if source.id is None else str(source.id)

    @property
    def key(self) -> dict[str, str | int | None]:
        """How JSON calls it."""
        source = self.source
        return {"id": source.id} if source.path is None else {"path": source.path}


def figure(value: float | None) -> str:
    """A number for other programs, with six significant digits."""
    return "nan" if value is None else f"{value:.6g}"


def decimals(value: float | None, places: int) -> str:
    """A number for people."""
    if value is None:
        return "-"
    return f"{value:,.{places}f}" if value < 1e7 else f"{value:.2e}"


def column(name: str, encoding: str) -> str:
    r"""A name within a line of a pipe: what would break the line is spelled out, as ``\t``."""
    safe = _BREAKING.sub(_spelled, name)
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def facts(scored: Scored) -> str:
    """A score in a sentence."""
    if not scored.scored_tokens:
        return "no token to score"
    return (
        f"perplexity {decimals(scored.perplexity, 2)}, "
        f"{decimals(scored.bits_per_byte, 3)} bits/byte, {scored.scored_tokens:,} tokens"
    )


def total_name(count: int) -> str:
    """How the sum of some texts is called."""
    return f"total of {count:,} text{'s' * (count != 1)}"


def _spelled(match: re.Match[str]) -> str:
    byte = ord(match[0]) - 0xDC00  # as Python holds those that are no UTF-8
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else match[0].encode("unicode_escape").decode()
