"""``bigcode train head``: labelled texts → a classifier, and what it is worth."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bigcode_cli.cli.answers import to_json
from bigcode_cli.cli.inputs import read_objects
from bigcode_cli.cli.output import open_answer
from bigcode_cli.cli.params import OutputFlags, spread
from bigcode_cli.cli.render import TerminalReporter, print_error
from bigcode_cli.cli.train_head_flags import (
    HELD_OUT,
    RANK,
    HeadDataFlags,
    HeadModelFlags,
    HeadPlanFlags,
)
from bigcode_cli.errors import InputError

if TYPE_CHECKING:
    from bigcode_cli.training.heads.examples import Example
    from bigcode_cli.training.heads.run import HeadReport, HeadRequest
    from bigcode_cli.training.heads.samples import HeadOptions

NOTHING = "-"

EXAMPLES = """\b
Examples:
  bigcode train head languages.jsonl --task sequence --out ./languages
  bigcode train head secrets.jsonl --task token --read-twice --out ./secrets
  bigcode train head big.jsonl --task sequence --tune low-rank --out ./better
  bigcode classify -m ./languages src/

DATA has a line {"text": …, "label": …} for each text; with --multi-label
{"text": …, "labels": […, …]}; with --task token {"text": …, "spans": [{"start":
…, "end": …, "label": …}]}, in characters, the end exclusive.

With --tune head the model reads each text once for all epochs; low-rank changes
to all of its layers (LoRA, Hu et al. 2021), and norms and biases (BitFit,
Ben-Zaken et al. 2021), take a pass and its way back an epoch, and can tell more
apart. A model knows only what stands before a token: with --read-twice it labels
each one knowing the whole window, which takes twice the time and half the
context (echo embeddings, Springer et al. 2024).

The scores are of what bigcode classify says of the held-out texts: the best
label of a text, or all from 0.5 on with --multi-label; of a token head, spans
whose bounds and label are both right. In a pipe each label has a line LABEL,
PRECISION, RECALL, F1, SUPPORT with tabs between them, and the last, for the
label "-", has the macro-F1. "-" also stands for a score that nothing tells.

DIR holds only what was trained. What stands on mini or on a model of the Hub
finds it by itself; what stands on a folder is told by --base of classify which
one. A base that has changed is refused. --full writes a whole model that needs
no other and that transformers loads. Of what was trained with --read-twice it
gives the same logits for the second of two copies of a text.

In config.json, "read_twice" and "read_context" say how classify is to show a
text to the model: once or twice, and in windows of how many tokens. Of a token
head, "change_costs" says how rare it was in DATA that a part begins or ends
inside a word, at a mark, and at a blank or a quote; classify takes the sequence
of labels that is best by that and by the model (Viterbi 1967), or the best label
of each token where the key is missing.
"""


@spread
def head(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Labelled texts: JSON Lines (-: stdin).", show_default=False
        ),
    ],
    *,
    task: Annotated[
        Literal["sequence", "token"],
        typer.Option("--task", metavar="sequence|token", help="Label whole texts, or their parts."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make.")],
    texts: HeadDataFlags,
    plan: HeadPlanFlags,
    model: HeadModelFlags,
    speech: OutputFlags,
) -> None:
    """Train a head that labels texts or their parts, for bigcode classify.

    The model itself stays as it is, unless --tune or --unfreeze says otherwise.
    """
    texts.check()
    plan.check()
    with TerminalReporter(speech.quiet) as report, open_answer(None, texts.encoding) as answer:
        report.progress("loading", 0, None, "")  # the imports below are what takes long
        from bigcode_cli.hub.resolve import resolve
        from bigcode_cli.training.heads.run import HeadRequest, train_head
        from bigcode_cli.training.heads.samples import HeadOptions

        options = HeadOptions(
            kind=task,
            multi_label=plan.multi_label,
            tune=plan.tune,
            unfreeze=plan.unfreeze,
            rank=RANK if plan.rank is None else plan.rank,
            read_twice=plan.read_twice,
            epochs=plan.epochs,
            minutes=plan.minutes,
            batch_size=plan.batch_size,
            learning_rate=plan.learning_rate,
            seed=plan.seed,
            balanced=plan.class_weights == "balanced",
            context=plan.context,
            device=model.device,
        )
        kept, held_out = _read(data, texts, options)
        base = resolve(model.model, revision=model.revision, offline=model.offline, report=report)
        report.progress("loading", 1, 1, "")
        request = HeadRequest(
            base=base,
            kept=kept,
            held_out=held_out,
            out=out,
            options=options,
            storage=plan.stored(),
            full=plan.full,
        )
        try:
            found = train_head(request, report=report)
        except KeyboardInterrupt:
            report.note(f"interrupted: {out} was not written")
            raise
        report.clear()
        report.note(f"{out}: {found.bytes / 1e6:,.2f} MB, loss {found.loss:.4f} in the last epoch")
        if speech.json:
            answer.write_json(to_json(_object(request, found)))
        elif found.scores:
            lines = _table(found) if answer.terminal else map("\t".join, _rows(found))
            answer.write("".join(f"{line}\n" for line in lines))


def _read(
    data: Path, flags: HeadDataFlags, options: "HeadOptions"
) -> tuple[list["Example"], list["Example"]]:
    """What to learn from, and what to measure on.

    Raises:
        InputError: a line is no labelled text, or there are too few.
    """
    from bigcode_cli.training.heads.examples import split

    examples, bad = _read_examples(data, flags.encoding, options)
    held_out: list[Example] = []
    if flags.validate is not None:
        held_out, others = _read_examples(flags.validate, flags.encoding, options)
        bad += others
    if bad:
        raise InputError(
            f"{bad:,} of the lines {'is' if bad == 1 else 'are'} no labelled text",
            "bigcode train head --help shows what a line looks like",
        )
    share = HELD_OUT if flags.hold_out is None else flags.hold_out
    if flags.validate is not None or share == 0:
        return examples, held_out
    kept, held_out = split(examples, share, options.seed)
    if not held_out or not kept:
        raise InputError(
            f"{len(examples):,} texts are too few to hold out {share:.0%} of them",
            "name others with --validate, or measure nothing with --hold-out 0",
        )
    return kept, held_out


def _read_examples(
    file: Path, encoding: str, options: "HeadOptions"
) -> tuple[list["Example"], int]:
    """The labelled texts of a file, and how many lines were told to be none."""
    from bigcode_cli.training.heads.examples import read_example

    examples: list[Example] = []
    bad = 0
    for place, content in read_objects(file, encoding=encoding):
        try:
            if isinstance(content, InputError):
                raise content
            multi_label = options.multi_label
            examples.append(read_example(content, place, options.kind, multi_label=multi_label))
        except InputError as error:
            print_error(error.message, error.hint)
            bad += 1
    return examples, bad


def _object(request: "HeadRequest", found: "HeadReport") -> dict[str, Any]:
    """What came of it, as other programs read it."""
    return {
        "model": str(request.out),
        "base": request.base.name,
        "task": request.options.kind,
        "texts": len(request.kept),
        "held_out_texts": len(request.held_out),
        "bytes": found.bytes,
        "loss": found.loss,
        "macro_f1": found.macro_f1,
        "labels": [
            {
                "label": score.label,
                "precision": score.precision,
                "recall": score.recall,
                "f1": score.f1,
                "support": score.support,
            }
            for score in found.scores
        ],
    }


def _rows(found: "HeadReport") -> Iterator[tuple[str, ...]]:
    """The fields of each label's line, and those of the last."""
    for score in found.scores:
        figures = (score.precision, score.recall, score.f1)
        yield (_field(score.label), *map(_figure, figures), str(score.support))
    support = sum(score.support for score in found.scores)
    yield NOTHING, NOTHING, NOTHING, _figure(found.macro_f1), str(support)


def _table(found: "HeadReport") -> Iterator[str]:
    """The same in columns, under headings."""
    *rows, (_, *figures) = _rows(found)
    rows = [("LABEL", "PRECISION", "RECALL", "F1", "SUPPORT"), *rows, ("macro-F1", *figures)]
    width = max(len(row[0]) for row in rows)
    for label, *figures in rows:
        yield f"{label:{width}}" + "".join(f"  {figure:>9}" for figure in figures)


def _figure(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"


def _field(text: str) -> str:
    """A label as it is, unless that would end the field or the line."""
    return text if text.isprintable() else json.dumps(text)
