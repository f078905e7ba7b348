"""``bigcode infill``: flags → drafts with holes → session → middles, texts, patches, files."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bigcode_cli.cli.answers import InOrder, follow, tell_failure
from bigcode_cli.cli.context import read_context, told_name
from bigcode_cli.cli.decoding_flags import (
    SAMPLES_TEMPERATURE,
    LimitFlags,
    SamplingFlags,
    SpeculationFlags,
)
from bigcode_cli.cli.drafts import Draft, check_return, read_drafts
from bigcode_cli.cli.edit import check_can_replace
from bigcode_cli.cli.explain import explain_lines, stderr_width
from bigcode_cli.cli.fillings import Filling
from bigcode_cli.cli.infill_flags import FillFlags, HoleFlags, PromptFlags
from bigcode_cli.cli.inputs import check_encoding
from bigcode_cli.cli.loading import open_session
from bigcode_cli.cli.params import Encoding, ModelFlags, OutputFile, OutputFlags, spread
from bigcode_cli.cli.render import TerminalReporter
from bigcode_cli.cli.stats import stats_lines
from bigcode_cli.cli.views import InPlace, View, open_view
from bigcode_cli.errors import BigcodeError, UsageError
from bigcode_cli.records import Chunk, Failure, Infilled, InfillRequest

if TYPE_CHECKING:
    from bigcode_cli.engine.session import Session

EXAMPLES = """\b
Examples:
  printf 'def add(a, b):\\n    <FILL_HERE>\\n' | bigcode infill -
  bigcode infill app.py:12
  bigcode infill app.py:12 --print diff | git apply
  bigcode infill app.py:12:9 -w --candidates 4
  bigcode infill app.py:12 --context-file utils.py --explain
  bigcode infill --prefix 'x = max(' --suffix ')' --json

The hole is the end of LINE's content, or stands before COL of it; both count
from 1. A file whose own name ends like this comes first. Without LINE, every
<FILL_HERE> in the file or on stdin is filled in order, each seeing those
before it. The prompt is cut to fit, and it is said by how much.

Of several candidates the best is printed; --json has all with their scores.
Several middles without --json are separated by a blank line and named on
stderr; with --json they are the "holes" of one object. --print file and
--print diff add "file" or "diff" to it. After Ctrl-C these are not printed,
and a file is not written.

A context file that git ignores or that looks like a secret is refused.
"""

app = typer.Typer(add_completion=False)


@app.command(epilog=EXAMPLES)
@spread
def infill(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE[:LINE[:COL]]", help="Where the hole is (-: stdin).", show_default=False
        ),
    ] = None,
    *,
    holes: HoleFlags,
    encoding: Encoding = "utf-8",
    prompt: PromptFlags,
    own: FillFlags,
    sampling: SamplingFlags,
    limits: LimitFlags,
    output: OutputFile = None,
    speech: OutputFlags,
    model: ModelFlags,
    guessing: SpeculationFlags,
) -> None:
    """Fill a hole in a text, and print what belongs there.

    The hole is a place in FILE, a <FILL_HERE> in FILE or on stdin, or what lies between two texts.
    Nothing outside it changes by a byte: line ends, byte order marks and a missing last newline
    are kept.
    """
    check_encoding(encoding)
    _check(prompt, own, speech, output)
    template = _template(prompt, own, sampling, limits)
    with TerminalReporter(speech.quiet) as report:
        if sampling.warms(own.candidates):
            report.note(f"all candidates but one are drawn at temperature {SAMPLES_TEMPERATURE}")
        drafts, failed = read_drafts(file, holes, encoding=encoding)
        if drafts:
            _check_draft(drafts[0], own)
            context = read_context(
                prompt.context_file or (),
                encoding=encoding,
                hole=drafts[0].path,
                force=prompt.force,
            )
            fillings = [Filling(draft) for draft in drafts]
            with open_view(fillings, report, own, speech, output, encoding) as view:
                session = open_session(model, report, guessing)
                run = _Run(session, fillings, replace(template, context=context), view, report)
                failed += run.follow(explain=prompt.explain, stats=own.stats)
            if isinstance(view, InPlace) and view.refused:
                raise view.refused
            _tell_cuts(fillings, report)
    if failed:
        raise typer.Exit(1)


def _check(prompt: PromptFlags, own: FillFlags, speech: OutputFlags, output: Path | None) -> None:
    """Refuse what would be silently without effect."""
    speech.check_logprobs(own.logprobs)
    if prompt.force and not prompt.context_file:
        raise UsageError("--force is about context files, and there is none")
    if own.write and output is not None and own.print is None and not speech.json:
        raise UsageError("--write prints nothing that --output could take", "say what: --print")


def _check_draft(draft: Draft, own: FillFlags) -> None:
    """Refuse what cannot be done with this text, before any work.

    Raises:
        UsageError: only a file can be filled in place, or be patched.
        InputError: the text's encoding would change it.
        OutputError: the file may not be written.
    """
    if draft.path is None and own.write:
        raise UsageError("--write fills a file in place", "name it: FILE or FILE:LINE")
    if own.print == "diff":
        if draft.path is None:
            raise UsageError("a patch is of a file", "name it: FILE or FILE:LINE")
        if "\n".encode(draft.encoding) != b"\n":
            raise UsageError(f"a patch holds no {draft.encoding} text", "--print file prints it")
    if own.write or own.print in ("file", "diff"):
        check_return(draft)
    if own.write and draft.path is not None:
        check_can_replace(draft.path)


def _template(
    prompt: PromptFlags, own: FillFlags, sampling: SamplingFlags, limits: LimitFlags
) -> InfillRequest:
    """The request that all holes share, made before any input is waited for."""
    return InfillRequest(
        prefix="",
        suffix="",
        repo=prompt.repo,
        order=None if prompt.order == "auto" else prompt.order,
        dialect=None if prompt.dialect == "auto" else prompt.dialect,
        span=None if own.span == "auto" else own.span,
        candidates=own.candidates,
        max_new_tokens=limits.max_new_tokens,
        sampling=sampling.sampling_options(own.candidates),
        stop_texts=tuple(limits.stop or ()),
        logprobs=own.logprobs,
    )


def _tell_cuts(fillings: Sequence[Filling], report: TerminalReporter) -> None:
    """One note on all that did not fit."""
    done = [infilled for filling in fillings for infilled in filling.done]
    prefix = sum(infilled.prefix_dropped for infilled in done)
    suffix = sum(infilled.suffix_dropped for infilled in done)
    if not (prefix or suffix):
        return
    cut = sum(1 for infilled in done if infilled.prefix_dropped or infilled.suffix_dropped)
    which = "the prompt was" if len(done) == 1 else f"{cut:,} of {len(done):,} prompts were"
    dropped = [f"{n:,} tokens of the {w}" for n, w in ((prefix, "prefix"), (suffix, "suffix")) if n]
    report.note(f"{which} cut to fit: {' and '.join(dropped)} left out")


class _Run:
    """Fills the holes: one of each draft at a time, since each sees those before it."""

    def __init__(
        self,
        session: "Session",
        fillings: Sequence[Filling],
        template: InfillRequest,
        view: View,
        report: TerminalReporter,
    ) -> None:
        self._session, self._fillings, self._template = session, fillings, template
        self._view, self._report = view, report
        self._stats = False
        self._failed = 0

    def follow(self, *, explain: bool, stats: bool) -> int:
        """Fill all; how many drafts failed.

        Raises:
            BigcodeError: the only draft failed, or the model cannot infill.
            KeyboardInterrupt: after what was under way has been shown.
        """
        from bigcode_cli.text.fim import find_dialect

        find_dialect(self._session.tokenizer, self._template.dialect)
        self._stats = stats
        try:
            for _ in range(max(filling.draft.template.count for filling in self._fillings)):
                requests = [self._request(filling) for filling in self._fillings]
                if explain:
                    self._explain(requests)
                events = self._session.infill(requests, report=self._report)
                follow(events, InOrder(len(requests), 1), self._show)
        except KeyboardInterrupt:
            for filling in self._fillings:
                if filling.done and not filling.complete:
                    self._view.end(filling)
            raise
        return self._failed

    def _request(self, filling: Filling) -> InfillRequest:
        hole, path = filling.hole(), filling.draft.path
        return replace(
            self._template,
            prefix=hole.prefix,
            suffix=hole.suffix,
            id=filling.draft.asked.request_id,
            path=None if path is None else told_name(path),
        )

    def _explain(self, requests: Sequence[InfillRequest]) -> None:
        for filling, request in zip(self._fillings, requests, strict=True):
            with suppress(BigcodeError):  # which the session tells, when its turn comes
                for line in explain_lines(
                    self._session.assemble(request),
                    self._session.info.n_positions,
                    filling.hole_name(len(filling.done)),
                    stderr_width(),
                ):
                    self._report.line(line)

    def _show(self, event: Chunk | Infilled | Failure) -> None:
        filling = self._fillings[event.request]
        if isinstance(event, Chunk):
            self._view.grow(filling, event.text)
        elif isinstance(event, Failure):
            self._view.pause()
            tell_failure(event, filling.draft.asked.place)
            self._failed += 1
        else:
            filling.done.append(event)
            self._view.fill(filling)
            if filling.complete:
                self._view.end(filling)
            if self._stats:
                self._tell_stats(filling)

    def _tell_stats(self, filling: Filling) -> None:
        self._view.pause()
        number, done = len(filling.done) - 1, filling.done[-1]
        lone = len(self._fillings) == 1 and filling.draft.template.count == 1
        label = "" if lone else filling.hole_name(number)
        tokens = sum(candidate.completion_tokens for candidate in done.candidates)
        for line in stats_lines(label, done, tokens, done.candidates[0].finish_reason):
            self._report.line(line)
