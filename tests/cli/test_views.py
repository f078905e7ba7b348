import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.cli.answers import Asked
from bigcode_cli.cli.drafts import Draft
from bigcode_cli.cli.fillings import Filling
from bigcode_cli.cli.output import PipeAnswer
from bigcode_cli.cli.render import TerminalReporter
from bigcode_cli.cli.views import InPlace, LineEnds, MiddleView, WholeView
from bigcode_cli.records import Infilled
from bigcode_cli.text.holes import Hole, Template
from tests.cli.infilling import infilled

PIECES = st.lists(st.text(alphabet=st.sampled_from("\r\r\n\nab"), max_size=4), max_size=8)


def broken_off(text: str) -> Infilled:
    """A hole that a Ctrl-C left half filled."""
    done = infilled(text)
    return replace(done, candidates=(replace(done.candidates[0], finish_reason="interrupted"),))


def draft(*parts: str, path: Path | None = None) -> Draft:
    data = "".join(parts).encode()
    return Draft(
        asked=Asked(), template=Template(parts), name="x", encoding="utf-8", path=path, data=data
    )


@given(PIECES, st.sampled_from(["a\r\n", "a\n", ""]))
def test_line_ends_of_a_stream_are_those_of_the_whole(pieces: list[str], before: str) -> None:
    hole = Hole(before, "")
    ends = LineEnds(hole)
    shown = "".join([*map(ends.push, pieces), ends.flush()])
    assert shown == hole.middle("".join(pieces))


@given(PIECES, st.booleans())
def test_middle_is_shown_once_whether_it_grew_or_not(pieces: list[str], grew: bool) -> None:
    stream = io.BytesIO()
    filling = Filling(draft("a\r\n", "b"))
    view = MiddleView(PipeAnswer(stream, "utf-8"), TerminalReporter(quiet=True), [filling])
    for piece in pieces if grew else ():
        view.grow(filling, piece)
    filling.done.append(infilled("".join(pieces)))
    view.fill(filling)
    view.end(filling)
    assert stream.getvalue().decode() == Hole("a\r\n", "b").middle("".join(pieces))


@pytest.mark.parametrize("what", ["file", "diff", "in place"])
def test_of_a_run_that_was_broken_off_nothing_is_shown_or_written(what: str) -> None:
    file = Path("x")
    file.write_text("ab")
    stream = io.BytesIO()
    report = TerminalReporter(quiet=True)
    for done in ([broken_off("?")], [infilled("?"), broken_off("?")], [infilled("?")]):
        filling = Filling(draft("a", "b", "", path=file), done)
        whole = WholeView(
            PipeAnswer(stream, "utf-8"), report, [filling], "diff" if what == "diff" else "file"
        )
        view = InPlace(None, report, "utf-8") if what == "in place" else whole
        view.end(filling)
    assert stream.getvalue() == b""
    assert file.read_text() == "ab"
