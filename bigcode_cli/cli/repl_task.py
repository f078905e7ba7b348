"""Work on threads, told to the screen's thread, and stopped between two steps of the model."""

from collections.abc import Callable, Generator, Sequence
from threading import Event, Thread
from typing import Self

from bigcode_cli.engine.protocol import (
    Backend,
    BackendInfo,
    Passage,
    PassageScores,
    Pending,
    Prompt,
    Rows,
    Token,
    at_once,
)

Post = Callable[[Callable[[], None]], None]
"""Has something called on the screen's thread."""


class Task:
    """A piece of work on a thread of its own.

    What it tells is told on the screen's thread, and no more once it was abandoned.

    Args:
        work: calls ``check`` often.
        ended: told what went wrong, or ``None``: also where it was stopped.
        after: must have ended before this one begins.
    """

    def __init__(
        self,
        work: Callable[["Task"], None],
        ended: Callable[[Exception | None], None],
        post: Post,
        after: "Task | None",
    ) -> None:
        self._work, self._ended, self._post, self._after = work, ended, post, after
        self._stop, self._abandoned = Event(), False
        self._thread = Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Have it end soon; it still tells what it comes to until then."""
        self._stop.set()

    def abandon(self) -> None:
        """Have it end soon, and hear no more of it."""
        self._abandoned = True
        self._stop.set()

    def wait(self) -> None:
        """Until it has ended."""
        self._thread.join()

    def check(self) -> None:
        """Go on, or not.

        Raises:
            KeyboardInterrupt: it was told to stop; as a session understands it.
        """
        if self._stop.is_set():
            raise KeyboardInterrupt

    def tell(self, call: Callable[[], None]) -> None:
        """Have something called on the screen's thread."""
        self._post(lambda: None if self._abandoned else call())

    def _run(self) -> None:
        if self._after is not None:
            self._after.wait()
            self._after = None
        failure: Exception | None = None
        try:
            self.check()
            self._work(self)
        except KeyboardInterrupt:
            pass
        except Exception as error:
            failure = error
        self.tell(lambda: self._ended(failure))


class StoppableBackend:
    """A backend that asks before each step whether to go on.

    Args:
        check: raises ``KeyboardInterrupt`` where not.
    """

    def __init__(self, backend: Backend, check: Callable[[], None]) -> None:
        self._backend, self._check = backend, check

    @property
    def info(self) -> BackendInfo:
        """See ``Backend``."""
        return self._backend.info

    def prefill(self, prompts: Sequence[Prompt]) -> Rows:
        """See ``Backend``."""
        return at_once(self.prefilling(prompts))

    def prefilling(self, prompts: Sequence[Prompt]) -> Generator[tuple[int, int], None, Rows]:
        """See ``Backend``."""
        chunks = self._backend.prefilling(prompts)
        while True:
            try:
                done = next(chunks)
            except StopIteration as end:
                return StoppableRows(end.value, self._check)
            yield done
            self._check()

    def forget(self) -> None:
        """See ``Backend``."""
        self._backend.forget()

    def score(self, passages: Sequence[Passage], *, detail: bool = False) -> list[PassageScores]:
        """See ``Backend``."""
        return self._backend.score(passages, detail=detail)

    def begin_score(
        self, passages: Sequence[Passage], *, detail: bool = False
    ) -> Pending[list[PassageScores]]:
        """See ``Backend``."""
        return self._backend.begin_score(passages, detail=detail)

    def score_tails(
        self, ids: Sequence[int], tails: Sequence[Sequence[int]], count: int
    ) -> list[list[float]]:
        """See ``Backend``."""
        return self._backend.score_tails(ids, tails, count)


class StoppableRows:
    """Rows that ask before each step whether to go on; see ``Rows``."""

    def __init__(self, rows: Rows, check: Callable[[], None]) -> None:
        self._rows, self._check = rows, check
        self.reused = rows.reused

    def __len__(self) -> int:
        return len(self._rows)

    def step(self) -> list[Token]:
        """See ``Rows``."""
        self._check()
        return self._rows.step()

    def prepare(self, guesses: int) -> None:
        """See ``Rows``."""
        self._rows.prepare(guesses)

    def verify(self, guesses: Sequence[Sequence[int]]) -> list[list[Token]]:
        """See ``Rows``."""
        self._check()
        return self._rows.verify(guesses)

    def replace(self, dropped: Sequence[int], tokens: Sequence[Sequence[int]]) -> None:
        """See ``Rows``."""
        self._rows.replace(dropped, tokens)

    def keep(self, rows: Sequence[int]) -> None:
        """See ``Rows``."""
        self._rows.keep(rows)

    def join(self, other: Self) -> None:
        """See ``Rows``."""
        self._rows.join(other._rows)


class Progress:
    """A ``Reporter`` of a task, which ends the work that reports once the task is to stop."""

    def __init__(self, task: Task, told: Callable[[str], None]) -> None:
        self._task, self._told = task, told

    def note(self, text: str) -> None:
        """Tell it."""
        self._task.check()
        self._task.tell(lambda: self._told(text))

    def progress(self, label: str, done: int, total: int | None, unit: str) -> None:
        """Tell how far it is, in per cent where that is known."""
        self._task.check()
        share = f" {100 * done // total} %" if total and unit else ""
        self._task.tell(lambda: self._told(label + share))
