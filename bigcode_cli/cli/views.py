"""How fillings are shown: middles as they grow, whole texts, patches, JSON; or put in place."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

from bigcode_cli.cli.answers import Sections, to_json
from bigcode_cli.cli.edit import replace_content
from bigcode_cli.cli.fillings import Filling, filling_object
from bigcode_cli.cli.infill_flags import FillFlags, Print
from bigcode_cli.cli.output import Answer, open_answer, unencodable
from bigcode_cli.cli.params import OutputFlags
from bigcode_cli.cli.render import TerminalReporter
from bigcode_cli.errors import OutputError
from bigcode_cli.text.holes import Hole


class View(Protocol):
    """Shows fillings, one after the other."""

    def grow(self, filling: Filling, text: str) -> None:
        """A piece of the next middle has come."""

    def fill(self, filling: Filling) -> None:
        """The last middle has come whole."""

    def end(self, filling: Filling) -> None:
        """No middle comes any more: all have, or the run was broken off."""

    def pause(self) -> None:
        """Let others write to the terminal."""


@contextmanager
def open_view(
    fillings: Sequence[Filling],
    report: TerminalReporter,
    own: FillFlags,
    speech: OutputFlags,
    output: Path | None,
    encoding: str,
) -> Iterator[View]:
    """What shows the fillings, or puts them in place, or both."""
    if own.write and own.print is None and not speech.json:
        yield InPlace(None, report, encoding)
        return
    what = own.print or "middle"
    exact = encoding if what == "middle" else fillings[0].draft.encoding
    with open_answer(output, exact) as answer:
        view: View
        if speech.json:
            view = JsonView(answer, report, what)
        elif what == "middle":
            view = MiddleView(answer, report, fillings)
        else:
            view = WholeView(answer, report, fillings, what)
        yield InPlace(view, report, encoding) if own.write else view


class MiddleView:
    """The middles alone, as they grow, with the line ends of their places."""

    def __init__(
        self, answer: Answer, report: TerminalReporter, fillings: Sequence[Filling]
    ) -> None:
        several = len(fillings) > 1 or fillings[0].draft.template.count > 1
        self._answer = answer
        self._sections = Sections(answer, report, several=several)
        self._ends = LineEnds(fillings[0].hole(0))
        self._taken = 0

    def grow(self, filling: Filling, text: str) -> None:
        """Write it."""
        self._write(filling, len(filling.done), text)

    def fill(self, filling: Filling) -> None:
        """Write what is not yet written: all of it, if it was chosen of several."""
        number = len(filling.done) - 1
        self._write(filling, number, "")
        self._write(filling, number, filling.middles[number][self._taken :])
        self._answer.write(self._ends.flush())

    def end(self, filling: Filling) -> None:
        """Nothing is left."""

    def pause(self) -> None:
        """End the terminal's line."""
        self._answer.pause()

    def _write(self, filling: Filling, number: int, text: str) -> None:
        if self._sections.enter((id(filling), number), filling.hole_name(number)):
            self._ends = LineEnds(filling.hole(number))
            self._taken = 0
        self._taken += len(text)
        self._answer.write(self._ends.push(text))


class InPlace:
    """Fills files where they are.

    What is shown besides comes after, so that nothing that becomes of it can hinder the writing;
    where nothing is to be shown, the middles are, if they cannot be written.

    Args:
        shown: shows the fillings; ``None`` where nothing is to be shown.
        encoding: of stdout.

    Attributes:
        refused: why the file was left as it was, if it was.
    """

    def __init__(self, shown: View | None, report: TerminalReporter, encoding: str) -> None:
        self._shown, self._report, self._encoding = shown, report, encoding
        self.refused: OutputError | None = None

    def grow(self, filling: Filling, text: str) -> None:
        """Show it."""
        if self._shown is not None:
            self._shown.grow(filling, text)

    def fill(self, filling: Filling) -> None:
        """Show it."""
        if self._shown is not None:
            self._shown.fill(filling)

    def end(self, filling: Filling) -> None:
        """Write the file, if all its holes are filled, and show that."""
        if filling.complete:
            try:
                self._write(filling)
            except OutputError as error:
                self.refused = error
        else:
            self._report.note(f"broken off: {filling.draft.name} is as it was")
        if self._shown is not None:
            self._shown.end(filling)
        elif self.refused is not None:
            self._rescue(filling)

    def pause(self) -> None:
        """Let others write to the terminal."""
        if self._shown is not None:
            self._shown.pause()

    def _write(self, filling: Filling) -> None:
        draft = filling.draft
        assert draft.path is not None
        assert draft.data is not None
        try:
            new = filling.text.encode(draft.encoding)
        except UnicodeEncodeError as error:
            raise unencodable(error, draft.encoding) from error
        if new == draft.data:
            self._report.note(f"nothing belongs there: {draft.name} is as it was")
            return
        replace_content(draft.path, draft.data, new)
        self.pause()
        self._report.note(f"filled {draft.name} at {_places(filling)}")

    def _rescue(self, filling: Filling) -> None:
        """Show the middles that are nowhere else."""
        with open_answer(None, self._encoding) as answer:
            view = MiddleView(answer, self._report, [filling])
            for number in range(len(filling.done)):
                view.fill(Filling(filling.draft, filling.done[: number + 1]))


class LineEnds:
    """The line ends of a hole's place on a stream: the segments joined are ``Hole.middle``."""

    def __init__(self, hole: Hole) -> None:
        self._hole = hole
        self._held = ""

    def push(self, text: str) -> str:
        """The text to write; last carriage returns wait for what follows them."""
        text = self._held + text
        whole = text.rstrip("\r")
        self._held = text[len(whole) :]
        return self._hole.middle(whole)

    def flush(self) -> str:
        """What is left at the end."""
        held, self._held = self._held, ""
        return held


class WholeView:
    """Whole texts or patches, when all holes are filled; of a run that was broken off, nothing."""

    def __init__(
        self,
        answer: Answer,
        report: TerminalReporter,
        fillings: Sequence[Filling],
        what: Literal["file", "diff"],
    ) -> None:
        self._answer, self._report, self._what = answer, report, what
        self._sections = Sections(answer, report, several=len(fillings) > 1)

    def grow(self, filling: Filling, text: str) -> None:
        """A piece is no whole."""

    def fill(self, filling: Filling) -> None:
        """Nor is one middle of several."""

    def end(self, filling: Filling) -> None:
        """Write it."""
        if filling.complete:
            self._sections.enter(id(filling), filling.name)
            text = filling.diff if self._what == "diff" else filling.text
            if not text:
                self._report.note("nothing belongs there: the patch is empty")
            self._answer.write(text)

    def pause(self) -> None:
        """End the terminal's line."""
        self._answer.pause()


class JsonView:
    """One JSON object a line, of what there is."""

    def __init__(self, answer: Answer, report: TerminalReporter, what: Print) -> None:
        self._answer, self._report, self._what = answer, report, what

    def grow(self, filling: Filling, text: str) -> None:
        """It is part of the object."""

    def fill(self, filling: Filling) -> None:
        """So is this."""

    def end(self, filling: Filling) -> None:
        """Write it."""
        if self._answer.terminal:
            self._report.clear()
        content = filling_object(filling)
        if filling.complete and self._what == "file":
            content["file"] = filling.text
        if filling.complete and self._what == "diff":
            content["diff"] = filling.diff
        self._answer.write_json(to_json(content))

    def pause(self) -> None:
        """Nothing: lines of JSON are always ended."""


def _places(filling: Filling) -> str:
    """Where the holes were, and which middles their budget cut off."""
    ends = [done.candidates[0].finish_reason for done in filling.done]
    told = [
        f"{line} (ended by --max-new-tokens)" if end == "length" else str(line)
        for line, end in zip(filling.draft.lines, ends, strict=True)
    ]
    return f"line {told[0]}" if len(told) == 1 else f"lines {', '.join(told[:-1])} and {told[-1]}"
