"""Work beside the screen: what is told, what is stopped, and what waits for what."""

import threading
from collections.abc import Callable, Sequence
from queue import Queue

import pytest

from bigcode_cli.cli.repl_task import Progress, StoppableBackend, Task
from bigcode_cli.engine.protocol import Passage, Prompt, Sampler
from bigcode_cli.engine.session import Session
from bigcode_cli.records import SamplingOptions

DEADLINE_S = 60
IDS = tuple(range(40, 60))


class Screen:
    """What the screen's thread hears."""

    def __init__(self) -> None:
        self.calls: Queue[Callable[[], None]] = Queue()
        self.ends: list[Exception | None] = []

    def task(self, work: Callable[[Task], None], after: Task | None = None) -> Task:
        return Task(work, self.ends.append, self.calls.put, after)

    def hear(self) -> None:
        """Whatever was told so far."""
        while not self.calls.empty():
            self.calls.get()()


@pytest.fixture
def screen() -> Screen:
    return Screen()


def until_stopped(task: Task) -> None:
    while True:
        task.check()


def test_what_is_told_is_heard_on_the_screens_thread_in_order(screen: Screen) -> None:
    heard: list[tuple[int, bool]] = []

    def work(task: Task) -> None:
        for number in range(3):
            task.tell(
                lambda number=number: heard.append(  # type: ignore[misc]
                    (number, threading.current_thread() is threading.main_thread())
                )
            )

    screen.task(work).wait()
    assert heard == []
    screen.hear()
    assert heard == [(0, True), (1, True), (2, True)]
    assert screen.ends == [None]


def test_stopped_task_ends_and_says_so(screen: Screen) -> None:
    task = screen.task(until_stopped)
    assert not task.stopped
    task.stop()
    task.wait()
    screen.hear()
    assert screen.ends == [None]


def test_abandoned_task_is_not_heard_of_even_what_it_told_before(screen: Screen) -> None:
    heard: list[int] = []
    begun = threading.Event()

    def work(task: Task) -> None:
        task.tell(lambda: heard.append(1))
        begun.set()
        until_stopped(task)

    task = screen.task(work)
    assert begun.wait(DEADLINE_S)
    task.abandon()
    task.wait()
    screen.hear()
    assert (heard, screen.ends) == ([], [])


def test_error_is_handed_over(screen: Screen) -> None:
    error = ZeroDivisionError()

    def work(_: Task) -> None:
        raise error

    screen.task(work).wait()
    screen.hear()
    assert screen.ends == [error]


def test_task_begins_when_the_one_before_it_has_ended(screen: Screen) -> None:
    running: list[str] = []

    def first(task: Task) -> None:
        running.append("first")
        try:
            until_stopped(task)
        finally:
            running.append("first ended")

    one = screen.task(first)
    two = screen.task(lambda _: running.append("second"), after=one)
    three = screen.task(lambda _: running.append("third"), after=two)
    two.stop()  # before it began, so that it never does
    one.stop()
    three.wait()
    assert running == ["first", "first ended", "third"]


class TestStoppable:
    def backend(self, session: Session, left: list[int]) -> StoppableBackend:
        def check() -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

        return StoppableBackend(session.backend, check)

    def prompts(self, count: int = 1) -> Sequence[Prompt]:
        sampler = Sampler(options=SamplingOptions(), seed=0)
        return [Prompt(ids=IDS, samplers=(sampler,) * count, max_new_tokens=8)]

    def test_it_is_the_backend_until_it_is_stopped(self, session: Session) -> None:
        backend = self.backend(session, [1000])
        assert backend.info == session.info
        rows, expected = backend.prefill(self.prompts(2)), session.backend.prefill(self.prompts(2))
        assert (len(rows), rows.step()) == (len(expected), expected.step())
        rows.keep([1])
        expected.keep([1])
        assert (len(rows), rows.step()) == (1, expected.step())
        assert rows.verify([[1, 2]]) == expected.verify([[1, 2]])
        for one in (rows, expected):
            one.replace([1], [[4, 5]])
        assert rows.step() == expected.step()
        others = [one.prefill(self.prompts(2)) for one in (backend, session.backend)]
        assert others[0].step() == others[1].step()
        rows.join(others[0])
        expected.join(others[1])
        assert (len(rows), rows.step()) == (3, expected.step())
        passages = [Passage(tuple(IDS), 1)]
        assert backend.score(passages, detail=True) == session.backend.score(passages, detail=True)
        tails = [[1, 2], [3, 4]]
        assert backend.score_tails(IDS, tails, 1) == session.backend.score_tails(IDS, tails, 1)
        backend.forget()
        assert session.backend.prefill(self.prompts()).reused == 0

    def test_it_stops_between_two_steps(self, session: Session) -> None:
        rows = self.backend(session, [3]).prefill(self.prompts())
        rows.step()
        rows.verify([[1]])
        with pytest.raises(KeyboardInterrupt):
            rows.step()
        with pytest.raises(KeyboardInterrupt):
            rows.verify([[1]])

    def test_it_stops_between_two_chunks_of_a_prompt(self, session: Session) -> None:
        chunks = self.backend(session, [0]).prefilling(self.prompts())
        assert next(chunks) == (len(IDS), len(IDS))
        with pytest.raises(KeyboardInterrupt):
            next(chunks)


def test_progress_is_told_and_ends_work_that_is_to_stop(screen: Screen) -> None:
    heard: list[str] = []

    def work(task: Task) -> None:
        progress = Progress(task, heard.append)
        progress.note("a note")
        progress.progress("loading", 0, None, "")
        progress.progress("loading", 50, 200, "B")
        task.stop()
        progress.progress("loading", 100, 200, "B")

    screen.task(work).wait()
    screen.hear()
    assert heard == ["a note", "loading", "loading 25 %"]
    assert screen.ends == [None]
