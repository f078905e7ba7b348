"""``bigcode classify``: flags → texts → session → labels."""

import codecs
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bigcode_cli.cli.answers import tell_failure
from bigcode_cli.cli.classify_flags import HeadFlags, LabelFlags
from bigcode_cli.cli.classify_views import (
    Choice,
    Item,
    JsonView,
    LabelPage,
    LineView,
    RedactView,
    View,
)
from bigcode_cli.cli.inputs import BYTE_ORDER_MARK, check_encoding, exact_encoding
from bigcode_cli.cli.output import Answer, open_answer
from bigcode_cli.cli.params import Encoding, OutputFile, OutputFlags, spread
from bigcode_cli.cli.render import TerminalReporter, print_error
from bigcode_cli.cli.sources import Found, Source, find_sources
from bigcode_cli.cli.text_flags import TextFlags, WindowFlags
from bigcode_cli.errors import InputError
from bigcode_cli.records import ClassifyOptions, ClassifyRequest, Failure, Spans

if TYPE_CHECKING:
    from bigcode_cli.engine.classify import ClassifySession
    from bigcode_cli.engine.protocol import ClassifierInfo

EXAMPLES = """\b
Examples:
  bigcode classify -m ./languages src/ --glob '*.py'
  git show HEAD:config.py | bigcode classify -m ./secrets --threshold 0.9
  bigcode classify -m ./secrets config.py --redact > clean.py
  bigcode classify -m ./secrets src/ --html spans.html
  bigcode classify -m ./languages --jsonl texts.jsonl --json

A model with a sequence head labels whole texts, one with a token head labels
parts of them, its spans. In a pipe a text has a line LABEL, SCORE, PATH for
each label that is told, and a span has a line LABEL, SCORE, PATH:LINE:COLUMN,
TEXT, with tabs between them and the span's text quoted as in JSON. Where there
is no label, LABEL and SCORE are "-". Lines and columns count from 1, in
characters. The label O is that of no span; B-X, I-X, L-X and U-X are parts of
spans X.

The scores are probabilities, or the plain values of a regression; a span's is
the mean of its tokens'. A text that exceeds the context is read in windows
that overlap: its logits are the mean of theirs, and each token's label is from
the window with the most text before it. What train head made is shown windows as long as
those that it was trained on, unless --context says otherwise.

Several texts with --redact are separated by a blank line and named on stderr.
"""

app = typer.Typer(add_completion=False)


@app.command(epilog=EXAMPLES)
@spread
def classify(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILES",
            help="Files and folders to classify (-: stdin).",
            show_default=False,
        ),
    ] = None,
    *,
    texts: TextFlags,
    encoding: Encoding = "utf-8",
    labels: LabelFlags,
    windows: WindowFlags,
    output: OutputFile = None,
    speech: OutputFlags,
    model: HeadFlags,
) -> None:
    """Label texts or their parts, with a model that has a head for that.

    The texts are files, those of folders but what git ignores, stdin, or the lines of a JSONL
    file. Names of labels are the model's own.
    """
    check_encoding(encoding)
    model.check()
    labels.check(output)
    options = ClassifyOptions(
        context=windows.context, stride=windows.stride, threshold=labels.threshold
    )
    with TerminalReporter(speech.quiet) as report:
        found = find_sources(
            files or (), globs=texts.glob or (), jsonl=texts.jsonl, encoding=encoding, what="text"
        )
        if found.skipped is not None:
            report.note(found.skipped)
        failed = found.failed
        if found.sources:
            exact = _exact(found.sources[0], encoding)[0] if labels.redact else encoding
            with open_answer(output, exact) as answer, ExitStack() as stack:
                session = open_classifier(model, report)
                labels.check_head(session.info)
                views: list[View] = [_view(answer, report, found, labels, speech, session.info)]
                if labels.html is not None:
                    choice = Choice(labels.top_k, labels.threshold)
                    page = LabelPage(labels.html, model.flags.model, choice, session.info)
                    views.append(stack.enter_context(page))
                run = _Run(session, found, views, report, encoding)
                failed += run.follow(options)
                if answer.terminal and not (run.told or failed):
                    report.note("no spans were found")
    if failed:
        raise typer.Exit(1)


def open_classifier(flags: HeadFlags, report: TerminalReporter) -> "ClassifySession":
    """Find the classifier and load it.

    Raises:
        ModelError: it is not to be had, or has no head that classifies.
        UsageError: a flag makes no sense.
    """
    shared = flags.flags
    options = shared.load_options()
    label = f"loading {shared.model}"
    report.progress(label, 0, None, "")  # the imports below are what takes long
    from bigcode_cli.engine.classify import ClassifySession
    from bigcode_cli.hub.heads import find_task
    from bigcode_cli.hub.resolve import resolve

    if flags.task is not None:
        folder = find_task(flags.task)
    else:
        folder = resolve(
            shared.model,
            revision=shared.revision,
            offline=shared.offline,
            base=flags.base,
            report=report,
        )
    session = ClassifySession.open(folder, options, report=report)
    report.progress(label, 1, 1, "")
    return session


def _view(
    answer: Answer,
    report: TerminalReporter,
    found: Found,
    labels: LabelFlags,
    speech: OutputFlags,
    info: "ClassifierInfo",
) -> View:
    """What shows the labels as the flags say."""
    if speech.json:
        choice = Choice(labels.top_k, labels.threshold)
        return JsonView(answer, report, choice, redact=labels.redact)
    if labels.redact:
        return RedactView(answer, report, several=len(found.sources) + found.failed > 1)
    # Of labels of which any number may be right, those that reach the threshold are the answer.
    reached = info.activation == "sigmoid" and labels.threshold is not None
    top_k = labels.top_k or (None if reached else 1)
    return LineView(answer, report, Choice(top_k, labels.threshold), info)


def _exact(source: Source, encoding: str) -> tuple[str, str]:
    """The encoding by which a text becomes the bytes that it was, and the mark it had before it."""
    exact = exact_encoding(encoding, source.start)
    if exact == codecs.lookup(encoding).name:
        return exact, ""  # a mark, if it has one, is part of the text
    return exact, BYTE_ORDER_MARK if source.start.startswith(BYTE_ORDER_MARK.encode(exact)) else ""


class _Run:
    """Hands the texts to a session and shows what comes of them, in their order.

    Attributes:
        told: texts with labels, or spans, that were shown.
    """

    def __init__(
        self,
        session: "ClassifySession",
        found: Found,
        views: Sequence[View],
        report: TerminalReporter,
        encoding: str,
    ) -> None:
        self._session, self._found, self._views = session, found, views
        self._report, self._encoding = report, encoding
        self._alone = len(found.sources) + found.failed == 1
        self._waiting: deque[Item] = deque()
        self._failed = 0
        self.told = 0

    def follow(self, options: ClassifyOptions) -> int:
        """Classify all; how many failed.

        Raises:
            BigcodeError: the only text failed, or the model did.
        """
        total = sum(source.size for source in self._found.sources)
        events = self._session.classify(
            self._requests(), options, report=self._report, total_bytes=total
        )
        for event in events:
            item = self._waiting.popleft()
            if isinstance(event, Failure):
                self._fail(event, item)
                continue
            self.told += len(event.spans) if isinstance(event, Spans) else 1
            for view in self._views:
                view.show(item, event)
        return self._failed

    def _requests(self) -> Iterator[ClassifyRequest]:
        """The texts, read when they are asked for."""
        for source in self._found.sources:
            try:
                text = "".join(source.pieces())
            except InputError as error:
                if self._alone:
                    raise
                self._pause()
                print_error(error.message, error.hint)
                self._failed += 1
                continue
            mark = _exact(source, self._encoding)[1]
            self._waiting.append(Item(source.path, source.id, source.place, text, mark))
            yield ClassifyRequest(text=text, id=None if source.id is None else str(source.id))

    def _fail(self, failure: Failure, item: Item) -> None:
        self._pause()
        tell_failure(failure, None if self._alone else item.place)
        self._failed += 1

    def _pause(self) -> None:
        for view in self._views:
            view.pause()
