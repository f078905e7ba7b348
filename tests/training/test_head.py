"""Heads trained on a tiny random base."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from bigcode_cli.engine.classify import ClassifySession
from bigcode_cli.errors import ModelCorruptError, ModelIncompleteError, UsageError
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.model.checkpoint import save_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.stored import read_stored
from bigcode_cli.records import Classified, ClassifyRequest, LoadOptions, ModelFolder, Silence
from bigcode_cli.training.head import HeadTrainer
from bigcode_cli.training.head_data import Example, Mark, label_names
from bigcode_cli.training.head_losses import label_weights, loss_mass, summed_loss
from bigcode_cli.training.head_run import HeadReport, HeadRequest, train_head
from bigcode_cli.training.head_samples import HeadOptions
from tests.sessions import random_model
from tests.tokenizers import tiny_json, tiny_tokenizer

torch.set_num_threads(1)

SIZES: dict[str, Any] = {
    "n_positions": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
TEXTS = [
    Example(f"t:{at}", f"{'ab'[at % 2] * (at % 5 + 1)} {at}{'xy'[at % 2]}", labels=("pq"[at % 2],))
    for at in range(40)
]
PARTS = [
    Example(f"t:{at}", f"ab {'é' * (at % 3)} Z ba", marks=(Mark(at % 3 + 4, at % 3 + 5, "ZED"),))
    for at in range(20)
]


@pytest.fixture
def base(tmp_path: Path) -> ModelFolder:
    folder = tmp_path / "base"
    config = GPTBigCodeConfig(vocab_size=tiny_tokenizer().vocab_size, **SIZES)
    save_model(random_model(config), config, folder, "float32")
    (folder / "tokenizer.json").write_text(tiny_json())
    return resolve(str(folder), report=Silence())


@pytest.fixture
def train(base: ModelFolder, tmp_path: Path) -> Callable[..., tuple[Path, HeadReport]]:
    def run(
        name: str = "head", examples: list[Example] = TEXTS, *, full: bool = False, **changes: Any
    ) -> tuple[Path, HeadReport]:
        values: dict[str, Any] = {"kind": "sequence", "learning_rate": 0.03, "epochs": 8}
        options = HeadOptions(**values | {"device": "cpu"} | changes)
        out = tmp_path / name
        cut = len(examples) * 3 // 4
        request = HeadRequest(
            base=base,
            kept=examples[:cut],
            held_out=examples[cut:],
            out=out,
            options=options,
            full=full,
        )
        return out, train_head(request, report=Silence())

    return run


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: stored.read().clone() for name, stored in read_stored(folder).items()}


def scores(folder: ModelFolder) -> list[dict[str, float]]:
    session = ClassifySession.open(folder, LoadOptions(device="cpu"))
    found = session.classify(ClassifyRequest(text=example.text) for example in TEXTS)
    return [event.scores for event in found if isinstance(event, Classified)]


def test_a_separable_task_is_learned_and_only_the_head_is_stored(
    train: Callable[..., tuple[Path, HeadReport]], base: ModelFolder
) -> None:
    before = {path.name: path.read_bytes() for path in base.path.iterdir()}
    out, report = train()
    assert report.macro_f1 == 1.0
    assert [score.support for score in report.scores] == [5, 5]
    assert set(tensors(out)) == {"score.weight"}
    assert {path.name: path.read_bytes() for path in base.path.iterdir()} == before


def test_a_token_head_finds_the_spans(train: Callable[..., tuple[Path, HeadReport]]) -> None:
    out, report = train("spans", PARTS, kind="token", epochs=30, batch_size=4)
    assert report.macro_f1 == 1.0
    assert set(tensors(out)) == {"classifier.weight", "classifier.bias"}


def test_any_number_of_labels_may_be_right(
    train: Callable[..., tuple[Path, HeadReport]],
) -> None:
    both = [
        Example(text.place, text.text, labels=("all", *text.labels) if at % 4 else ())
        for at, text in enumerate(TEXTS)
    ]
    out, report = train("multi", both, multi_label=True, balanced=True)
    assert [score.label for score in report.scores] == ["all", "p", "q"]
    assert json.loads((out / "config.json").read_text())["problem_type"] == (
        "multi_label_classification"
    )


def test_the_whole_folder_and_the_difference_give_the_same_numbers(
    train: Callable[..., tuple[Path, HeadReport]], base: ModelFolder
) -> None:
    part, _ = train("part", unfreeze=1)
    whole, _ = train("whole", unfreeze=1, full=True)
    on_base = resolve(str(part), base=str(base.path), report=Silence())
    assert scores(on_base) == scores(resolve(str(whole), report=Silence()))
    assert scores(on_base)[0] != scores(on_base)[1]


def test_only_the_named_layers_are_trained(
    train: Callable[..., tuple[Path, HeadReport]], base: ModelFolder
) -> None:
    whole, _ = train("whole", unfreeze=1, full=True)
    before, after = tensors(base.path), tensors(whole)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    late = {n for n in before if n.startswith(("transformer.h.1.", "transformer.ln_f."))}
    assert changed == late
    part, _ = train("part", unfreeze=1)
    assert set(tensors(part)) == late | {"score.weight"}


def test_the_same_seed_gives_the_same_weights(
    train: Callable[..., tuple[Path, HeadReport]],
) -> None:
    one, two, other = (train(str(at), seed=seed)[0] for at, seed in enumerate((1, 1, 2)))
    assert torch.equal(tensors(one)["score.weight"], tensors(two)["score.weight"])
    assert not torch.equal(tensors(one)["score.weight"], tensors(other)["score.weight"])


def test_cached_states_train_as_those_made_anew(
    train: Callable[..., tuple[Path, HeadReport]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cached, _ = train("cached")
    monkeypatch.setattr(HeadTrainer, "_fill_cache", lambda _: None)
    anew, _ = train("anew")
    assert torch.allclose(tensors(cached)["score.weight"], tensors(anew)["score.weight"], atol=1e-4)


def test_weights_of_labels_follow_the_formula() -> None:
    targets = torch.tensor([0, 0, 0, 1])
    weights = label_weights(targets, 3)
    assert weights.tolist() == pytest.approx([4 / 9, 4 / 3, 1])
    logits = torch.randn(4, 3)
    loss = summed_loss(logits, targets, weights) / loss_mass(targets, weights)
    wanted = functional.cross_entropy(logits, targets, weight=weights)
    assert loss.item() == pytest.approx(wanted.item())
    assert loss.item() != pytest.approx(functional.cross_entropy(logits, targets).item())
    several = torch.tensor([[1.0, 0], [0, 0], [0, 0], [0, 1]])
    assert label_weights(several, 2).tolist() == [3, 3]


def test_another_base_is_refused(
    train: Callable[..., tuple[Path, HeadReport]], base: ModelFolder
) -> None:
    out, _ = train()
    weights = base.path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelCorruptError, match="other weights"):
        resolve(str(out), base=str(base.path), report=Silence())


def test_a_folder_is_never_followed_to_a_path(
    train: Callable[..., tuple[Path, HeadReport]], base: ModelFolder
) -> None:
    out, _ = train()
    with pytest.raises(ModelIncompleteError, match="must name") as caught:
        resolve(str(out), report=Silence())
    assert str(base.path) in str(caught.value.hint)


def test_a_base_is_for_differences_alone(base: ModelFolder) -> None:
    with pytest.raises(UsageError, match="whole"):
        resolve(str(base.path), base="mini", report=Silence())


def test_what_is_cut_short_leaves_nothing(
    train: Callable[..., tuple[Path, HeadReport]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = set(tmp_path.iterdir())

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bigcode_cli.training.head_run._measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train("cut")
    monkeypatch.undo()
    assert set(tmp_path.iterdir()) | {tmp_path / "base"} == before | {tmp_path / "base"}


def test_a_folder_that_holds_something_is_kept(
    train: Callable[..., tuple[Path, HeadReport]], base: ModelFolder
) -> None:
    with pytest.raises(UsageError, match="is there already"):
        train("base")
    assert (base.path / "tokenizer.json").is_file()


def test_labels_are_sorted_and_nothing_comes_first() -> None:
    assert label_names(TEXTS, "sequence") == ("p", "q")
    assert label_names(PARTS, "token") == ("O", "B-ZED", "I-ZED")
