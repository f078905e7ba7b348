"""Which head a folder has, what its logits mean, and what never reaches the device."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bigcode_cli.backends import loading, open_classifier
from bigcode_cli.backends.torch_classifier import CLASSES, Model, activation
from bigcode_cli.engine.classify import ClassifySession
from bigcode_cli.engine.protocol import Activation, HeadKind, Passage
from bigcode_cli.errors import (
    ModelCorruptError,
    ModelIncompleteError,
    ModelTooLargeError,
    ModelUnsupportedError,
    UsageError,
)
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import save_model
from bigcode_cli.records import (
    ChangeCosts,
    ClassifyOptions,
    ClassifyRequest,
    LoadOptions,
    ModelFolder,
    Silence,
)
from tests.heads import FRUITS, classifier_of, head_config, save_head
from tests.model.models import wide_of

KINDS: tuple[HeadKind, ...] = ("sequence", "token")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def open_folder(path: Path, **options: Any) -> Any:
    folder = ModelFolder(name="head", path=path)
    return open_classifier(folder, LoadOptions(device="cpu", **options), report=Silence())


def wide_head(kind: HeadKind, **changes: Any) -> Model:
    return wide_of(CLASSES[kind], head_config(FRUITS, **changes))


def change_config(folder: Path, **changes: Any) -> None:
    """Set keys of its ``config.json``; ``None`` takes one away."""
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def as_bin(folder: Path) -> None:
    """The weights as PyTorch used to store them."""
    path = folder / "model.safetensors"
    torch.save(load_file(path), folder / "pytorch_model.bin")
    path.unlink()


def told(classifier: Any, kind: HeadKind, rows: Sequence[Sequence[int]]) -> Any:
    passages = [Passage(tuple(row), 0) for row in rows]
    return classifier.logits(passages) if kind == "sequence" else classifier.token_scores(passages)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_gives_what_the_model_in_memory_gives(kind: HeadKind, tmp_path: Path) -> None:
    model = wide_head(kind)
    classifier = open_folder(save_head(model, tmp_path))
    assert (classifier.info.kind, classifier.info.labels) == (kind, FRUITS)
    assert classifier.info.vocab_size == model.config.vocab_size
    assert classifier.info.n_positions == model.config.n_positions
    rows = [[1, 2, 3], [4], [5, 6]]
    assert told(classifier, kind, rows) == told(classifier_of(model), kind, rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stored_as_bin", [False, True])
def test_the_tensors_tell_the_head_where_the_configuration_does_not(
    kind: HeadKind, stored_as_bin: bool, tmp_path: Path
) -> None:
    save_head(wide_head(kind), tmp_path)
    if stored_as_bin:
        as_bin(tmp_path)
    for names in (None, [], ["GPTBigCodeForCausalLM"], "GPTBigCodeForTokenClassification"):
        change_config(tmp_path, architectures=names)
        assert open_folder(tmp_path).info.kind == kind


def test_labels_are_in_the_order_of_their_ids(tmp_path: Path) -> None:
    save_head(wide_head("sequence"), tmp_path)
    change_config(tmp_path, id2label={"2": "c", "0": "a", "1": "b"}, label2id=None)
    assert open_folder(tmp_path).info.labels == ("a", "b", "c")


def test_a_language_model_has_no_head(tmp_path: Path) -> None:
    config = head_config(FRUITS)
    save_model(wide_of(GPTBigCodeForCausalLM, config), config, tmp_path, "float32")
    with pytest.raises(ModelUnsupportedError, match="has no head that classifies") as caught:
        open_folder(tmp_path)
    assert caught.value.hint is not None
    assert "score.weight" in caught.value.hint


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_that_is_promised_and_missing_is_not_drawn_anew(
    kind: HeadKind, tmp_path: Path
) -> None:
    config = head_config(FRUITS)
    save_model(wide_of(GPTBigCodeForCausalLM, config), config, tmp_path, "float32")
    change_config(tmp_path, architectures=[CLASSES[kind].__name__])
    with pytest.raises(ModelIncompleteError, match="missing from the weights"):
        open_folder(tmp_path)


def test_of_two_heads_one_must_be_named(tmp_path: Path) -> None:
    save_head(wide_head("sequence"), tmp_path)
    path = tmp_path / "model.safetensors"
    both = load_file(path) | {"classifier.weight": torch.ones(3, 32)}
    save_file(both, path, metadata={"format": "pt"})
    change_config(tmp_path, architectures=None)
    with pytest.raises(ModelUnsupportedError, match="a sequence and a token head"):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    ("kind", "problem", "count", "expected"),
    [
        ("sequence", "single_label_classification", 3, "softmax"),
        ("sequence", "multi_label_classification", 3, "sigmoid"),
        ("sequence", "multi_label_classification", 1, "sigmoid"),
        ("sequence", "regression", 1, "none"),
        ("sequence", "regression", 3, "none"),
        ("sequence", None, 1, "none"),
        ("sequence", None, 2, "softmax"),
        ("token", None, 3, "softmax"),
        ("token", "multi_label_classification", 3, "softmax"),
        ("token", None, 1, "softmax"),
    ],
)
def test_the_problem_tells_what_logits_mean(
    kind: HeadKind, problem: str | None, count: int, expected: Activation
) -> None:
    labels = tuple(f"L{at}" for at in range(count))
    assert activation(kind, head_config(labels, problem_type=problem)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_quantised_weights_say_nearly_the_same(kind: HeadKind, tmp_path: Path) -> None:
    save_head(wide_head(kind), tmp_path)
    plain, small = open_folder(tmp_path), open_folder(tmp_path, quantize="int8")
    assert small.info.weights == "int8"
    assert small.info.weight_bytes < plain.info.weight_bytes
    if kind == "sequence":
        rows = [[1, 2, 3]]
        assert told(small, kind, rows)[0] == pytest.approx(told(plain, kind, rows)[0], abs=0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_counts_is_told(kind: HeadKind) -> None:
    classifier = classifier_of(wide_head(kind))
    if kind == "sequence":
        assert classifier.logits([Passage((1, 2), 0)]) == classifier.logits([Passage((1, 2), 1)])
        return
    (every,) = classifier.token_scores([Passage((1, 2, 3), 0)])
    (last,) = classifier.token_scores([Passage((1, 2, 3), 2)])
    assert (len(every), every[2 * len(FRUITS) :]) == (3 * len(FRUITS), last)
    assert every.itemsize == 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ids", [(), (1,) * 65])
def test_passages_that_do_not_fit_are_refused(kind: HeadKind, ids: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=f"{len(ids)} tokens where the model takes 1 to 64"):
        told(classifier_of(wide_head(kind)), kind, [ids])


def test_heads_are_not_taken_for_each_other() -> None:
    with pytest.raises(UsageError, match="a sequence head, not a token head"):
        classifier_of(wide_head("sequence")).token_scores([Passage((1,), 0)])
    with pytest.raises(UsageError, match="a token head, not a sequence head"):
        classifier_of(wide_head("token")).logits([Passage((1,), 0)])


def test_there_is_no_native_classifier(tmp_path: Path) -> None:
    save_head(wide_head("token"), tmp_path)
    with pytest.raises(UsageError, match="native"):
        open_folder(tmp_path, backend="native")


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_into_memory_is_refused_before_it_is_loaded(
    kind: HeadKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_head(wide_head(kind), tmp_path)
    monkeypatch.setattr(loading, "free_bytes", lambda _: 1000)
    with pytest.raises(ModelTooLargeError, match=r"0\.0 GB free"):
        open_folder(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_that_reads_twice_tells_what_a_pass_over_both_copies_gives(
    kind: HeadKind, tmp_path: Path
) -> None:
    model = wide_head(kind)
    save_head(model, tmp_path)
    change_config(tmp_path, read_twice=True)
    classifier = open_folder(tmp_path)
    assert classifier.info.n_positions == model.config.n_positions // 2
    passages = [Passage((5, 9, 3, 7), 1), Passage((8,), 0), Passage(tuple(range(1, 33)), 30)]
    found = classifier.logits(passages) if kind == "sequence" else classifier.token_scores(passages)
    for passage, answer in zip(passages, found, strict=True):
        count = len(passage.ids)
        with torch.no_grad():
            logits = model(torch.tensor([passage.ids + passage.ids]), use_cache=False).logits[0]
        if kind == "sequence":
            assert answer == pytest.approx(logits.tolist(), abs=1e-4)
            continue
        counted = logits[count + passage.counted :].log_softmax(-1)
        assert answer.tolist() == pytest.approx(counted.flatten().tolist(), abs=1e-4)
    with pytest.raises(UsageError, match="1 to 32"):
        told(classifier, kind, [range(1, 34)])


COSTS: dict[str, Any] = {"word": 8.0, "mark": 4, "free": 0}
WRONG: dict[str, list[object]] = {
    "read_twice": [1, "true", None, []],
    "read_context": [1, 0, -4, 65, 8.0, True, "8", None],
    "change_costs": [
        None, 1.0, [1, 2, 3], {}, {"word": 1, "mark": 1}, COSTS | {"other": 1.0},
        *(COSTS | {"mark": wrong} for wrong in (-1, True, "1", None, math.nan, math.inf, 10**400)),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [(key, at) for key in WRONG for at in WRONG[key]])
def test_how_a_text_is_read_is_checked(key: str, value: object, tmp_path: Path) -> None:
    save_head(wide_head("token"), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ModelCorruptError, match=key):
        open_folder(tmp_path)


def test_what_changes_cost_is_read(tmp_path: Path) -> None:
    save_head(wide_head("token"), tmp_path)
    assert open_folder(tmp_path).info.change_costs is None
    change_config(tmp_path, change_costs=COSTS)
    assert open_folder(tmp_path).info.change_costs == ChangeCosts(word=8.0, mark=4.0, free=0.0)


def test_a_head_is_shown_what_it_was_trained_on_unless_it_is_told_otherwise(
    tmp_path: Path,
) -> None:
    save_head(wide_head("sequence"), tmp_path)
    text, folder = "ab cd " * 20, ModelFolder(name="head", path=tmp_path)

    def told(context: int | None = None) -> list[object]:
        session = ClassifySession.open(folder, LoadOptions(device="cpu"))
        return list(
            session.classify([ClassifyRequest(text=text)], ClassifyOptions(context=context))
        )

    whole = told()
    change_config(tmp_path, read_context=8)
    assert told() == told(8) != whole
    assert told(64) == whole
