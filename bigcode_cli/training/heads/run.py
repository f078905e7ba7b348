"""From labelled texts to a folder that ``bigcode classify`` takes, and what it is worth."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from bigcode_cli.backends.torch_classifier import Model
from bigcode_cli.engine.classify import ClassifySession
from bigcode_cli.errors import InputError, OutputError, UsageError
from bigcode_cli.hub.deltas import base_keys
from bigcode_cli.model.checkpoint import save_difference, save_model
from bigcode_cli.records import (
    Classified,
    ClassifyRequest,
    Failure,
    LoadOptions,
    ModelFolder,
    Reporter,
    Spans,
)
from bigcode_cli.text.spans import read_tags
from bigcode_cli.text.tokenizer import Tokenizer
from bigcode_cli.training.heads.changes import change_costs
from bigcode_cli.training.heads.examples import Example, label_names
from bigcode_cli.training.heads.samples import HeadOptions, make_samples
from bigcode_cli.training.heads.scores import ClassScore, Item, macro_f1, score_classes
from bigcode_cli.training.heads.trainer import HeadTrainer
from bigcode_cli.training.heads.trunk import load_base
from bigcode_cli.training.lm import TOKENIZER_FILES
from bigcode_cli.training.low_rank import merge_low_rank

HeadStorage = Literal["float32", "bfloat16"]

RIGHT = 0.5
"""The score from which on a label is predicted, where any number may be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRequest:
    """What one invocation is asked for.

    Attributes:
        base: the model that the head is for.
        kept: what is learned from.
        held_out: what the head is measured on.
        out: the folder to write, which must not hold anything.
        storage: how the folder's weights lie on disk.
        full: write a whole model, not only what differs from the base.
    """

    base: ModelFolder
    kept: Sequence[Example]
    held_out: Sequence[Example]
    out: Path
    options: HeadOptions
    storage: HeadStorage = "float32"
    full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadReport:
    """What came of it.

    Attributes:
        loss: of the last epoch, in nats a target.
        scores: of each label on what was held out; none if that is nothing.
        bytes: of the folder.
    """

    loss: float
    scores: tuple[ClassScore, ...]
    macro_f1: float | None
    bytes: int


def train_head(request: HeadRequest, *, report: Reporter) -> HeadReport:
    """Train, save and measure what was saved; nothing is left of it if it is cut short.

    Raises:
        InputError: the texts tell nothing apart, or the held-out ones have labels that the others
            have not.
        ModelError: the base cannot be loaded.
        OutputError: the folder cannot be written.
        UsageError: the folder holds something, or an option does not fit the model.
        BigcodeError: training diverged.
    """
    labels, held_out = _labels(request), request.held_out
    with _whole_folder(request.out) as folder:
        loss = _train(request, labels, folder, report)
        base = None if request.full else request.base.path
        named = ModelFolder(name=str(request.out), path=folder, base=base)
        scores = measure_head(named, held_out, request.options, report) if held_out else ()
        size = sum(path.stat().st_size for path in folder.iterdir())
    return HeadReport(loss=loss, scores=scores, macro_f1=macro_f1(scores), bytes=size)


def _train(request: HeadRequest, labels: tuple[str, ...], folder: Path, report: Reporter) -> float:
    """Train and save; the loss of the last epoch."""
    options = request.options
    torch.manual_seed(options.seed)
    tokenizer = Tokenizer.load(request.base.tokenizer_path)
    costs = change_costs(request.kept, tokenizer) if options.kind == "token" else None
    model = load_base(request.base, labels, options, costs)
    samples = list(make_samples(request.kept, labels, tokenizer, model.config, options))
    report.note(
        f"{len(request.kept):,} texts, {len(samples):,} windows, {len(labels)} labels on "
        f"{model.device.type}; {len(request.held_out):,} texts held out"
    )
    learned = {example.text for example in request.kept}
    if both := sum(example.text in learned for example in request.held_out):
        report.note(f"{both:,} of the texts held out are among those to learn from")
    loss = HeadTrainer(model, samples, options, report).run()
    _save(model, request, folder)
    return loss


def _labels(request: HeadRequest) -> tuple[str, ...]:
    """The labels of the head."""
    options = request.options
    labels = label_names(request.kept, options.kind)
    if options.kind == "sequence" and not options.multi_label and len(labels) == 1:
        raise InputError(f"{labels[0]!r} is the only label: there is nothing to tell apart")
    known = {name for example in request.kept for name in example.names}
    for example in request.held_out:
        if unknown := set(example.names) - known:
            raise InputError(f"{example.place}: no text to learn from has {min(unknown)!r}")
    return labels


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A folder that takes its name when all is written, and is gone if that fails."""
    out = out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already", "name another --out")
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        yield part
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _save(model: Model, request: HeadRequest, folder: Path) -> None:
    """Write a whole model, or what was trained of it."""
    if request.full:
        merge_low_rank(model)
        save_model(model, model.config, folder, request.storage)
        for name in TOKENIZER_FILES:
            if (request.base.path / name).is_file():
                shutil.copyfile(request.base.path / name, folder / name)
        return
    keys = base_keys(request.base)
    config = model.config.with_changes(extra={**model.config.extra, **keys})
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    save_difference(trained, config, type(model).__name__, folder, request.storage)


def measure_head(
    folder: ModelFolder, examples: Sequence[Example], options: HeadOptions, report: Reporter
) -> tuple[ClassScore, ...]:
    """The scores of a head's labels on some texts, by what ``bigcode classify`` runs.

    Args:
        folder: that holds it.
        options: that it was trained with.

    Raises:
        ModelError: it cannot be loaded.
    """
    session = ClassifySession.open(folder, LoadOptions(device=options.device), report=report)
    events = session.classify(
        (ClassifyRequest(text=example.text) for example in examples),
        report=report,
        total_bytes=sum(len(example.text.encode()) for example in examples),
    )
    found = [_found(event, options) for event in events]
    tags = (tag.label for tag in read_tags(session.info.labels) if tag.label is not None)
    names = session.info.labels if options.kind == "sequence" else sorted(set(tags))
    return score_classes(names, zip(map(_wanted, examples), found, strict=True))


def _wanted(example: Example) -> set[Item]:
    marks = {(mark.label, mark.start, mark.end) for mark in example.marks}
    return marks | {(label, 0, 0) for label in example.labels}


def _found(event: Classified | Spans | Failure, options: HeadOptions) -> set[Item]:
    if isinstance(event, Failure):
        raise event.error
    if isinstance(event, Spans):
        return {(span.label, span.start, span.end) for span in event.spans}
    if options.multi_label:
        return {(label, 0, 0) for label, score in event.scores.items() if score >= RIGHT}
    return {(max(event.scores, key=event.scores.__getitem__), 0, 0)}
