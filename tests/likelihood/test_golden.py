"""The golden share: ``mini``'s scores of a few texts, as transformers found them."""

import json

import pytest
import torch

from bigcode_cli.engine.session import Session
from tests.likelihood.cases import GOLDEN, LIMIT, SIZES, Sizes, golden_texts, open_mini, score

ELSEWHERE = 5 * LIMIT
"""Rounding differs from processor to processor, and with the attention."""


@pytest.fixture(scope="module")
def mini() -> Session:
    torch.set_num_threads(1)
    return open_mini()


@pytest.mark.parametrize("sizes", SIZES)
def test_scores_equal_teacher_forcing_by_transformers(mini: Session, sizes: Sizes) -> None:
    rows = [row for row in json.loads(GOLDEN.read_text()) if Sizes(
        row["context"], row["stride"], row["bos"]
    ) == sizes]  # fmt: skip
    texts = golden_texts()
    assert [row["text"] for row in rows] == list(texts)
    for row, scored in zip(rows, score(mini, texts.values(), sizes), strict=True):
        assert scored.scored_tokens == row["scored_tokens"]
        assert scored.nll_sum == pytest.approx(row["nll_sum"], rel=ELSEWHERE)
