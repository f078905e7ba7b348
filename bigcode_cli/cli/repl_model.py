"""The loaded model, its completions and what came of them: whoever types never waits for it."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bigcode_cli.cli.loading import open_session
from bigcode_cli.cli.params import ModelFlags
from bigcode_cli.cli.repl_task import Post, Progress, StoppableBackend, Task
from bigcode_cli.cli.repl_text import harmless, leaves_block, placed
from bigcode_cli.records import (
    Completion,
    Failure,
    GenerateRequest,
    Infilled,
    InfillRequest,
    SamplingOptions,
    StopOptions,
    Timing,
)

if TYPE_CHECKING:
    from bigcode_cli.engine.session import Session


@dataclass(frozen=True, slots=True)
class Question:
    """What the model is asked.

    Attributes:
        margin: blanks before the cursor that the model is not shown, as it writes them itself.
    """

    request: GenerateRequest | InfillRequest
    margin: str = ""

    def is_over(self, answer: str) -> bool:
        """Whether the model left the block that the cursor is in: nothing goes here then."""
        return leaves_block(_whole(answer), self.margin)

    def ghost(self, answer: str) -> str:
        """What goes at the cursor when the model's text is this; it may still grow."""
        text = _whole(answer)
        if self.margin:
            text = placed(text, self.margin)
        return text.rstrip() if isinstance(self.request, GenerateRequest) else text


def _whole(answer: str) -> str:
    """The harmless text without a carriage return that may yet be half a line end."""
    return harmless(answer.rstrip("\r"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How completions are drawn."""

    sampling: SamplingOptions
    max_new_tokens: int
    stop_texts: tuple[str, ...] = ()

    def question(self, before: str, after: str, name: str | None = None) -> Question:
        """What to ask at a cursor: for a middle where text follows, else for what comes next.

        Tokens join a line end, its indentation and the blank before a word; a prompt that ends in
        indentation cuts them where the model never saw them cut, and healing takes back one token
        alone. So what comes next is asked for at the line's beginning, and its indentation dropped
        again. For middles a session does the like.

        Args:
            name: of the file, which tells its language.

        Raises:
            UsageError: an option makes no sense.
        """
        if after.strip():
            middle = InfillRequest(
                prefix=before,
                suffix=after,
                path=name,
                max_new_tokens=self.max_new_tokens,
                sampling=self.sampling,
                stop_texts=self.stop_texts,
            )
            return Question(middle)
        line = before[before.rfind("\n") + 1 :]
        margin = "" if line.strip() else line
        prompt = before.removesuffix(margin)
        following = GenerateRequest(
            prompt=prompt,
            max_new_tokens=self.max_new_tokens,
            sampling=self.sampling,
            stops=StopOptions(texts=self.stop_texts, at="block"),
            heal=True,
            truncate=True,
        )
        return Question(following, margin)


@dataclass(slots=True)
class Stats:
    """What the model did since the program began; all figures in tokens but the first two."""

    completions: int = 0
    interrupted: int = 0
    prompt: int = 0
    reused: int = 0
    new: int = 0
    last: Timing | None = None

    def add(self, answer: Completion | Infilled) -> None:
        """Count one completion in."""
        done = answer if isinstance(answer, Completion) else answer.candidates[0]
        self.completions += 1
        self.interrupted += done.finish_reason == "interrupted"
        self.prompt += answer.prompt_tokens
        self.reused += answer.timing.reused_tokens
        self.new += done.completion_tokens
        self.last = answer.timing


class Model:
    """One session for all completions, so that each finds the last one's prefix cache.

    Args:
        flags: by which the session was opened.
        post: see ``Post``.

    Attributes:
        stats: of all sessions.
    """

    def __init__(self, session: "Session", flags: ModelFlags, post: Post) -> None:
        self.session, self.flags, self.stats = session, flags, Stats()
        self._post = post
        self._last: Task | None = None

    @property
    def name(self) -> str:
        """How the screen calls it; a folder by its last part."""
        name = self.flags.model
        return Path(name).resolve().name if Path(name).is_dir() else name

    def complete(
        self,
        request: GenerateRequest | InfillRequest,
        told: Callable[[str], None],
        ended: Callable[[Exception | None], None],
    ) -> Task:
        """Begin a completion.

        Args:
            told: called with each piece of its text.
            ended: see ``Task``.
        """
        session = self.session

        def work(task: Task) -> None:
            stoppable = copy(session)
            stoppable.backend = StoppableBackend(session.backend, task.check)
            events = (
                stoppable.infill([request])
                if isinstance(request, InfillRequest)
                else stoppable.generate([request])
            )
            for event in events:
                if isinstance(event, Failure):
                    raise event.error
                if isinstance(event, Completion | Infilled):
                    self.stats.add(event)
                else:
                    task.tell(lambda text=event.text: told(text))  # type: ignore[misc]

        return self._begin(work, ended)

    def load(
        self,
        name: str,
        told: Callable[[str], None],
        ended: Callable[[Exception | None], None],
    ) -> Task:
        """Begin to load another model; this one stays where that fails or is stopped.

        Args:
            told: called with what is being done, and how far it is.
            ended: see ``Task``.
        """
        flags = replace(self.flags, model=name, revision=None)

        def work(task: Task) -> None:
            session = open_session(flags, Progress(task, told))
            task.check()
            self.session, self.flags = session, flags

        return self._begin(work, ended)

    def close(self) -> None:
        """Stop what is under way, and wait for its end."""
        if self._last is not None:
            self._last.abandon()
            self._last.wait()

    def _begin(
        self, work: Callable[[Task], None], ended: Callable[[Exception | None], None]
    ) -> Task:
        self._last = Task(work, ended, self._post, self._last)
        return self._last
