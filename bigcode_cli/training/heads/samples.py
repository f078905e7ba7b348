"""Labelled texts as what a head is trained on: windows, and what each of them is to be told for.

Texts are cut as ``bigcode classify`` cuts them. Of a sequence head each window is a sample with its
text's labels, read off its last token; of a token head, each window is a sample of the tokens that
count in it.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bigcode_cli.engine.protocol import HeadKind
from bigcode_cli.engine.windows import window_sizes, windows
from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.text.tokenizer import Tokenizer
from bigcode_cli.training.heads.examples import Example, bio_tags

Tune = Literal["head", "norms", "low-rank"]
"""What of the trunk is trained with the head: nothing, norms and biases (Ben-Zaken et al. 2021,
BitFit), or a low-rank change to each matrix of its layers (Hu et al. 2021, LoRA)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOptions:
    """How a head is trained.

    Attributes:
        multi_label: any number of a sequence head's labels may be right.
        unfreeze: the last layers that are trained too, with the final norm; -1 is the whole trunk.
        rank: of low-rank changes.
        read_twice: each window stands before the model twice, and what counts is what it makes of
            it the second time, when it has seen all of it (Springer et al. 2024, echo embeddings).
        epochs: ``None`` is 20 with a frozen trunk, else 3.
        minutes: that the steps may take in all; the rate falls to 0 by then.
        batch_size: windows of a step.
        learning_rate: of the head, at its peak.
        balanced: labels that are rare weigh more: see ``label_weights``.
        context: tokens of a window; ``None`` is all that the model takes.
    """

    kind: HeadKind
    multi_label: bool = False
    tune: Tune = "head"
    unfreeze: int = 0
    rank: int = 8
    read_twice: bool = False
    epochs: int | None = None
    minutes: float | None = None
    batch_size: int = 16
    learning_rate: float = 3e-3
    seed: int = 0
    balanced: bool = False
    context: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.multi_label and self.kind == "token":
            raise UsageError("--multi-label is for whole texts", "a token has one label")
        if self.unfreeze < -1:
            raise UsageError(f"--unfreeze must be at least -1, not {self.unfreeze}")
        if self.unfreeze and self.tune != "head":
            raise UsageError(
                f"--unfreeze trains whole layers, and --tune {self.tune} parts of all",
                "leave one of them out",
            )
        if self.minutes is not None and not (math.isfinite(self.minutes) and self.minutes > 0):
            raise UsageError(f"--minutes must be above 0, not {self.minutes}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(f"--learning-rate must be above 0, not {self.learning_rate}")

    @property
    def rounds(self) -> int:
        """Epochs."""
        return (20 if self.is_frozen else 3) if self.epochs is None else self.epochs

    @property
    def is_frozen(self) -> bool:
        """Nothing of the trunk is trained."""
        return self.tune == "head" and not self.unfreeze

    @property
    def readings(self) -> int:
        """How often a window stands before the model."""
        return 2 if self.read_twice else 1


@dataclass(frozen=True, slots=True)
class Sample:
    """A window of a text.

    Attributes:
        first: the hidden states from here on are read.
        targets: of each of them: int64 ``(states,)``, or float32 ``(1, labels)`` of 0 and 1 where
            any label may be right.
    """

    ids: tuple[int, ...]
    first: int
    targets: Tensor


def make_samples(
    examples: Iterable[Example],
    labels: Sequence[str],
    tokenizer: Tokenizer,
    config: GPTBigCodeConfig,
    options: HeadOptions,
) -> Iterator[Sample]:
    """The windows of texts, in their order.

    Raises:
        UsageError: the context does not fit the model.
        InputError: a text has a token that the model does not know.
    """
    room = config.n_positions // options.readings
    context, stride = window_sizes(options.context, None, room)
    number = {label: at for at, label in enumerate(labels)}
    for example in examples:
        ids = tokenizer.encode(example.text)
        if max(ids) >= config.vocab_size:
            raise InputError(f"{example.place}: the model does not know token {max(ids)}")
        cut = windows([ids], context=context, stride=stride, first=0)
        if options.kind == "sequence":
            targets = _targets(example, number, multi_label=options.multi_label)
            for window in cut:
                yield Sample(window.ids, len(window.ids) - 1, targets)
            continue
        lengths = [tokenizer.byte_lengths[id_] for id_ in ids]
        tags = [number[tag] for tag in bio_tags(example.text, example.marks, lengths)]
        done = 0
        for window in cut:
            count = len(window.ids) - window.counted
            yield Sample(window.ids, window.counted, torch.tensor(tags[done : done + count]))
            done += count


def _targets(example: Example, number: dict[str, int], *, multi_label: bool) -> Tensor:
    if not multi_label:
        return torch.tensor([number[example.labels[0]]])
    targets = torch.zeros(1, len(number))
    targets[0, [number[label] for label in example.labels]] = 1
    return targets
