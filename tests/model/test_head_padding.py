"""Rows of any lengths side by side give what they give alone, whichever side is padded."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bigcode_cli.model.heads import (
    GPTBigCodeForSequenceClassification,
    GPTBigCodeForTokenClassification,
)
from bigcode_cli.model.masks import positions_of
from tests.model.models import random_ids, relative_difference, small_config, wide_of

Head = type[GPTBigCodeForSequenceClassification] | type[GPTBigCodeForTokenClassification]
HEADS = (GPTBigCodeForSequenceClassification, GPTBigCodeForTokenClassification)
MODELS = {
    (head, multi_query): wide_of(
        head, small_config(n_layer=2, num_labels=3, multi_query=multi_query)
    )
    for head in HEADS
    for multi_query in (True, False)
}


def run(
    model: Any, rows: list[Tensor], sides: list[str], *, masked: bool = True, moved: bool = True
) -> list[Tensor]:
    """The logits of each row's real tokens, or of the row."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), 7)
    mask = torch.zeros(len(rows), longest, dtype=torch.int64)
    for at, (row, side) in enumerate(zip(rows, sides, strict=True)):
        start = 0 if side == "right" else longest - len(row)
        ids[at, start : start + len(row)] = row
        mask[at, start : start + len(row)] = 1
    positions = positions_of(mask) if moved else None
    output = model(ids, attention_mask=mask if masked else mask | 1, position_ids=positions)
    if output.logits.dim() == 2:
        return list(output.logits)
    return [logits[kept != 0] for logits, kept in zip(output.logits, mask, strict=True)]


def difference(model: Any, rows: list[Tensor], sides: list[str], **how: bool) -> float:
    """The largest between rows side by side and each alone."""
    together = run(model, rows, sides, **how)
    alone = [model(row[None]).logits[0] for row in rows]
    return max(relative_difference(one, other) for one, other in zip(together, alone, strict=True))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("multi_query", [True, False])
@settings(max_examples=25)
@given(data=st.data())
@torch.no_grad()
def test_either_side_of_padding_gives_what_a_row_gives_alone(
    head: Head, multi_query: bool, data: st.DataObject
) -> None:
    model = MODELS[head, multi_query]
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    sides = [data.draw(st.sampled_from(["left", "right"])) for _ in lengths]
    seed = data.draw(st.integers(0, 99))
    rows = [random_ids(model.config, 1, n, seed + at)[0] for at, n in enumerate(lengths)]
    assert difference(model, rows, sides) < 1e-5


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_padding_on_the_left_needs_the_mask_and_the_positions(head: Head) -> None:
    model = MODELS[head, True]
    rows = [random_ids(model.config, 1, length, length)[0] for length in (3, 9)]
    assert difference(model, rows, ["left"] * 2, masked=False) > 1e-2
    assert difference(model, rows, ["left"] * 2, moved=False) > 1e-2
    # On the right positions are those of every row, and no real token sees what follows it.
    assert difference(model, rows, ["right"] * 2, moved=False) < 1e-5
