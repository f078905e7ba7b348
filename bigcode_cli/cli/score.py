"""``bigcode score``: texts → a session for each model → figures."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bigcode_cli.cli.changes import find_changed
from bigcode_cli.cli.inputs import check_encoding
from bigcode_cli.cli.loading import open_session
from bigcode_cli.cli.output import Answer, TerminalAnswer, open_answer
from bigcode_cli.cli.params import Encoding, ModelFlags, OutputFile, OutputFlags, spread
from bigcode_cli.cli.render import TerminalReporter, print_error
from bigcode_cli.cli.score_flags import (
    WORSE,
    CountFlags,
    LookFlags,
    ModelsFlags,
    ThresholdFlags,
)
from bigcode_cli.cli.score_models import (
    ColumnRows,
    ColumnTable,
    Gather,
    Results,
    comparison_line,
)
from bigcode_cli.cli.score_pass import Pass
from bigcode_cli.cli.score_tables import FileTable, LineTable, TokenTable
from bigcode_cli.cli.score_text import Item
from bigcode_cli.cli.score_views import (
    Both,
    Coloured,
    FileRows,
    JsonView,
    LineRows,
    TokenRows,
    View,
)
from bigcode_cli.cli.sources import Found, find_sources
from bigcode_cli.cli.text_flags import TextFlags, WindowFlags
from bigcode_cli.cli.thresholds import Baseline, Regression, Thresholds, Way
from bigcode_cli.records import ScoreOptions

if TYPE_CHECKING:
    from bigcode_cli.engine.session import Session

EXAMPLES = """\b
Examples:
  bigcode score src --glob '*.py'
  git show HEAD:main.py | bigcode score
  bigcode score app.py --by line
  bigcode score src --json -o before.jsonl
  bigcode score src --baseline before.jsonl --fail-if-worse 2%
  bigcode score --diff main --heatmap
  bigcode score src -m mini -m ./tuned

Perplexity is exp(nll / tokens); bits per byte is nll / ln 2 / bytes, which
compares across tokenizers. Each token counts once, with all the context that
--context and --stride give it.

In a pipe, a line is PERPLEXITY, BITS PER BYTE and PATH, separated by tabs; for
--by line BITS, BITS PER BYTE, PATH:LINE and TEXT, for --by token BITS, RANK,
ENTROPY, PATH:LINE:COLUMN and TEXT, the text in quotes as JSON has it; for
several models the bits per byte of each, and PATH. Of JSONL, the id stands for
the path. What has no token to score is nan. The total of several texts is a
note on stderr. A token belongs to the line that it begins in. On a terminal,
all of these are tables, and figures of lines and tokens have the heatmap's
colours, a line's that of its mean token.

Several models are loaded one after the other. Further ones are compared with
the first: total bits per byte, with a 95 % interval by the paired bootstrap
over texts, which is somewhat too narrow for fewer than about 20.

Exit codes: 0 done, 1 an input failed, 4 a threshold was not met.
"""

app = typer.Typer(add_completion=False)


@app.command(epilog=EXAMPLES)
@spread
def score(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILES", help="Files and folders (-: stdin).", show_default=False),
    ] = None,
    *,
    texts: TextFlags,
    encoding: Encoding = "utf-8",
    windows: WindowFlags,
    count: CountFlags,
    thresholds: ThresholdFlags,
    look: LookFlags,
    output: OutputFile = None,
    speech: OutputFlags,
    model: ModelsFlags,
) -> None:
    """Measure how well a model predicts texts: perplexity and bits per byte.

    Texts are files, those in folders that git does not ignore, stdin, or JSON Lines, of any
    length. The less a text surprises the model, the lower the figures.
    """
    check_encoding(encoding)
    count.check(texts, thresholds)
    look.check(speech, output)
    thresholds.check()
    model.check(look, thresholds)
    options = ScoreOptions(
        context=windows.context, stride=windows.stride, bos=count.bos, tokens=look.tokens
    )
    limits = _limits(thresholds)
    with TerminalReporter(speech.quiet) as report:
        found = _find(files or (), texts, count.diff, encoding, report)
        items = [Item(number, source) for number, source in enumerate(found.sources)]
        failed = found.failed
        if items:
            with open_answer(output, encoding) as answer:
                run = _Run(items, limits, options, report, several=len(items) + failed > 1)
                if len(model.model) > 1:
                    _compare(run, model.each(), answer, encoding, look, as_json=speech.json)
                else:
                    with _open_view(answer, report, encoding, look, as_json=speech.json) as view:
                        run.score(model.each()[0], view, stats=look.stats)
                failed += run.failed
            _judge(limits, report, failed)
    if failed:
        raise typer.Exit(1)


def _limits(flags: ThresholdFlags) -> Thresholds:
    """The thresholds; the baseline is read before anything else is done."""
    if flags.baseline is None:
        return Thresholds(flags.fail_above, None)
    percent = WORSE if flags.fail_if_worse is None else flags.fail_if_worse
    return Thresholds(flags.fail_above, Regression(Baseline.read(flags.baseline), percent))


def _judge(limits: Thresholds, report: TerminalReporter, failed: int) -> None:
    """Say which threshold was not met.

    Raises:
        ThresholdError: one was not, and that is the worst that happened.
    """
    error = limits.verdict(report)
    if error is None:
        return
    if not failed:
        raise error
    print_error(error.message, error.hint)


def _find(
    files: Sequence[Path],
    texts: TextFlags,
    diff: str | None,
    encoding: str,
    report: TerminalReporter,
) -> Found:
    globs = texts.glob or ()
    if diff is None:
        found = find_sources(files, globs=globs, jsonl=texts.jsonl, encoding=encoding, what="text")
    else:
        found = find_changed(diff, files, globs=globs, encoding=encoding, what="text")
    if found.skipped is not None:
        report.note(found.skipped)
    if diff is not None and not found.sources and not found.failed:
        report.note(f"no lines were added since {diff}")
    return found


class _Run:
    """Scores the texts with one model after the other.

    Attributes:
        failed: texts that came to nothing; further models do not try them again.
    """

    def __init__(
        self,
        items: Sequence[Item],
        limits: Thresholds,
        options: ScoreOptions,
        report: TerminalReporter,
        *,
        several: bool,
    ) -> None:
        self.failed = 0
        self.report = report
        self._items = items
        self._limits, self._options = limits, options
        self._several = several

    def score(self, flags: ModelFlags, view: View, *, stats: bool) -> None:
        """Score what did not fail yet, and forget the model."""
        if not self._items:
            return
        session = open_session(flags, self.report)
        self._check(session, flags)
        one = Pass(self._items, view, self._limits, several=self._several)
        one.run(session, self._options, self.report)
        self.failed += len(one.failed)
        self._items = [item for item in self._items if item not in one.failed]
        if stats:
            self.report.clear()
            rate = f"{one.tokens / one.seconds:,.1f} tokens/s"
            told = f"{one.tokens:,} tokens in {one.seconds:.3f} s, {rate}"
            self.report.line(f"{flags.model}: {told}")

    def _check(self, session: "Session", flags: ModelFlags) -> None:
        from bigcode_cli.engine.windows import window_sizes

        context, stride = window_sizes(
            self._options.context, self._options.stride, session.info.n_positions
        )
        self._limits.begin(Way(context, stride, self._options.bos), flags.model, self.report)


def _compare(
    run: _Run,
    models: Sequence[ModelFlags],
    answer: Answer,
    encoding: str,
    look: LookFlags,
    *,
    as_json: bool,
) -> None:
    """Score with each model; rows come with the last, JSON with each."""
    results = Results([flags.model for flags in models])
    table: ColumnTable | ColumnRows = (
        ColumnTable(results, answer, run.report)
        if isinstance(answer, TerminalAnswer)
        else ColumnRows(results, answer, run.report, encoding)
    )
    for place, flags in enumerate(models):
        gather = Gather(results, place)
        if as_json:
            run.score(flags, Both(gather, JsonView(answer, run.report, "file")), stats=look.stats)
        elif place < len(models) - 1:
            run.score(flags, gather, stats=look.stats)
        else:
            run.score(flags, Both(gather, table), stats=look.stats)
    if as_json:
        for difference in results.differences():
            answer.write_json(comparison_line(difference))
    else:
        table.compare()


@contextmanager
def _open_view(
    answer: Answer, report: TerminalReporter, encoding: str, look: LookFlags, *, as_json: bool
) -> Iterator[View]:
    """What was asked to be seen; what cannot be shown fails here, before any work."""
    view = _main_view(answer, report, encoding, look, as_json=as_json)
    if look.html is None:
        yield view
        return
    from bigcode_cli.cli.heatmap import HeatPage

    with HeatPage(look.html, "bigcode score") as page:
        yield Both(view, Coloured(page, None))


def _main_view(
    answer: Answer, report: TerminalReporter, encoding: str, look: LookFlags, *, as_json: bool
) -> View:
    if look.heatmap:
        from bigcode_cli.cli.heatmap import open_heatmap

        return Coloured(open_heatmap(answer), report)
    if as_json:
        return JsonView(answer, report, look.by)
    if isinstance(answer, TerminalAnswer):
        tables = {"file": FileTable, "line": LineTable, "token": TokenTable}
        return tables[look.by](answer, report)
    rows = {"file": FileRows, "line": LineRows, "token": TokenRows}
    return rows[look.by](answer, report, encoding)
