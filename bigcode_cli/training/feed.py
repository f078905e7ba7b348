"""An endless, exactly resumable stream of training windows, made ahead by worker processes.

Each epoch shuffles the pieces and draws new holes. All that a block of windows depends on is the
seed, the epoch and the block's number, so any place in the stream can be gone to again.
"""

import mmap
from array import array
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bigcode_cli.errors import ModelUnsupportedError
from bigcode_cli.text.fim import find_dialect
from bigcode_cli.text.tokenizer import Tokenizer
from bigcode_cli.training.bpe import Pieces
from bigcode_cli.training.objective import Objective, Vocabulary, windows
from bigcode_cli.training.workers import ordered_map

PADS = "<fim_pad>", "<fim-pad>"
"""As StarCoder and as SantaCoder spell it."""


@dataclass(frozen=True, slots=True)
class Place:
    """The next window of the stream."""

    epoch: int = 0
    block: int = 0
    window: int = 0


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """What the stream depends on.

    Attributes:
        corpus: folder of ``corpus.bin`` and ``pieces.idx``.
        tokenizer: folder of ``tokenizer.json``.
        block_tokens: about how many tokens are packed together.
    """

    corpus: Path
    tokenizer: Path
    objective: Objective
    n_positions: int
    seed: int
    block_tokens: int = 2**20


def load_vocabulary(folder: Path) -> Vocabulary:
    """What the objective needs of a tokenizer.

    Raises:
        ModelUnsupportedError: it lacks the fill-in-the-middle tokens, or has ids beyond 16 bits.
    """
    tokenizer = Tokenizer.load(folder)
    dialect = find_dialect(tokenizer)
    pad = next((id_ for name in PADS if (id_ := tokenizer.token_id(name)) is not None), None)
    if pad is None or pad not in tokenizer.control_ids:
        raise ModelUnsupportedError(f"the tokenizer has no {PADS[0]} token")
    if tokenizer.vocab_size > 2**16:
        raise ModelUnsupportedError("a vocabulary beyond 65,536 tokens cannot be trained here")
    return Vocabulary(tokenizer.encode, dialect, tokenizer.eos_id, pad)


def plan_epoch(pieces: Pieces, seed: int, epoch: int, block_tokens: int) -> list[list[int]]:
    """The pieces of each block of an epoch: all pieces once, shuffled."""
    order = list(range(len(pieces.starts)))
    Random(f"pieces/{seed}/{epoch}").shuffle(order)
    blocks: list[list[int]] = [[]]
    tokens = 0
    for piece in order:
        if tokens >= block_tokens:
            blocks.append([])
            tokens = 0
        blocks[-1].append(piece)
        tokens += pieces.tokens[piece]
    return blocks


class _Maker:
    """Makes the windows of any block; one in each process."""

    def __init__(self, options: FeedOptions) -> None:
        self.options = options
        self.vocabulary = load_vocabulary(options.tokenizer)
        self.pieces = Pieces.load(options.corpus / "pieces.idx")
        with (options.corpus / "corpus.bin").open("rb") as blob:
            self.text = mmap.mmap(blob.fileno(), 0, access=mmap.ACCESS_READ)
        self.planned: tuple[int, list[list[int]]] | None = None

    def plan(self, epoch: int) -> list[list[int]]:
        if self.planned is None or self.planned[0] != epoch:
            options = self.options
            self.planned = (
                epoch,
                plan_epoch(self.pieces, options.seed, epoch, options.block_tokens),
            )
        return self.planned[1]

    def make(self, epoch: int, block: int) -> "array[int]":
        options, pieces = self.options, self.pieces
        texts = [
            self.text[pieces.starts[piece] : pieces.starts[piece] + pieces.sizes[piece]].decode()
            for piece in self.plan(epoch)[block]
        ]
        random = Random(f"windows/{options.seed}/{epoch}/{block}")
        return windows(texts, options.objective, self.vocabulary, options.n_positions, random)


_maker: _Maker | None = None


def _set_up(options: FeedOptions) -> None:
    global _maker
    _maker = _Maker(options)


def _make(task: tuple[int, int]) -> "array[int]":
    assert _maker is not None
    return _maker.make(*task)


def batches(
    options: FeedOptions, place: Place, *, batch: int, workers: int = 0
) -> Generator[tuple["array[int]", Place]]:
    """Endless batches of ``batch`` windows ``(batch, n_positions + 1)``, flat, from ``place`` on.

    Each comes with the place that follows it. A batch may hold the end of one epoch and the
    beginning of the next.
    """
    pieces = Pieces.load(options.corpus / "pieces.idx")

    def tasks() -> Iterator[tuple[int, int]]:
        epoch, first = place.epoch, place.block
        while True:
            count = len(plan_epoch(pieces, options.seed, epoch, options.block_tokens))
            yield from ((epoch, block) for block in range(first, count))
            epoch, first = epoch + 1, 0

    width = options.n_positions + 1
    names = tasks()
    blocks = ordered_map(_make, tasks(), workers=workers, setup=_set_up, setup_args=(options,))
    gathered = array("H")
    skip = place.window
    for (epoch, block), made in zip(names, blocks, strict=False):
        count = len(made) // width
        while skip < count:
            take = min(count - skip, batch - len(gathered) // width)
            gathered.extend(made[skip * width : (skip + take) * width])
            skip += take
            if len(gathered) == batch * width:
                yield gathered, Place(epoch, block, skip)
                gathered = array("H")
        skip -= count
