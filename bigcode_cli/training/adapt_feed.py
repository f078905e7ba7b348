"""A folder's texts as training windows: cut at line ends, some with holes, packed whole."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise
from random import Random

import torch
from torch import Tensor

from bigcode_cli.text.tokenizer import Tokenizer
from bigcode_cli.training.bpe import cut_at_lines
from bigcode_cli.training.objective import IGNORED, ROOM, Objective, Vocabulary, windows


def epoch_windows(
    texts: Sequence[str],
    objective: Objective,
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    window: int,
    random: Random,
) -> tuple[Tensor, Tensor]:
    """Inputs and targets of one pass over the texts, int64 ``(windows, window)`` each.

    Each pass cuts the texts at other places and draws other holes.
    """
    pieces = [piece for text in texts for piece in cut(text, tokenizer, window, random)]
    flat = windows(pieces, objective, vocabulary, window, random)
    rows = torch.frombuffer(flat, dtype=torch.uint16).long().view(-1, window + 1)
    targets = rows[:, 1:].clone()
    targets[targets == vocabulary.pad_id] = IGNORED
    return rows[:, :-1].contiguous(), targets


def cut(text: str, tokenizer: Tokenizer, window: int, random: Random) -> list[str]:
    """A text in pieces that fit into a window, at line ends; how long the first is, is drawn."""
    budget = max(1, window - ROOM)
    data = text.encode()
    # One character a byte, since a token may begin within a character of the text.
    spelled = data.decode("latin-1")
    sizes = (tokenizer.byte_lengths[id_] for id_ in tokenizer.encode(text))
    starts = list(accumulate(sizes, initial=0))[:-1]
    if len(starts) <= budget:
        return [text] if text else []
    first = cut_at_lines(spelled, starts, random.randint(max(1, budget // 4), budget))[1]
    later = [start - first for start in starts[bisect_left(starts, first) :]]
    places = [0, *(first + place for place in cut_at_lines(spelled[first:], later, budget))]
    return [data[begin:end].decode(errors="ignore") for begin, end in pairwise(places)]
