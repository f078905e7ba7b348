"""A byte-level BPE tokenizer of the StarCoder kind, trained on a corpus, and pieces cut by it.

Pre-tokenisation, control tokens and their ids 0–18 are StarCoder's (Li et al. 2023): digits stand
alone, the rest is split as in GPT-2 (Radford et al. 2019) and spelled in its byte alphabet.
"""

import json
import sys
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from bigcode_cli.errors import UsageError
from bigcode_cli.training.data.corpus import Corpus, read_offsets
from bigcode_cli.training.workers import ordered_map

if TYPE_CHECKING:
    import tokenizers

CONTROL_TOKENS = (
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
BYTES = 256
_DOCUMENTS_A_TASK = 64


def train_tokenizer(corpus: Corpus, folder: Path, *, vocab_size: int, sample_bytes: int) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``, learned from evenly spread documents.

    Args:
        vocab_size: tokens in all, the control tokens and 256 bytes among them.
        sample_bytes: about how much text to learn from.

    Raises:
        UsageError: no room for the bytes and the control tokens, or ids beyond 16 bits.
    """
    smallest = len(CONTROL_TOKENS) + BYTES
    if not smallest <= vocab_size <= 2**16:
        raise UsageError(f"vocab_size must be from {smallest} to {2**16}, not {vocab_size}")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    step = max(1, corpus.bytes // max(1, sample_bytes))
    tokenizer.train_from_iterator(corpus.texts(step), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    names = {
        "tokenizer_class": "GPT2TokenizerFast",
        "add_prefix_space": False,
        "bos_token": CONTROL_TOKENS[0],
        "eos_token": CONTROL_TOKENS[0],
        "unk_token": CONTROL_TOKENS[0],
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(names, indent=1) + "\n", "utf-8")


@dataclass(frozen=True, slots=True)
class Pieces:
    """A corpus cut into pieces of at most so many tokens, at line ends; short documents are whole.

    Attributes:
        starts: of each piece in ``corpus.bin``.
        sizes: in bytes.
        tokens: as each piece encodes by itself, about: a cut may change a token or two.
    """

    starts: "array[int]"
    sizes: "array[int]"
    tokens: "array[int]"

    def save(self, path: Path) -> None:
        """Write the three columns one after the other, unsigned 64-bit little endian."""
        columns = self.starts + self.sizes + self.tokens
        if sys.byteorder == "big":
            columns.byteswap()
        path.write_bytes(columns.tobytes())

    @classmethod
    def load(cls, path: Path) -> "Pieces":
        """Read what ``save`` wrote."""
        columns = array("Q")
        columns.frombytes(path.read_bytes())
        if sys.byteorder == "big":
            columns.byteswap()
        count = len(columns) // 3
        return cls(columns[:count], columns[count : 2 * count], columns[2 * count :])


def cut_corpus(corpus: Corpus, tokenizer: Path, *, budget: int, workers: int = 0) -> Pieces:
    """Cut all documents into pieces of at most ``budget`` tokens.

    Args:
        tokenizer: the folder of ``tokenizer.json``.
        workers: processes to tokenise with; 0 does it in this one.
    """
    offsets = read_offsets(corpus.folder)
    tasks = [
        list(offsets[start : start + _DOCUMENTS_A_TASK + 1])
        for start in range(0, corpus.documents, _DOCUMENTS_A_TASK)
    ]
    setup = (corpus.folder, tokenizer, budget)
    pieces = Pieces(array("Q"), array("Q"), array("Q"))
    for rows in ordered_map(_cut_some, tasks, workers=workers, setup=_prepare, setup_args=setup):
        for start, size, tokens in rows:
            pieces.starts.append(start)
            pieces.sizes.append(size)
            pieces.tokens.append(tokens)
    return pieces


_cutter: "tuple[Path, tokenizers.Tokenizer, int] | None" = None


def _prepare(corpus: Path, tokenizer: Path, budget: int) -> None:
    global _cutter
    import tokenizers

    library = tokenizers.Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    library.encode_special_tokens = True
    _cutter = corpus / "corpus.bin", library, budget


def _cut_some(offsets: list[int]) -> list[tuple[int, int, int]]:
    """Cut the documents that lie between neighbouring offsets: (start, bytes, tokens) a piece."""
    assert _cutter is not None
    path, library, budget = _cutter
    rows: list[tuple[int, int, int]] = []
    with path.open("rb") as blob:
        for start, end in pairwise(offsets):
            blob.seek(start)
            text = blob.read(end - start).decode()
            starts = [first for first, _ in library.encode(text).offsets]
            cuts = cut_at_lines(text, starts, budget)
            sizes = [len(text[first:last].encode()) for first, last in pairwise(cuts)]
            counts = [
                bisect_left(starts, last) - bisect_left(starts, first)
                for first, last in pairwise(cuts)
            ]
            places = accumulate(sizes, initial=start)
            rows.extend(zip(places, sizes, counts, strict=False))
    return rows


def cut_at_lines(text: str, starts: list[int], budget: int) -> list[int]:
    """Where to cut a text: 0, cuts after line ends, its length; at most ``budget`` tokens between.

    Args:
        starts: the character at which each token begins.
    """
    cuts = [0]
    while True:
        token = bisect_left(starts, cuts[-1]) + budget
        if token >= len(starts):
            return [*cuts, len(text)]
        cut = text.rfind("\n", cuts[-1], starts[token]) + 1
        # A line longer than a whole piece is cut where the piece is full.
        cuts.append(cut or starts[token])
