"""Small classifiers, trained on the spot so that what they say means something."""

import random
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from bigcode_cli.backends.torch_classifier import Model, TorchClassifier
from bigcode_cli.engine.classify import ClassifySession
from bigcode_cli.engine.protocol import Activation, ClassifierInfo, HeadKind
from bigcode_cli.model.checkpoint import save_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.heads import (
    GPTBigCodeForSequenceClassification,
    GPTBigCodeForTokenClassification,
)
from bigcode_cli.records import ChangeCosts
from tests.tokenizers import tiny_json, tiny_tokenizer

N_POSITIONS = 64
FRUITS = ("apple", "pear", "plum")
"""A text is named after its one letter of ``xyz``."""

NUMBER_TAGS = ("O", "B-NUMBER", "I-NUMBER", "B-NAME", "I-NAME")
"""Runs of digits, and runs of capital letters."""

M = TypeVar("M", bound=Model)


def head_config(labels: tuple[str, ...], **changes: Any) -> GPTBigCodeConfig:
    """A tiny model with these labels and the tiny tokenizer."""
    sizes: dict[str, Any] = {
        "vocab_size": tiny_tokenizer().vocab_size,
        "n_positions": N_POSITIONS,
        "n_embd": 32,
        "n_layer": 1,
        "n_head": 4,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "classifier_dropout": 0.0,
        "id2label": dict(enumerate(labels)),
    }
    return GPTBigCodeConfig(**sizes | changes)


def fruit_text(rng: random.Random, length: int | None = None) -> tuple[str, int]:
    """Blanks and letters with one of ``xyz`` among them, and which it is."""
    kind = rng.randrange(len(FRUITS))
    text = [rng.choice("ab \n") for _ in range(length or rng.randint(1, 30))]
    text[rng.randrange(len(text))] = "xyz"[kind]
    return "".join(text), kind


def number_text(rng: random.Random, length: int = 24) -> str:
    """Words, numbers and names in capitals, all mixed up."""
    others = "ab c(=)<>/.;\n\r\t" + rng.choice("éño日🙂\u2028\ufeff\u3000")
    return "".join(
        rng.choice(others) if rng.random() < 0.5 else rng.choice("0123456789ABCDXYZ")
        for _ in range(length)
    )


def number_tags(text: str) -> list[int]:
    """The tag of each token of ``number_text``, by its first byte and the tag before it.

    The tiny tokenizer has no token of two kinds of these characters.
    """
    tags, before = [], "O"
    for id_ in tiny_tokenizer().encode(text):
        first = tiny_tokenizer().token_bytes(id_)[:1]
        kind = "NUMBER" if first.isdigit() else "NAME" if first.isupper() else "O"
        tag = kind if kind == "O" else f"{'I' if kind == before else 'B'}-{kind}"
        tags.append(NUMBER_TAGS.index(tag))
        before = kind
    return tags


def trained(model: M, batches: int, examples: Any) -> M:
    """Train on what ``examples`` gives for a batch: ids, mask, labels."""
    torch.set_num_threads(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(batches):
        ids, mask, labels = examples()
        loss = model(ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    return model


def padded(rows: list[list[int]], value: int = 0) -> tuple[Tensor, Tensor]:
    """Rows on the left of one tensor, and where they are."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [value] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


@cache
def fruit_model() -> GPTBigCodeForSequenceClassification:
    """Tells texts by their letter, wherever it stands."""
    rng = random.Random(1)

    def examples() -> tuple[Tensor, Tensor, Tensor]:
        texts = [fruit_text(rng) for _ in range(32)]
        ids, mask = padded([tiny_tokenizer().encode(text) for text, _ in texts])
        return ids, mask, torch.tensor([kind for _, kind in texts])

    torch.manual_seed(0)
    config = head_config(FRUITS, problem_type="single_label_classification")
    return trained(GPTBigCodeForSequenceClassification(config), 120, examples)


@cache
def number_model() -> GPTBigCodeForTokenClassification:
    """Finds numbers and names in capitals."""
    rng = random.Random(2)

    def examples() -> tuple[Tensor, Tensor, Tensor]:
        texts = [number_text(rng, 24) for _ in range(24)]
        ids, mask = padded([tiny_tokenizer().encode(text) for text in texts])
        labels, _ = padded([number_tags(text) for text in texts], -100)
        return ids, mask, labels

    torch.manual_seed(0)
    return trained(GPTBigCodeForTokenClassification(head_config(NUMBER_TAGS)), 250, examples)


def save_head(model: Model, folder: Path) -> Path:
    """A model folder with the tiny tokenizer."""
    save_model(model, model.config, folder, "float32")
    (folder / "tokenizer.json").write_text(tiny_json())
    return folder


def classifier_of(
    model: Model,
    *,
    activation: Activation = "softmax",
    batch_tokens: int = 256,
    change_costs: ChangeCosts | None = None,
) -> TorchClassifier:
    """The backend on a model that is in memory."""
    kind: HeadKind = (
        "sequence" if isinstance(model, GPTBigCodeForSequenceClassification) else "token"
    )
    info = ClassifierInfo(
        name="torch",
        device="cpu",
        dtype="float32",
        weights="float32",
        kind=kind,
        labels=tuple(model.config.id2label.values()),
        activation=activation,
        n_positions=model.config.n_positions,
        context=model.config.n_positions,
        change_costs=change_costs,
        batch_tokens=batch_tokens,
        vocab_size=model.config.vocab_size,
        weight_bytes=0,
    )
    return TorchClassifier(model, info)


def head_session(model: Model, **options: Any) -> ClassifySession:
    """A session on a model that is in memory."""
    classifier = classifier_of(model, **options)
    return ClassifySession("head", tiny_tokenizer(), classifier)
