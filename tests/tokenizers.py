"""Tokenizers for tests: StarCoder's own, and a tiny one trained on the spot."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

from bigcode_cli.text.tokenizer import Tokenizer

FIXTURES = Path(__file__).parent / "text" / "fixtures"

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<fim_prefix>",
    "<fim_middle>",
    "<fim_suffix>",
    "<fim_pad>",
    "<filename>",
    "<gh_stars>",
    "<issue_start>",
    "<issue_comment>",
    "<issue_closed>",
    "<jupyter_start>",
    "<jupyter_text>",
    "<jupyter_code>",
    "<jupyter_output>",
    "<empty_output>",
    "<commit_before>",
    "<commit_msg>",
    "<commit_after>",
    "<reponame>",
)
"""StarCoder's, in the order of their ids 0 to 18."""

TINY_VOCAB_SIZE = 384
TINY_TEXT = '''\
def add(first, second):
    """The sum of two numbers."""
    return first + second


class Counter:
    def __init__(self, start=0):
        self.value = start

    def add(self, number):
        for _ in range(number):
            self.value += 1
        return self.value


if __name__ == "__main__":
    print(add(1, 2), "été", "日本語", "🙂")
'''


@cache
def starcoder_json() -> str:
    """The content of StarCoder's tokenizer.json."""
    return gzip.decompress((FIXTURES / "starcoder_tokenizer.json.gz").read_bytes()).decode()


@cache
def starcoder_tokenizer() -> Tokenizer:
    """StarCoder's tokenizer, 49,152 tokens."""
    return Tokenizer.from_json(starcoder_json())


@cache
def tiny_json() -> str:
    """A tokenizer.json of 384 tokens: 19 special ones, 256 bytes, and merges of a little Python."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, trainers

    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TINY_VOCAB_SIZE,
        min_frequency=1,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator([TINY_TEXT], trainer)
    return library.to_str()


def tiny_document() -> dict[str, Any]:
    """``tiny_json`` parsed: a copy to change."""
    document: dict[str, Any] = json.loads(tiny_json())
    return document


@cache
def tiny_tokenizer() -> Tokenizer:
    """The tokenizer of ``tiny_json``."""
    return Tokenizer.from_json(tiny_json())
