"""A session fills tasks, in the ways that are to be compared: what comes of each, and how fast.

How good the middles are is measured in batches, which changes no middle of a greedy run in exact
arithmetic; how long one takes is measured one at a time, on some of the tasks, as a user waits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from bigcode_cli.bench.infill_tasks import InfillTask, spaced
from bigcode_cli.bench.similarity import edit_similarity
from bigcode_cli.engine.infill import ORDER
from bigcode_cli.engine.session import Session
from bigcode_cli.records import (
    Failure,
    Infilled,
    InfillOrder,
    InfillRequest,
    Reporter,
)

BASE = "base"
TIMED_TASKS = 20
"""Of each group, filled one at a time."""

CANDIDATES = 4


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to fill holes.

    Attributes:
        request: what is asked for each task, which its texts are put into.
    """

    name: str
    request: InfillRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one task.

    Attributes:
        middle: the best candidate; empty where the task failed.
        exact: see ``exact_match``.
        error: why there is no middle.
        verdict: how the filled program ended, where it was run.
    """

    task: str
    group: str
    middle: str = ""
    exact: bool = False
    similarity: float = 0.0
    finish_reason: str = "failed"
    tokens: int = 0
    order: str | None = None
    span: str | None = None
    prompt_tokens: int = 0
    dropped_tokens: int = 0
    error: str | None = None
    verdict: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the filled program was run to its end."""
        return self.verdict == "pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long one task took by itself.

    Attributes:
        first_token_s: ``None`` where no token came.
    """

    task: str
    group: str
    first_token_s: float | None
    whole_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of all tasks in one way.

    Attributes:
        outcomes: in the order of the tasks.
        seconds: that all of them took, in batches.
    """

    variant: Variant
    outcomes: tuple[Outcome, ...]
    latencies: tuple[Latency, ...]
    seconds: float


def exact_match(middle: str, right: str) -> bool:
    """Equal but for a last newline, as HumanEval-Infilling's tasks end in one."""
    return middle.removesuffix("\n") == right.removesuffix("\n")


def ablation(base: InfillRequest, *, temperature: float) -> list[Variant]:
    """The base and, each by itself, the ways without (or with) what it does (or does not).

    Args:
        temperature: of the candidates beside the first, which is greedy.
    """
    other: InfillOrder = "psm" if (base.order or ORDER) == "spm" else "spm"
    warm = replace(base.sampling, temperature=temperature)
    several = replace(base, candidates=CANDIDATES, sampling=warm)
    changed = {
        "span eos": replace(base, span="eos"),
        "no overlap cut": replace(base, cut_overlap=False),
        f"{CANDIDATES} candidates": several,
        f"order {other}": replace(base, order=other),
    }
    return [
        Variant(BASE, base),
        *(Variant(name, request) for name, request in changed.items() if request != base),
    ]


def measure(
    session: Session, tasks: Sequence[InfillTask], variant: Variant, report: Reporter
) -> Measured:
    """Fill all tasks in batches, then some of each group one at a time."""
    began = perf_counter()
    outcomes = fill(session, tasks, variant, report)
    seconds = perf_counter() - began
    return Measured(
        variant=variant,
        outcomes=tuple(outcomes),
        latencies=tuple(_time(session, tasks, variant, report)),
        seconds=seconds,
    )


def fill(
    session: Session, tasks: Sequence[InfillTask], variant: Variant, report: Reporter
) -> list[Outcome]:
    """What comes of each task.

    Raises:
        BigcodeError: why none could be filled.
    """
    # Prompts of about one length are read side by side; the longest come first, as what does not
    # fit into memory should fail at once.
    order = sorted(
        range(len(tasks)),
        key=lambda place: -len(tasks[place].prefix) - len(tasks[place].suffix),
    )
    requests = [request_for(tasks[place], variant.request) for place in order]
    outcomes: dict[int, Outcome] = {}
    failures: list[Failure] = []
    label = f"filling: {variant.name}"
    report.progress(label, 0, len(tasks), "tasks")
    for event in session.infill(requests):
        if isinstance(event, Infilled | Failure):
            place = order[event.request]
            outcomes[place] = _outcome(tasks[place], event)
            failures += [event] if isinstance(event, Failure) else []
            report.progress(label, len(outcomes), len(tasks), "tasks")
    if len(failures) == len(tasks):
        raise failures[0].error
    return [outcomes[place] for place in range(len(tasks))]


def request_for(task: InfillTask, template: InfillRequest) -> InfillRequest:
    """What is asked of the session for a task."""
    return replace(template, prefix=task.prefix, suffix=task.suffix, id=task.id, path=task.path)


def _outcome(task: InfillTask, event: Infilled | Failure) -> Outcome:
    if isinstance(event, Failure):
        return Outcome(task=task.id, group=task.group, error=event.error.message)
    best = event.candidates[0]
    return Outcome(
        task=task.id,
        group=task.group,
        middle=best.text,
        exact=exact_match(best.text, task.middle),
        similarity=edit_similarity(best.text.removesuffix("\n"), task.middle.removesuffix("\n")),
        finish_reason=best.finish_reason,
        tokens=sum(candidate.completion_tokens for candidate in event.candidates),
        order=event.order,
        span=event.span,
        prompt_tokens=event.prompt_tokens,
        dropped_tokens=event.prefix_dropped + event.suffix_dropped,
    )


def execute(
    measured: Sequence[Measured], tasks: Sequence[InfillTask], report: Reporter
) -> list[Measured]:
    """Run every filled program with its test, each distinct one once, and add how it ended.

    Raises:
        UsageError: the machine cannot be protected from them.
    """
    from bigcode_cli.bench.sandbox import run_programs

    filled = [
        [_program(task, outcome) for task, outcome in zip(tasks, one.outcomes, strict=True)]
        for one in measured
    ]
    programs = list(dict.fromkeys(one for some in filled for one in some if one is not None))
    ended = run_programs(
        programs, told=lambda done: report.progress("running", done, len(programs), "programs")
    )
    verdicts = dict(zip(programs, ended, strict=True))

    def told(task: InfillTask, outcome: Outcome, program: str | None) -> Outcome:
        if task.test is None:
            return outcome
        return replace(outcome, verdict="fail" if program is None else verdicts[program])

    return [
        replace(one, outcomes=tuple(map(told, tasks, one.outcomes, some)))
        for one, some in zip(measured, filled, strict=True)
    ]


def _program(task: InfillTask, outcome: Outcome) -> str | None:
    return task.program(outcome.middle) if outcome.error is None else None


def _time(
    session: Session, tasks: Sequence[InfillTask], variant: Variant, report: Reporter
) -> list[Latency]:
    groups = dict.fromkeys(task.group for task in tasks)
    some = [
        task
        for group in groups
        for task in spaced([task for task in tasks if task.group == group], TIMED_TASKS)
    ]
    label = f"timing: {variant.name}"
    _time_one(session, some[0], variant)  # a first time costs more
    taken = []
    for done, task in enumerate(some, start=1):
        taken.append(_time_one(session, task, variant))
        report.progress(label, done, len(some), "tasks")
    return [latency for latency in taken if latency is not None]


def _time_one(session: Session, task: InfillTask, variant: Variant) -> Latency | None:
    """How long a task takes whose prompt is all new; ``None`` where it fails."""
    session.backend.forget()
    began = perf_counter()
    for event in session.infill([request_for(task, variant.request)]):
        if isinstance(event, Infilled):
            return Latency(
                task=task.id,
                group=task.group,
                first_token_s=event.timing.first_token_s,
                whole_s=perf_counter() - began,
            )
    return None
