import math
from typing import Any

import pytest
import torch
from torch import Tensor

from bigcode_cli.errors import BigcodeError, UsageError
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.training import adapt
from bigcode_cli.training.adapt import Adapter, AdaptSettings, Step, prepare
from tests.tokenizers import tiny_tokenizer
from tests.training.adapting import WINDOW, code, small_model, vocabulary

TEXTS = [code(seed) for seed in range(8)]
FAST: dict[str, Any] = {
    "learning_rate": 1e-2,
    "embedding_learning_rate": 1e-2,
    "window": WINDOW,
    "tokens_per_step": 4 * WINDOW,
    "epochs": 3.0,
    "fim_rate": 0.5,
}


def adapter(model: GPTBigCodeForCausalLM, **changes: Any) -> Adapter:
    settings = AdaptSettings(**FAST | changes)
    return Adapter(model, tiny_tokenizer(), vocabulary(), TEXTS, settings)


def loss_of(model: GPTBigCodeForCausalLM, text: str) -> float:
    ids = torch.tensor([[0, *tiny_tokenizer().encode(text)][:128]])
    with torch.no_grad():
        logits = model(ids[:, :-1], use_cache=False).logits
    return float(torch.nn.functional.cross_entropy(logits[0], ids[0, 1:]))


def copied(model: GPTBigCodeForCausalLM) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(
    "how", [{}, {"layers": 1}, {"rank": 4}, {"layers": 2, "rank": 4, "embeddings": "output"}]
)
def test_code_like_what_was_learned_is_found_more_likely(
    how: dict[str, Any], optimizer: str
) -> None:
    model = small_model()
    before = loss_of(model, code(99))
    adapter(model, optimizer=optimizer, **{"embeddings": "both"} | how).run()
    assert loss_of(model, code(99)) < before - 0.3


def test_only_what_is_chosen_is_trained() -> None:
    model = small_model()
    before = copied(model)
    adapter(model, layers=1).run()
    after = copied(model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("transformer.h.2.", "transformer.ln_f.")) for name in changed)


def test_factors_leave_the_matrices_as_they_are() -> None:
    model = small_model()
    before = copied(model)
    adapter(model, rank=4).run()
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name for name in trained if name.endswith((".up", ".down"))}
    for name, weight in model.named_parameters():
        assert name in trained or torch.equal(weight, before[name])
    assert not any(name.endswith(("c_fc.weight", "wte.weight")) for name in trained)


def test_all_layers_are_trained_by_default() -> None:
    model = small_model()
    assert prepare(model, AdaptSettings()) == 0
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert frozen == {"transformer.wte.weight", "transformer.wpe.weight"}


def test_states_that_are_kept_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, made = small_model(), small_model()
    one = adapter(kept, layers=1, cached=True)
    one.run()
    assert one._kept
    monkeypatch.setattr(adapt, "free_bytes", lambda _: 0)
    other = adapter(made, layers=1, cached=True)
    other.run()
    assert not other._kept
    for name, weight in copied(kept).items():
        torch.testing.assert_close(weight, copied(made)[name], atol=1e-5, rtol=1e-4)


def test_the_same_seed_gives_the_same_model() -> None:
    first, second, third = small_model(), small_model(), small_model()
    losses: list[list[float]] = [[], [], []]
    for seed, model, found in zip((1, 1, 2), (first, second, third), losses, strict=True):
        adapter(model, seed=seed, rank=2).run(lambda step, found=found: found.append(step.loss))  # type: ignore[misc]
    assert losses[0] == losses[1] != losses[2]
    assert all(torch.equal(one, copied(second)[name]) for name, one in copied(first).items())


def test_steps_tell_how_far_training_is() -> None:
    steps: list[Step] = []
    last = adapter(small_model()).run(steps.append)
    assert last == steps[-1]
    assert [step.step for step in steps] == list(range(1, len(steps) + 1))
    assert [step.position for step in steps] == sorted(step.position for step in steps)
    assert last.position == 1
    assert last.epochs == pytest.approx(3, abs=0.3)
    assert all(math.isfinite(step.loss) for step in steps)


def test_training_ends_when_its_time_is_up() -> None:
    ticks = iter(range(10**6))
    settings = AdaptSettings(**FAST | {"epochs": 1e6, "minutes": 0.5})
    model = small_model()
    one = Adapter(model, tiny_tokenizer(), vocabulary(), TEXTS, settings, lambda: next(ticks))
    last = one.run()
    assert last.position == 1
    assert 30 <= last.seconds <= 33


def test_a_loss_that_is_no_number_is_told() -> None:
    with pytest.raises(BigcodeError, match="diverged"):
        adapter(small_model(), learning_rate=1e30, optimizer="adamw").run()


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"minutes": -1}, {"rank": -1}, {"layers": 0}, {"layers": -2}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        AdaptSettings(**wrong)


def test_more_layers_than_there_are_cannot_be_trained() -> None:
    with pytest.raises(UsageError, match="3 layers"):
        adapter(small_model(), layers=4)
