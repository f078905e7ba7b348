"""Continuous batching: requests join the rows under way when there is room, and leave on their own.

A batch that is decoded as one lasts as long as its longest row. Here who waits is let in between
two passes, as soon as rows are free (Yu et al. 2022, Orca: iteration-level scheduling): its prompt
is read, in chunks between which those under way are stepped, and its rows join them.
"""

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import replace
from time import perf_counter
from typing import Generic

from bigcode_cli.engine.decode import Batch
from bigcode_cli.engine.jobs import AnswerT, Clock, Due, Job
from bigcode_cli.engine.output import Output
from bigcode_cli.engine.protocol import Backend, Rows
from bigcode_cli.engine.speculate import Speculation, Stepping
from bigcode_cli.errors import ModelTooLargeError
from bigcode_cli.records import Chunk, Failure, Reporter

FEWEST = 16
"""Part of the rows, this one in so many, that is free before more are let in: a pass over prompts
costs a GPU as much as several steps, for one prompt nearly as much as for a few."""

MAX_AHEAD = 64
"""Times as many requests as there are rows, by which one may be ahead of the oldest under way:
whoever prints answers in order has to keep those in between."""


class Reading(Generic[AnswerT]):
    """Prompts that are read side by side.

    Attributes:
        jobs: theirs.
        seconds: spent on them so far.
        rows: what came of it; ``None`` before the end.
    """

    def __init__(self, backend: Backend, jobs: list[Job[AnswerT]], report: Reporter) -> None:
        self.jobs = jobs
        self.seconds = 0.0
        self.rows: Rows | None = None
        self._report = report
        self._chunks = backend.prefilling([job.prompt for job in jobs])
        self._done = 0

    @property
    def tokens(self) -> int:
        """Of all prompts."""
        return sum(len(job.prompt.ids) for job in self.jobs)

    def advance(self) -> int:
        """Run another chunk through the model; how many tokens that were, padding counted in.

        Raises:
            UsageError, ModelTooLargeError: see ``Backend.prefill``.
        """
        began, before = perf_counter(), self._done
        try:
            self._done, total = next(self._chunks)
            self._report.progress("prompt", self._done, total, "tokens")
            if self._done == total:
                next(self._chunks)
        except StopIteration as end:
            self.rows = end.value
        self.seconds += perf_counter() - began
        return (self._done - before) * len(self.jobs)


class Scheduler(Generic[AnswerT]):
    """Serves jobs, several side by side.

    Args:
        jobs: taken as they are needed, those that failed before they began among them.
        clock: what all outputs are timed by.
        speculation: guesses tokens ahead.
    """

    def __init__(
        self,
        backend: Backend,
        jobs: Iterator[Job[AnswerT] | Failure],
        clock: Clock,
        report: Reporter,
        speculation: Speculation | None = None,
    ) -> None:
        self._backend, self._jobs, self._clock = backend, jobs, clock
        self._report, self._speculation = report, speculation
        self._max_rows = backend.info.max_rows
        # From left to right: taken, let in, read, read but without memory to join, under way.
        self._taken: deque[Job[AnswerT]] = deque()
        self._is_last = False
        self._let_in: list[Job[AnswerT]] = []
        self._reading: Reading[AnswerT] | None = None
        self._ready: Batch | None = None
        self._running: Batch | None = None
        self._is_full = False
        self._together = self._max_rows
        # Of all that were let in and are not answered.
        self._due: dict[Output, Due[AnswerT]] = {}
        self._clocks: dict[Due[AnswerT], Clock] = {}

    def run(self) -> Generator[Chunk | AnswerT | Failure]:
        """Tell each output's growth, each answer, and each failure.

        Raises:
            KeyboardInterrupt: after the answers still due, of all that were let in, were yielded
                with what is there.
        """
        try:
            while True:
                yield from self._admit()
                if self._running is not None:
                    yield from self._step()
                yield from self._read()
                if not self._due and self._is_last and not self._taken:
                    return
        except KeyboardInterrupt:
            yield from self._break_off()
            raise

    def _admit(self) -> Generator[Failure]:
        """Let in who waits, if enough rows are free."""
        free = self._max_rows - self._rows
        if self._is_full or free < max(1, self._max_rows // FEWEST):
            return
        while not self._is_last and sum(job.rows for job in self._taken) < free:
            job = next(self._jobs, None)
            if job is None:
                self._is_last = True
            elif isinstance(job, Failure):
                yield job
            else:
                self._taken.append(job)
        while self._taken and self._fits(self._taken[0]):
            job = self._taken.popleft()
            self._let_in.append(job)
            for one in job.due:
                self._clocks[one] = self._clock
                self._due |= dict.fromkeys(one.outputs, one)

    def _fits(self, job: Job[AnswerT]) -> bool:
        """Whether to let it in: also with more rows than are free, as long as half of all are.

        Else many samples of one prompt would wait until nothing is under way.
        """
        oldest = next(iter(self._due), None)
        if oldest is not None and job.request - oldest.request > MAX_AHEAD * self._max_rows:
            return False
        free = self._max_rows - self._rows
        return job.rows <= free or 2 * free >= self._max_rows

    @property
    def _rows(self) -> int:
        """Of all that were let in, those that still grow."""
        jobs: list[Job[AnswerT]] = [
            *self._let_in,
            *(self._reading.jobs if self._reading is not None else ()),
        ]
        batches = [batch for batch in (self._ready, self._running) if batch is not None]
        return sum(job.rows for job in jobs) + sum(len(batch) for batch in batches)

    def _step(self) -> Generator[Chunk | AnswerT]:
        """One pass of those under way."""
        assert self._running is not None
        waits = bool(self._let_in or self._reading or self._ready)
        yield from self._follow(self._running, ahead=not waits)
        if not len(self._running):
            self._running = None

    def _follow(self, batch: Batch, *, ahead: bool) -> Generator[Chunk | AnswerT]:
        """One pass, and what comes of it."""
        before = len(batch)
        for output in batch.step(ahead=ahead):
            one = self._due[output]
            if one.streams and (text := output.take()):
                yield Chunk(output.request, output.sample, text)
            if all(other.finish_reason is not None for other in one.outputs):
                answer = one.answer(self._clocks[one], interrupted=False)
                self._forget(one)
                yield answer
        self._is_full = self._is_full and len(batch) == before

    def _read(self) -> Generator[Chunk | AnswerT | Failure]:
        """Read prompts, as much of them as those under way should wait for.

        That is what fills a pass, and more where more wait than are under way.
        """
        read = 0
        while read < self._patience():
            self._join()
            if self._is_full or not (self._reading or self._let_in):
                return
            try:
                read += self._advance()
            except ModelTooLargeError as error:
                yield from self._give_way(error)
            if self._reading is not None and self._reading.rows is not None:
                yield from self._begin(self._reading, self._reading.rows)
        self._join()

    def _patience(self) -> float:
        running = 0 if self._running is None else len(self._running)
        if not running:
            return float("inf")
        waiting = self._rows - running
        return self._backend.info.prefill_tokens * max(1.0, waiting / running)

    def _advance(self) -> int:
        """Go on with a chunk, of the next prompts if none are being read."""
        if self._reading is None:
            self._reading = Reading(self._backend, self._next_group(), self._report)
        if self._running is not None:
            self._running.pause()
        return self._reading.advance()

    def _next_group(self) -> list[Job[AnswerT]]:
        """Prompts to read side by side: about as long as each other, and no more than fill a pass.

        The shortest come first.
        """
        waiting = sorted(self._let_in, key=lambda job: len(job.prompt.ids))
        shortest, count = len(waiting[0].prompt.ids), 1
        for job in waiting[1 : self._together]:
            longest = len(job.prompt.ids)
            if longest > 2 * shortest or (count + 1) * longest > self._backend.info.prefill_tokens:
                break
            count += 1
        group = waiting[:count]
        self._let_in = [job for job in self._let_in if job not in group]
        return group

    def _begin(self, reading: Reading[AnswerT], rows: Rows) -> Generator[Chunk | AnswerT]:
        """Prompts were read: their first tokens are known, and their rows may join."""
        tokens, seconds = reading.tokens - rows.reused, max(reading.seconds, 1e-9)
        clock = replace(
            self._clock, prefill_tokens_per_s=tokens / seconds, reused_tokens=rows.reused
        )
        self._clocks |= {one: clock for job in reading.jobs for one in job.due}
        stepping = (
            Stepping(rows)
            if self._speculation is None
            else self._speculation.begin(
                [job.prompt for job in reading.jobs],
                rows,
                tokens,
                seconds,
                joins=self._running is not None,
            )
        )
        batch = Batch(stepping, [output for job in reading.jobs for output in job.outputs])
        self._reading = None
        yield from self._follow(batch, ahead=False)
        self._ready = batch if len(batch) else None

    def _join(self) -> None:
        """Have rows whose prompts were read go on with those under way, if there is memory."""
        if self._ready is None:
            return
        if self._running is None:
            self._running, self._is_full = self._ready, False
        else:
            try:
                self._running.join(self._ready)
            except ModelTooLargeError:
                self._is_full = True
                return
        self._ready = None

    def _give_way(self, error: ModelTooLargeError) -> Generator[Failure]:
        """There is no memory for prompts: they wait for others to end, or are read one by one."""
        assert self._reading is not None
        jobs, self._reading = self._reading.jobs, None
        if self._running is not None:
            self._is_full = True
        elif len(jobs) == 1:
            for one in jobs[0].due:
                self._forget(one)
            yield Failure(jobs[0].request, jobs[0].id, error)
            return
        else:
            self._together = max(len(jobs) // 2, 1)
        self._let_in = [*jobs, *self._let_in]

    def _forget(self, one: Due[AnswerT]) -> None:
        for output in one.outputs:
            del self._due[output]
        del self._clocks[one]

    def _break_off(self) -> Generator[Chunk | AnswerT]:
        """End all that were let in as interrupted, with what is there."""
        for one, clock in self._clocks.items():
            for output in one.outputs:
                if output.finish_reason is None:
                    output.end("interrupted")
                if one.streams and (text := output.take()):
                    yield Chunk(output.request, output.sample, text)
            yield one.answer(clock, interrupted=True)
