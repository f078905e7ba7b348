"""Heads trained on a tiny random base."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from bigcode_cli.backends.torch_classifier import CLASSES
from bigcode_cli.engine.classify import ClassifySession
from bigcode_cli.engine.protocol import HeadKind
from bigcode_cli.errors import ModelCorruptError, ModelIncompleteError, UsageError
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.model.checkpoint import load_model, save_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.stored import read_stored
from bigcode_cli.records import Classified, ClassifyRequest, LoadOptions, ModelFolder, Silence
from bigcode_cli.training.heads.changes import change_costs
from bigcode_cli.training.heads.examples import Example, Mark, label_names
from bigcode_cli.training.heads.losses import label_weights, loss_mass, summed_loss
from bigcode_cli.training.heads.run import HeadReport, HeadRequest, HeadStorage, train_head
from bigcode_cli.training.heads.samples import HeadOptions, Sample, Tune, make_samples
from bigcode_cli.training.heads.trainer import HeadTrainer
from bigcode_cli.training.heads.trunk import load_base
from tests.model.dispatch import Counting
from tests.model.golden import unsynchronised
from tests.model.models import DEVICES
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
        name: str = "head",
        examples: list[Example] = TEXTS,
        *,
        full: bool = False,
        storage: HeadStorage = "float32",
        **changes: Any,
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
            storage=storage,
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
    out, report = train("spans", PARTS, kind="token", epochs=60, learning_rate=0.1, batch_size=4)
    assert report.macro_f1 == 1.0
    assert set(tensors(out)) == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("full", [False, True])
def test_what_changes_cost_is_stored_and_no_other_head_inherits_it(
    train: Callable[..., tuple[Path, HeadReport]], base: ModelFolder, full: bool
) -> None:
    out, _ = train("spans", PARTS, kind="token", epochs=1, full=full)
    costs = change_costs(PARTS[:15], tiny_tokenizer())
    assert json.loads((out / "config.json").read_text())["change_costs"] == asdict(costs)
    folder = resolve(str(out), base=None if full else str(base.path), report=Silence())
    session = ClassifySession.open(folder, LoadOptions(device="cpu"))
    assert session.info.change_costs == costs
    if full:
        options = HeadOptions(kind="sequence", device="cpu")
        assert "change_costs" not in load_base(folder, ("p", "q"), options).config.extra


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


NORMS = {"ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"}
BIASES = {"attn.c_attn.bias", "attn.c_proj.bias", "mlp.c_fc.bias", "mlp.c_proj.bias"}


def test_norms_and_biases_alone_are_trained(
    train: Callable[..., tuple[Path, HeadReport]], base: ModelFolder
) -> None:
    whole, _ = train("whole", tune="norms", full=True)
    before, after = tensors(base.path), tensors(whole)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    inner = {f"transformer.h.{at}.{name}" for at in range(2) for name in NORMS | BIASES}
    assert changed == inner | {"transformer.ln_f.weight", "transformer.ln_f.bias"}
    part, _ = train("part", tune="norms")
    assert set(tensors(part)) == changed | {"score.weight"}


@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_low_rank_changes_are_stored_as_factors_and_loaded_as_weights(
    train: Callable[..., tuple[Path, HeadReport]], base: ModelFolder, kind: HeadKind
) -> None:
    examples = TEXTS if kind == "sequence" else PARTS
    part, _ = train("part", examples, kind=kind, tune="low-rank", rank=2)
    layers = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    factors = {
        f"transformer.h.{at}.{name}.{half}"
        for at in range(2)
        for name in layers
        for half in ("up", "down")
    }
    head = {"score.weight"} if kind == "sequence" else {"classifier.weight", "classifier.bias"}
    stored = tensors(part)
    assert set(stored) == factors | head
    assert {stored[name].shape[name.endswith("up")] for name in factors} == {2}
    assert all(stored[name].any() for name in factors)
    whole, _ = train("whole", examples, kind=kind, tune="low-rank", rank=2, full=True)
    assert set(tensors(whole)) == set(tensors(base.path)) | head
    merged = read_stored(part, base.path)
    loaded = load_model(CLASSES[kind], part, device="cpu", dtype=torch.float32, base=base.path)
    assert set(merged) == set(tensors(whole))
    state = loaded.state_dict()
    assert all(torch.equal(state[name], value) for name, value in tensors(whole).items())


def test_what_is_measured_is_what_is_stored_in_fewer_bits(
    train: Callable[..., tuple[Path, HeadReport]],
) -> None:
    wide, _ = train("wide", tune="low-rank")
    narrow, _ = train("narrow", tune="low-rank", storage="bfloat16")
    rounded = {name: value.bfloat16() for name, value in tensors(wide).items()}
    found = tensors(narrow)
    assert all(torch.equal(found[name], rounded[name]) for name in rounded)
    half = (narrow / "model.safetensors").stat().st_size
    assert half < 0.75 * (wide / "model.safetensors").stat().st_size


AHEAD = [
    Example(f"t:{at}", f"ab Z {'xy'[at % 2]}", marks=(Mark(3, 4, "PQ"[at % 2]),))
    for at in range(40)
]
"""What a letter is, is told by the one behind it."""


def test_what_follows_is_known_by_reading_twice(
    train: Callable[..., tuple[Path, HeadReport]],
) -> None:
    plan: dict[str, Any] = {
        "kind": "token", "unfreeze": -1, "epochs": 30, "learning_rate": 0.1, "batch_size": 4
    }  # fmt: skip
    _, once = train("once", AHEAD, **plan)
    assert once.macro_f1 is not None
    assert once.macro_f1 < 0.8
    out, twice = train("twice", AHEAD, read_twice=True, **plan)
    assert twice.macro_f1 == 1.0
    assert json.loads((out / "config.json").read_text())["read_twice"] is True
    whole, again = train("whole", AHEAD, read_twice=True, full=True, **plan)
    assert again.macro_f1 == 1.0
    assert json.loads((whole / "config.json").read_text())["read_twice"] is True
    # A head of its own on a folder that reads twice reads once unless asked to.
    base_of = resolve(str(whole), report=Silence())
    values = HeadOptions(kind="sequence", epochs=1, device="cpu")
    request = HeadRequest(
        base=base_of, kept=TEXTS, held_out=[], out=out.with_name("on"), options=values
    )
    train_head(request, report=Silence())
    assert "read_twice" not in json.loads((out.with_name("on") / "config.json").read_text())


def test_what_is_measured_is_what_classify_says_by_itself(
    train: Callable[..., tuple[Path, HeadReport]], base: ModelFolder
) -> None:
    long = [Example(at.place, at.text + " b" * 30, labels=at.labels) for at in TEXTS]
    out, report = train("short", long, context=8, unfreeze=1, epochs=2)
    session = ClassifySession.open(
        resolve(str(out), base=str(base.path), report=Silence()), LoadOptions(device="cpu")
    )
    found = session.classify(ClassifyRequest(text=example.text) for example in long[30:])
    best = [max(at.scores, key=at.scores.__getitem__) for at in found if isinstance(at, Classified)]
    for score in report.scores:
        right = sum(
            label == score.label == example.labels[0]
            for label, example in zip(best, long[30:], strict=True)
        )
        assert score.recall == right / score.support
        assert score.precision == (right / best.count(score.label) if right else score.precision)
    assert json.loads((out / "config.json").read_text())["read_context"] == 8


def test_states_are_those_of_each_window_alone_and_of_its_second_reading(
    base: ModelFolder,
) -> None:
    for readings, read_twice in ((1, False), (2, True)):
        options = HeadOptions(kind="token", read_twice=read_twice, device="cpu")
        model = load_base(base, ("O", "B-Z", "I-Z"), options)
        samples = [
            Sample((5, 9, 3, 7), 1, torch.tensor([0, 1, 2])),
            Sample((8,), 0, torch.tensor([0])),
            Sample((4, 4, 6), 2, torch.tensor([1])),
        ]
        trainer = HeadTrainer(model, samples, options, Silence())
        with torch.no_grad():
            found = trainer._states_of([2, 0, 1])
            wanted = [
                model.transformer(torch.tensor([at.ids * readings])).last_hidden_state[0][
                    len(at.ids) * (readings - 1) + at.first :
                ]
                for at in (samples[2], samples[0], samples[1])
            ]
            assert torch.allclose(found, torch.cat(wanted), atol=1e-4)
            trainer._keep_states()
            assert torch.allclose(trainer._states_of([2, 0, 1]), found, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tune", ["head", "norms", "low-rank"])
def test_no_step_waits_for_the_device(base: ModelFolder, tune: Tune, device: str) -> None:
    options = HeadOptions(kind="token", tune=tune, balanced=True, batch_size=2, device=device)
    samples = [Sample((5, 9, 3)[:at], 0, torch.tensor([0, 1, 2][:at])) for at in (1, 3, 2)]
    model = load_base(base, ("O", "B-Z", "I-Z"), options)
    trainer = HeadTrainer(model, samples, options, Silence())
    for keeps in (False, tune == "head"):
        if keeps:
            trainer._keep_states()
        trainer._step([0, 1], 0.1)
        with Counting() as counting, unsynchronised(torch.device(device)):
            trainer._step([2, 1], 0.2)
        assert not counting.reading


def test_each_window_is_in_one_batch_an_epoch_beside_others_of_its_length(
    base: ModelFolder,
) -> None:
    options = HeadOptions(kind="sequence", tune="norms", batch_size=4, device="cpu")
    rng = random.Random(0)
    samples = [Sample((1,) * rng.randint(1, 60), 0, torch.tensor([at % 2])) for at in range(63)]
    trainer = HeadTrainer(load_base(base, ("p", "q"), options), samples, options, Silence())
    first, second = trainer._shuffled(rng), trainer._shuffled(rng)
    for batches in (first, second):
        assert sorted(place for batch in batches for place in batch) == list(range(63))
        assert sorted(map(len, batches)) == [3, *[4] * 15]
        lengths = [[len(samples[place].ids) for place in batch] for batch in batches]
        assert sum(map(max, lengths)) * 4 < 1.25 * sum(map(sum, lengths))
    assert first != second


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
    monkeypatch.setattr(HeadTrainer, "_keep_states", lambda _: None)
    anew, _ = train("anew")
    assert torch.allclose(tensors(cached)["score.weight"], tensors(anew)["score.weight"], atol=1e-4)


@pytest.mark.parametrize("room", [1000, 1])
@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_a_step_follows_the_mean_loss_of_its_targets_whatever_the_passes(
    base: ModelFolder, monkeypatch: pytest.MonkeyPatch, kind: HeadKind, room: int
) -> None:
    options = HeadOptions(kind=kind, unfreeze=-1, balanced=True, device="cpu")
    labels = ("p", "q") if kind == "sequence" else ("O", "B-ZED", "I-ZED")
    examples = TEXTS[:3] if kind == "sequence" else PARTS[:3]
    model = load_base(base, labels, options)
    samples = list(make_samples(examples, labels, tiny_tokenizer(), model.config, options))
    monkeypatch.setattr(HeadTrainer, "_most_tokens", lambda _: room)
    monkeypatch.setattr(HeadTrainer, "_padded", lambda _, longest: longest + 5)
    trainer = HeadTrainer(model, samples, options, Silence())
    assert len(trainer._passes(range(3))) == (3 if room == 1 else 1)
    monkeypatch.setattr("bigcode_cli.training.heads.trainer.CLIP", math.inf)
    monkeypatch.setattr(trainer._optimizer, "step", lambda: None)
    monkeypatch.setattr(trainer._optimizer, "zero_grad", lambda **_: None)
    found = trainer._step(range(3), 0.5)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    logits = [
        trainer._head(model.transformer(torch.tensor([at.ids])).last_hidden_state[0, at.first :])
        for at in samples
    ]
    targets = torch.cat([at.targets for at in samples])
    weights = label_weights(targets, len(labels))
    wanted = functional.cross_entropy(torch.cat(logits), targets, weight=weights)
    torch.autograd.backward(wanted)
    assert found.item() == pytest.approx(wanted.item() * weights[targets].sum().item(), rel=1e-4)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(gradients[name], parameter.grad, rtol=1e-3, atol=1e-4), name
    assert len(gradients) > 20


@pytest.mark.parametrize("tune", ["head", "norms"])
def test_time_ends_training_with_its_rate_at_nothing(
    base: ModelFolder, monkeypatch: pytest.MonkeyPatch, tune: Tune
) -> None:
    options = HeadOptions(
        kind="sequence", tune=tune, epochs=1000, minutes=0.1, batch_size=1, device="cpu"
    )
    samples = [Sample((1, 2, 3), 2, torch.tensor([at % 2])) for at in range(5)]
    trainer = HeadTrainer(load_base(base, ("p", "q"), options), samples, options, Silence())
    clock = iter(range(1000))  # a step takes a second
    monkeypatch.setattr("bigcode_cli.training.heads.trainer.time.monotonic", lambda: next(clock))
    factors: list[float] = []
    step = trainer._optimizer.step

    def noted() -> None:
        group = trainer._optimizer.param_groups[0]
        factors.append(group["lr"] / group["peak"])
        step()

    monkeypatch.setattr(trainer._optimizer, "step", noted)
    assert math.isfinite(trainer.run())
    assert factors == pytest.approx([(1 - at / 6) / 0.9 for at in range(1, 6)])


def test_what_little_memory_holds_bounds_a_pass(
    base: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [Sample((1, 2, 3), 0, torch.tensor([0]))] * 4

    def passes(tune: Tune, free: int | None) -> int:
        monkeypatch.setattr("bigcode_cli.training.heads.trainer.free_bytes", lambda _: free)
        options = HeadOptions(kind="sequence", tune=tune, device="cpu")
        model = load_base(base, ("p", "q"), options)
        return len(HeadTrainer(model, samples, options, Silence())._passes(range(4)))

    assert passes("norms", None) == passes("norms", 10**9) == passes("head", 1000) == 1
    token = 4 * 2 * (8 * 32 + 2 * 4 * 32)
    assert passes("norms", 2 * 6 * token) == 2
    assert passes("norms", 1000) == 4


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

    monkeypatch.setattr("bigcode_cli.training.heads.run.measure_head", interrupted)
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
