from random import Random

import torch
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.training.adapt_feed import cut, epoch_windows
from bigcode_cli.training.objective import IGNORED, Objective
from tests.tokenizers import tiny_tokenizer
from tests.training.adapting import WINDOW, code, vocabulary

TEXTS = st.text(alphabet="ab c(=)\n\r\té日🙂", max_size=400)


@given(TEXTS, st.integers(41, 90), st.integers(0, 3))
def test_pieces_are_the_text_and_fit_a_window(text: str, window: int, seed: int) -> None:
    pieces = cut(text, tiny_tokenizer(), window, Random(seed))
    lines = text.splitlines(keepends=True)
    if all(len(line.encode()) < window - 40 for line in lines):
        assert "".join(pieces) == text
    for piece in pieces:
        assert len(tiny_tokenizer().encode(piece)) <= window


def test_long_texts_are_cut_at_line_ends() -> None:
    pieces = cut(code(0, lines=60), tiny_tokenizer(), 2 * WINDOW, Random(0))
    assert len(pieces) > 2
    assert all(piece.endswith("\n") for piece in pieces)


def test_each_epoch_cuts_at_other_places() -> None:
    text = code(0, lines=60)
    assert cut(text, tiny_tokenizer(), WINDOW, Random(0)) != cut(
        text, tiny_tokenizer(), WINDOW, Random(1)
    )


def test_targets_are_the_next_inputs_and_padding_does_not_count() -> None:
    inputs, targets = epoch_windows(
        [code(seed) for seed in range(3)],
        Objective(),
        tiny_tokenizer(),
        vocabulary(),
        WINDOW,
        Random(0),
    )
    assert inputs.shape == targets.shape
    assert inputs.shape[1] == WINDOW
    counted = targets[:, :-1] != IGNORED
    assert torch.equal(inputs[:, 1:][counted], targets[:, :-1][counted])
    assert not (targets == vocabulary().pad_id).any()
