"""Samples of one window, each as if it stood alone."""

from itertools import chain

import torch

from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.training.borders import sample_borders

EOS = 0


def test_each_sample_of_a_window_is_read_as_if_it_stood_alone() -> None:
    torch.manual_seed(0)
    config = GPTBigCodeConfig(
        vocab_size=20, n_embd=16, n_layer=2, n_head=2, n_positions=16, initializer_range=0.5
    )
    model = GPTBigCodeForCausalLM(config).eval()
    samples = [[7, 3, 9], [EOS, 4, 4, 8, 2], [EOS], [EOS, 5, 6]]
    inputs = torch.tensor([list(chain.from_iterable(samples))])
    mask, positions = sample_borders(inputs, EOS)
    together = model(inputs, attention_mask=mask, position_ids=positions, use_cache=False).logits
    at = 0
    for sample in samples:
        alone = model(torch.tensor([sample]), use_cache=False).logits
        torch.testing.assert_close(together[:, at : at + len(sample)], alone, rtol=1e-4, atol=1e-5)
        at += len(sample)


def test_positions_begin_anew_at_each_end_of_text() -> None:
    _, positions = sample_borders(torch.tensor([[5, 6, EOS, 7, EOS, EOS, 8]]), EOS)
    assert positions.tolist() == [[0, 1, 0, 1, 0, 0, 1]]
