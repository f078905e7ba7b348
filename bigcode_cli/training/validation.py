"""Bits per byte on held-out files: the first tokens of each, after ``<|endoftext|>``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from bigcode_cli.errors import InputError
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.text.tokenizer import Tokenizer
from bigcode_cli.training.objective import IGNORED

TOKENS = 1024
FILES = 40
_BATCH = 16

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The held-out files of one package.

    Attributes:
        ids: of each file's beginning.
        bytes: that all those ids stand for.
    """

    name: str
    ids: tuple[tuple[int, ...], ...]
    bytes: int


def held_out_files(folder: Path) -> dict[str, list[Path]]:
    """The ``*.py`` files that are not empty, for each folder in ``folder``.

    Raises:
        InputError: there are none.
    """
    groups = {}
    for inner in sorted(folder.iterdir()) if folder.is_dir() else []:
        paths = [path for path in sorted(inner.rglob("*.py")) if path.stat().st_size > 0]
        if paths:
            groups[inner.name] = paths
    if not groups:
        raise InputError(
            f"no held-out files in {folder}", "it should hold a folder of *.py for each package"
        )
    return groups


def load_held_out(folder: Path, tokenizer: Tokenizer, longest: int) -> list[HeldOut]:
    """One group for each folder in ``folder``: up to 40 of its files, evenly spread.

    Args:
        longest: tokens of a file that are scored, at most 1,024.

    Raises:
        InputError: there is nothing to score.
    """
    texts = {
        name: [path.read_text("utf-8", "replace") for path in _spread(paths)]
        for name, paths in held_out_files(folder).items()
    }
    return encode_held_out(texts, tokenizer, longest)


def encode_held_out(
    texts: Mapping[str, Sequence[str]], tokenizer: Tokenizer, longest: int
) -> list[HeldOut]:
    """Groups of texts: up to 40 of each, evenly spread; none for a group without text.

    Args:
        longest: tokens of a text that are scored, at most 1,024.
    """
    groups = []
    for name, inner in texts.items():
        ids = tuple(
            tuple(tokenizer.encode(text)[: min(TOKENS, longest)]) for text in _spread(inner)
        )
        size = sum(len(tokenizer.token_bytes(token)) for row in ids for token in row)
        if size:
            groups.append(HeldOut(name, ids, size))
    return groups


def _spread(items: Sequence[_Item]) -> Sequence[_Item]:
    return items[:: max(1, math.ceil(len(items) / FILES))]


@torch.no_grad()
def bits_per_byte(
    model: GPTBigCodeForCausalLM, groups: Sequence[HeldOut], eos_id: int
) -> dict[str, float]:
    """Byte-weighted bits per byte of each group, and their mean as ``macro_mean``."""
    device = model.device
    was_training = model.training
    model.eval()
    result = {}
    for group in groups:
        rows = sorted((row for row in group.ids if row), key=len)
        total = torch.zeros((), dtype=torch.float64, device=device)
        for start in range(0, len(rows), _BATCH):
            total += _nll(model, rows[start : start + _BATCH], eos_id).double()
        result[group.name] = total.item() / math.log(2) / group.bytes
    model.train(was_training)
    result["macro_mean"] = sum(result.values()) / len(result)
    return result


def _nll(model: GPTBigCodeForCausalLM, rows: Sequence[Sequence[int]], eos_id: int) -> Tensor:
    """Nats of some rows, each after ``<|endoftext|>``."""
    device = model.device
    longest = max(map(len, rows))
    inputs = torch.full((len(rows), longest), eos_id)
    targets = torch.full((len(rows), longest), IGNORED)
    for index, row in enumerate(rows):
        targets[index, : len(row)] = torch.tensor(row)
        inputs[index, 1 : len(row)] = torch.tensor(row[:-1], dtype=torch.long)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        logits = model(inputs.to(device), use_cache=False).logits
    return functional.cross_entropy(
        logits.flatten(0, 1).float(),
        targets.to(device).flatten(),
        ignore_index=IGNORED,
        reduction="sum",
    )
