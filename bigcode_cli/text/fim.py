"""Fill-in-the-middle prompts: which control tokens a model has, and in which order they stand.

Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle", with the
orders that SantaCoder and StarCoder were trained on. The middle's ids follow the prompt's in both
orders, and ``<|endoftext|>`` follows the middle; training appends both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bigcode_cli.text.tokenizer import Tokenizer

DialectName = Literal["starcoder", "santacoder"]

SPELLINGS: dict[DialectName, tuple[str, str, str]] = {
    "starcoder": ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    "santacoder": ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
}
"""Prefix, suffix and middle token of each dialect."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The ids of a tokenizer's three fill-in-the-middle tokens."""

    name: DialectName
    prefix_id: int
    suffix_id: int
    middle_id: int


def find_dialect(tokenizer: Tokenizer) -> Dialect | None:
    """The dialect whose three tokens are all control tokens of this tokenizer, if one is."""
    for name, spellings in SPELLINGS.items():
        ids = [id_ for text in spellings if (id_ := tokenizer.token_id(text)) is not None]
        if len(ids) == len(spellings) and tokenizer.control_ids.issuperset(ids):
            return Dialect(name, *ids)
    return None


def psm(dialect: Dialect, prefix: Sequence[int], suffix: Sequence[int]) -> list[int]:
    """Prefix, suffix, middle: ``PREFIX prefix SUFFIX suffix MIDDLE``."""
    return [dialect.prefix_id, *prefix, dialect.suffix_id, *suffix, dialect.middle_id]


def spm(dialect: Dialect, prefix: Sequence[int], suffix: Sequence[int]) -> list[int]:
    """Suffix, prefix, middle: ``PREFIX SUFFIX suffix MIDDLE prefix``; the middle goes straight on.

    The order that SantaCoder and StarCoder were trained on (their variant 2); others exist.
    """
    return [dialect.prefix_id, dialect.suffix_id, *suffix, dialect.middle_id, *prefix]
