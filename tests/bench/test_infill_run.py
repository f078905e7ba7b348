"""Tasks filled by a session: what is counted, compared, timed and run."""

from collections.abc import Generator, Sequence
from dataclasses import replace

import pytest

from bigcode_cli.bench.infill_run import (
    BASE,
    CANDIDATES,
    TIMED_TASKS,
    Measured,
    Outcome,
    Variant,
    ablation,
    exact_match,
    execute,
    fill,
    measure,
)
from bigcode_cli.bench.infill_tasks import InfillTask
from bigcode_cli.bench.similarity import edit_similarity
from bigcode_cli.engine.infill import ORDER
from bigcode_cli.engine.session import Session
from bigcode_cli.errors import InputError
from bigcode_cli.records import (
    Chunk,
    Failure,
    Infilled,
    InfillOrder,
    InfillRequest,
    Reporter,
    SamplingOptions,
    Silence,
)
from tests.bench.test_sandbox import refusal
from tests.sessions import random_session

TEMPLATE = InfillRequest(prefix="", suffix="", max_new_tokens=12)
TASKS = [
    InfillTask(
        prefix="value = 1\n" * n,
        suffix="\n" + "other = 2\n" * (n % 5),
        middle=f"x = {n}",
        id=f"task {n}",
        group="even" if n % 2 == 0 else "odd",
        path="a.py",
    )
    for n in range(1, 28)
]


@pytest.fixture(scope="module")
def session() -> Session:
    return random_session(n_positions=256)


class Progress(Silence):
    def __init__(self) -> None:
        self.told: list[tuple[str, int, int | None, str]] = []

    def progress(self, label: str, done: int, total: int | None, unit: str) -> None:
        self.told.append((label, done, total, unit))


def alone(session: Session, task: InfillTask, template: InfillRequest = TEMPLATE) -> Infilled:
    request = replace(template, prefix=task.prefix, suffix=task.suffix, path=task.path)
    (done,) = [event for event in session.infill([request]) if isinstance(event, Infilled)]
    return done


def test_each_task_gets_what_the_session_makes_of_it_alone(session: Session) -> None:
    outcomes = fill(session, TASKS, Variant(BASE, TEMPLATE), Silence())
    assert [outcome.task for outcome in outcomes] == [task.id for task in TASKS]
    for task, outcome in zip(TASKS[::5], outcomes[::5], strict=True):
        done = alone(session, task)
        best = done.candidates[0]
        assert outcome.middle == best.text
        assert (outcome.finish_reason, outcome.tokens) == (
            best.finish_reason,
            best.completion_tokens,
        )
        assert (outcome.order, outcome.span) == (done.order, done.span)
        assert outcome.prompt_tokens == done.prompt_tokens
        assert outcome.similarity == edit_similarity(best.text.removesuffix("\n"), task.middle)
        assert (outcome.group, outcome.error, outcome.verdict) == (task.group, None, None)


def test_a_right_middle_is_an_exact_match(session: Session) -> None:
    tasks = [replace(task, middle=alone(session, task).candidates[0].text) for task in TASKS[:4]]
    tasks[1] = replace(tasks[1], middle=tasks[1].middle + "\n")
    tasks[2] = replace(tasks[2], middle=tasks[2].middle + " ")
    outcomes = fill(session, tasks, Variant(BASE, TEMPLATE), Silence())
    assert [outcome.exact for outcome in outcomes] == [True, True, False, True]
    assert [outcome.similarity == 1 for outcome in outcomes] == [True, True, False, True]


def test_exact_match_ignores_the_last_newline_alone() -> None:
    right = "    return x\n"
    assert exact_match("    return x", right)
    assert exact_match("    return x\n", right)
    assert not exact_match("return x", right)
    assert not exact_match("    return x ", right)
    assert not exact_match("    return x\n\n", right)


def test_the_flags_of_the_variant_are_those_of_the_request(session: Session) -> None:
    template = replace(
        TEMPLATE,
        span="eos",
        cut_overlap=False,
        order="psm",
        candidates=3,
        sampling=SamplingOptions(temperature=1.0, seed=3),
    )
    (outcome,) = fill(session, TASKS[:1], Variant("all", template), Silence())
    done = alone(session, TASKS[0], template)
    assert outcome.middle == done.candidates[0].text
    assert (outcome.span, outcome.order) == ("eos", "psm")
    assert outcome.tokens == sum(candidate.completion_tokens for candidate in done.candidates)


def test_a_failed_task_counts_as_wrong_and_says_why(session: Session) -> None:
    broken = replace(TASKS[0], prefix="\ud800", id="broken")
    progress = Progress()
    outcomes = fill(session, [TASKS[1], broken, TASKS[2]], Variant(BASE, TEMPLATE), progress)
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    bad = outcomes[1]
    assert (bad.task, bad.exact, bad.similarity) == ("broken", False, 0.0)
    assert (bad.finish_reason, bad.middle) == ("failed", "")
    assert progress.told[-1] == ("filling: base", 3, 3, "tasks")


def test_where_all_fail_the_reason_is_raised(session: Session) -> None:
    broken = [replace(task, prefix="\ud800") for task in TASKS[:2]]
    with pytest.raises(InputError):
        fill(session, broken, Variant(BASE, TEMPLATE), Silence())


def test_each_way_but_the_base_changes_one_thing() -> None:
    variants = ablation(TEMPLATE, temperature=0.8)
    assert variants[0] == Variant(BASE, TEMPLATE)
    other: InfillOrder = "spm" if ORDER == "psm" else "psm"
    warm = SamplingOptions(temperature=0.8)
    assert {variant.name: variant.request for variant in variants[1:]} == {
        "span eos": replace(TEMPLATE, span="eos"),
        "no overlap cut": replace(TEMPLATE, cut_overlap=False),
        f"{CANDIDATES} candidates": replace(TEMPLATE, candidates=CANDIDATES, sampling=warm),
        f"order {other}": replace(TEMPLATE, order=other),
    }


def test_a_way_that_is_the_base_is_left_out() -> None:
    base = replace(TEMPLATE, order="psm", cut_overlap=False)
    names = [variant.name for variant in ablation(base, temperature=0.8)]
    assert names == [BASE, "span eos", f"{CANDIDATES} candidates", "order spm"]


def test_some_tasks_of_each_group_are_timed_alone(session: Session) -> None:
    tasks = [replace(TASKS[n % len(TASKS)], id=str(n)) for n in range(50)]
    tasks = [replace(task, group="many" if n < 45 else "few") for n, task in enumerate(tasks)]
    progress = Progress()
    short = Variant("short", replace(TEMPLATE, max_new_tokens=2))
    measured = measure(session, tasks, short, progress)
    assert len(measured.outcomes) == 50
    assert measured.seconds > 0
    groups = [latency.group for latency in measured.latencies]
    assert groups == ["many"] * TIMED_TASKS + ["few"] * 5
    for latency in measured.latencies:
        assert latency.first_token_s is not None
        assert 0 < latency.first_token_s <= latency.whole_s
    assert progress.told[-1] == ("timing: short", TIMED_TASKS + 5, TIMED_TASKS + 5, "tasks")


def test_no_prompt_of_the_timed_is_in_the_cache(session: Session) -> None:
    reused = []

    class Watching(Session):
        def infill(
            self, requests: Sequence[InfillRequest], *, report: Reporter | None = None
        ) -> Generator[Chunk | Infilled | Failure]:
            for event in super().infill(requests, report=report):
                if isinstance(event, Infilled):
                    reused.append(event.timing.reused_tokens)
                yield event

    watching = Watching("random", session.tokenizer, session.backend)
    measure(watching, [TASKS[9]] * 5, Variant(BASE, TEMPLATE), Silence())
    assert len(reused) == 5 + 1 + 5
    assert not any(reused[5:])
    assert alone(session, TASKS[9]).timing.reused_tokens > 0


def test_a_task_that_fails_is_not_timed(session: Session) -> None:
    tasks = [TASKS[1], replace(TASKS[0], prefix="\ud800"), TASKS[2]]
    measured = measure(session, tasks, Variant(BASE, TEMPLATE), Silence())
    assert [latency.task for latency in measured.latencies] == [TASKS[1].id, TASKS[2].id]


def outcome(task: InfillTask, middle: str, error: str | None = None) -> Outcome:
    return Outcome(task=task.id, group=task.group, middle=middle, error=error)


@pytest.mark.skipif(refusal() is not None, reason="needs namespaces")
def test_filled_programs_are_run_with_their_tests() -> None:
    task = InfillTask(
        id="double",
        prefix="def double(x):\n",
        middle="    y = 2 * x\n",
        suffix="    return y\n",
        entry_point="double",
        test="def check(candidate):\n    assert candidate(3) == 6\n",
    )
    untested = InfillTask(id="none", prefix="a", middle="b", suffix="c")
    tasks = [task, replace(task, id="again"), untested, replace(task, id="bad")]
    ways = [
        ["    y = 2 * x\n", "    y = x + x", "b", ""],
        ["    y = x ** 2", "    y = 2 * x", "b", ""],
        ["    y = [x] * 10 ** 9", "    y = 2 * x", "b", ""],
    ]
    measured = [
        Measured(
            variant=Variant(str(way), TEMPLATE),
            outcomes=tuple(
                outcome(one, middle, error="no" if one.id == "bad" else None)
                for one, middle in zip(tasks, middles, strict=True)
            ),
            latencies=(),
            seconds=0.0,
        )
        for way, middles in enumerate(ways)
    ]
    progress = Progress()
    done = execute(measured, tasks, progress)
    assert [[one.verdict for one in each.outcomes] for each in done] == [
        ["pass", "pass", None, "fail"],
        ["fail", "pass", None, "fail"],
        ["memory", "pass", None, "fail"],
    ]
    assert progress.told[-1] == ("running", 4, 4, "programs"), "equal programs are run once"
    assert [replace(one, verdict=None) for one in done[0].outcomes] == list(measured[0].outcomes)
