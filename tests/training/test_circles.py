"""Windows that repeat a stretch, and the loss that makes each copy less likely."""

from itertools import groupby
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.text.tokenizer import Tokenizer
from bigcode_cli.training.circles import (
    CONTROL,
    COPIES,
    DECAY,
    LINE_END,
    PLAIN,
    Circles,
    circle_loss,
    make_circles,
    token_kinds,
)

KINDS = torch.tensor([CONTROL] + [PLAIN] * 9 + [LINE_END] * 2, dtype=torch.int8)
"""Of ids 0 to 11."""


def small_model() -> GPTBigCodeForCausalLM:
    torch.manual_seed(3)
    config = GPTBigCodeConfig(
        vocab_size=12, n_embd=16, n_layer=1, n_head=2, n_positions=64, initializer_range=0.5
    )
    return GPTBigCodeForCausalLM(config).eval()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 11), min_size=49, max_size=49), st.integers(0, 99))
def test_a_circle_is_a_stretch_of_whole_lines_repeated_to_the_end(
    window: list[int], seed: int
) -> None:
    circles = make_circles(torch.tensor([window]), KINDS, 3, Random(seed))
    if circles is None:
        return
    assert circles.ids.shape == (3, 49)
    for row, first, period in zip(
        circles.ids.tolist(), circles.first.tolist(), circles.period.tolist(), strict=True
    ):
        stretch = row[first - period : first]
        assert stretch[-1] in {10, 11}
        assert 0 not in stretch
        assert all(row[at] == row[at - period] for at in range(first, 49))
        assert 49 - first >= (COPIES - 1) * period
        head = row[:first]
        assert any(window[at : at + first] == head for at in range(49)), "of the window itself"
        before = first - period - 1
        assert before < 0 or row[before] in {10, 11}


def test_no_circle_comes_from_windows_without_lines_or_of_control_tokens() -> None:
    plain = torch.full((2, 49), 5)
    assert make_circles(plain, KINDS, 2, Random(0)) is None
    broken = torch.tensor([[10, 0] * 24 + [10]])
    assert make_circles(broken, KINDS, 2, Random(0)) is None


def test_the_loss_is_the_papers_term_by_term() -> None:
    model = small_model()
    ids = torch.tensor([[3, 10, 4, 5, 10, 4, 5, 10, 4, 5], [1, 2, 3, 10, 6, 10, 6, 10, 6, 10]])
    circles = Circles(ids, torch.tensor([5, 6]), torch.tensor([3, 2]))
    chances = model(ids[:, :-1], use_cache=False).logits.softmax(-1)
    expected = 0.0
    for row, (first, period) in enumerate([(5, 3), (6, 2)]):
        for at in range(first, 10):
            now = chances[row, at - 1, ids[row, at]].item()
            before = chances[row, at - 1 - period, ids[row, at]].item()
            expected -= torch.log(torch.tensor(1 - abs(now - DECAY * before))).item()
    assert circles.count == 5 + 4
    assert circle_loss(model, circles).item() == pytest.approx(expected, rel=1e-5)


def test_learning_from_circles_makes_copies_ever_less_likely() -> None:
    model = small_model()
    ids = torch.tensor([[3, 10] + [4, 5, 6, 10] * 8])
    circles = Circles(ids, torch.tensor([6]), torch.tensor([4]))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)

    def mean_chances() -> list[float]:
        chances = model(ids[:, :-1], use_cache=False).logits.softmax(-1)
        own = chances[0].gather(1, ids[0, 1:, None]).flatten()
        means: list[float] = own[1:].view(-1, 4).log().mean(1).exp().tolist()
        return means

    torch.nn.init.normal_(model.transformer.wpe.weight, std=0.01)
    for _ in range(60):  # first the model learns to repeat, as real ones have
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    before = mean_chances()
    for _ in range(60):  # with what is right the first time
        optimizer.zero_grad()
        loss = model(ids[:, :6], labels=ids[:, :6]).loss + circle_loss(model, circles) / 10
        loss.backward()
        optimizer.step()
    after = mean_chances()
    assert min(before) > 0.9
    assert after[0] > 0.9
    assert after[1] < 0.7
    assert max(after[4:]) < 0.2


def test_every_id_has_the_kind_that_its_bytes_say(tokenizer: Tokenizer) -> None:
    kinds = token_kinds(tokenizer).tolist()
    assert len(kinds) == tokenizer.vocab_size
    counts = {kind: len(list(run)) for kind, run in groupby(sorted(kinds))}
    assert counts[CONTROL] == len(tokenizer.control_ids) == 19
    for id_ in tokenizer.encode("def f():\n    return 1\n\n"):
        wanted = LINE_END if "\n" in tokenizer.decode([id_]) else PLAIN
        assert kinds[id_] == wanted
