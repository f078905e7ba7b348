"""``bigcode generate``: flags → requests → session → text."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from bigcode_cli.cli.answers import (
    Asked,
    Event,
    InOrder,
    JsonView,
    TextView,
    View,
    follow,
    output_label,
    tell_failure,
)
from bigcode_cli.cli.decoding_flags import (
    SAMPLES_TEMPERATURE,
    Logprobs,
    SamplingFlags,
    SpeculationFlags,
    Stats,
    StopFlags,
)
from bigcode_cli.cli.help import INPUT, OUTPUT, SAMPLING
from bigcode_cli.cli.inputs import check_encoding, read_text, usable_records
from bigcode_cli.cli.loading import open_session
from bigcode_cli.cli.output import open_answer
from bigcode_cli.cli.params import Encoding, InputFile, ModelFlags, OutputFile, OutputFlags, spread
from bigcode_cli.cli.render import TerminalReporter
from bigcode_cli.cli.stats import stats_lines
from bigcode_cli.errors import UsageError
from bigcode_cli.records import Completion, Failure, GenerateRequest

EXAMPLES = """\b
Examples:
  bigcode generate "def foo():"
  bigcode generate -f start.py --stop-at block
  git show HEAD:main.py | bigcode generate -n 64 -t 0.2
  bigcode generate "def add(a, b):" --num-samples 3 --json
  bigcode generate --jsonl prompts.jsonl --json -o completions.jsonl

Several outputs without --json are separated by a blank line and named on
stderr; with --json each is a line that holds its id and index.
"""

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateFlags:
    """What generate alone takes."""

    jsonl: Annotated[
        Path | None,
        typer.Option(
            "--jsonl",
            metavar="FILE",
            help='Complete every line {"id": …, "prompt": …} of FILE.',
            rich_help_panel=INPUT,
        ),
    ] = None
    num_samples: Annotated[
        int,
        typer.Option(
            "--num-samples",
            metavar="N",
            help="Completions of each prompt.",
            rich_help_panel=SAMPLING,
        ),
    ] = 1
    heal: Annotated[
        bool,
        typer.Option(
            "--heal/--no-heal",
            help="Back up the prompt's last token, so that a word or an indentation cut in two "
            "is completed.",
            rich_help_panel=SAMPLING,
        ),
    ] = True
    truncate: Annotated[
        bool,
        typer.Option(
            "--truncate",
            help="Drop the start of a prompt that leaves no room.",
            rich_help_panel=INPUT,
        ),
    ] = False
    echo: Annotated[
        bool,
        typer.Option("--echo", help="Print the prompt too.", rich_help_panel=OUTPUT),
    ] = False
    logprobs: Logprobs = None
    stats: Stats = False


@app.command(epilog=EXAMPLES)
@spread
def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT", help="The text to complete (-: stdin).", show_default=False
        ),
    ] = None,
    *,
    file: InputFile = None,
    encoding: Encoding = "utf-8",
    own: GenerateFlags,
    sampling: SamplingFlags,
    stopping: StopFlags,
    output: OutputFile = None,
    speech: OutputFlags,
    model: ModelFlags,
    guessing: SpeculationFlags,
) -> None:
    """Complete a prompt, and print the completion as it is decoded.

    The prompt is the argument, a file, or stdin. Nothing in it is unescaped or stripped, and by
    default the most probable token follows (greedy), 128 of them at most.
    """
    check_encoding(encoding)
    _check(own, speech)
    template = _template(own, sampling, stopping)
    with TerminalReporter(speech.quiet) as report:
        if sampling.warms(own.num_samples):
            report.note(f"several samples are drawn at temperature {SAMPLES_TEMPERATURE}")
        inputs = _read_inputs(prompt, file, own.jsonl, encoding)
        requests = [replace(template, prompt=text, id=who.request_id) for who, text in inputs.good]
        asked = [who for who, _ in inputs.good]
        failed = inputs.bad
        if requests:
            with open_answer(output, encoding) as answer:
                view: View = (
                    JsonView(answer, report, asked)
                    if speech.json
                    else TextView(
                        answer, report, inputs.good, samples=own.num_samples, echo=own.echo
                    )
                )
                session = open_session(model, report, guessing)
                run = _Run(view, asked, own.num_samples, report, stats=own.stats)
                failed += run.follow(session.generate(requests, report=report))
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The prompts that can be tried, and how many cannot."""

    good: list[tuple[Asked, str]]
    bad: int = 0


def _read_inputs(
    prompt: str | None, file: Path | None, jsonl: Path | None, encoding: str
) -> _Inputs:
    if jsonl is None:
        text = read_text(prompt, file, encoding=encoding, what="prompt")
        return _Inputs([(Asked(), text)])
    if prompt is not None or file is not None:
        raise UsageError("--jsonl holds the prompts: no PROMPT and no --file beside it")
    good, bad = usable_records(jsonl, ("prompt",), encoding=encoding)
    return _Inputs([(Asked(id=one.id, place=one.place), one.texts["prompt"]) for one in good], bad)


def _check(own: GenerateFlags, speech: OutputFlags) -> None:
    """Refuse what would be silently without effect."""
    speech.check_logprobs(own.logprobs)
    if own.echo and speech.json:
        raise UsageError("--echo and --json do not go together", 'JSON has the "prompt" anyway')


def _template(own: GenerateFlags, sampling: SamplingFlags, stopping: StopFlags) -> GenerateRequest:
    """The request that all prompts share, made before any input is waited for."""
    return GenerateRequest(
        prompt="",
        max_new_tokens=stopping.max_new_tokens,
        sampling=sampling.sampling_options(own.num_samples),
        stops=stopping.stop_options(),
        num_samples=own.num_samples,
        logprobs=own.logprobs,
        heal=own.heal,
        truncate=own.truncate,
    )


class _Run:
    """Follows a session's events to the end: answers to the view, failures and stats to stderr."""

    def __init__(
        self,
        view: View,
        asked: Sequence[Asked],
        samples: int,
        report: TerminalReporter,
        *,
        stats: bool,
    ) -> None:
        self._view, self._asked, self._samples = view, asked, samples
        self._report, self._stats = report, stats
        self._failed = 0

    def follow(self, events: Generator[Event, None, None]) -> int:
        """Show all events; how many inputs failed.

        Raises:
            BigcodeError: the only input failed.
            KeyboardInterrupt: after what was under way has been shown.
        """
        follow(events, InOrder(len(self._asked), self._samples), self._show)
        return self._failed

    def _show(self, event: Event) -> None:
        if isinstance(event, Failure):
            self._fail(event)
            return
        self._view.show(event)
        if self._stats and isinstance(event, Completion):
            self._view.pause()
            label = output_label(self._asked[event.request], event, self._samples)
            for line in stats_lines(label, event, event.completion_tokens, event.finish_reason):
                self._report.line(line)

    def _fail(self, failure: Failure) -> None:
        self._view.pause()
        tell_failure(failure, self._asked[failure.request].place)
        self._failed += 1
