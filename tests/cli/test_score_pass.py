"""A text that fails when part of it is shown already."""

from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from bigcode_cli.cli.heatmap import HeatPage
from bigcode_cli.cli.output import open_answer
from bigcode_cli.cli.render import TerminalReporter
from bigcode_cli.cli.score_pass import Pass
from bigcode_cli.cli.score_text import Item
from bigcode_cli.cli.score_views import Both, Coloured, JsonView, LineRows, View
from bigcode_cli.cli.sources import Source
from bigcode_cli.cli.thresholds import Thresholds
from bigcode_cli.engine.session import Session
from bigcode_cli.errors import InputError
from bigcode_cli.records import ScoreOptions
from tests.cli.running import Stream

LINE = "value = function(value)\n"
COUNT = 8000


def broken() -> Iterator[str]:
    """A text that ends with an error, when a few batches of it are scored."""
    for _ in range(COUNT):
        yield LINE
    raise InputError("gone")


def run(session: Session, form: type[View], *texts: object) -> tuple[Pass, str, str]:
    """What came of it, stdout and stderr."""
    items = [
        Item(number, Source(path=f"{number}", place=f"{number}", size=1, read=read))  # type: ignore[arg-type]
        for number, read in enumerate(texts)
    ]
    out, err = Stream(), StringIO()
    with (
        redirect_stdout(out), redirect_stderr(err), TerminalReporter() as report,
        open_answer(None, "utf-8") as answer, HeatPage(Path("p.html"), "title") as page,
    ):  # fmt: skip
        view = LineRows(answer, report, "utf-8") if form is LineRows else JsonView(
            answer, report, "line"
        )  # fmt: skip
        both = Both(view, Coloured(page, None))
        one = Pass(items, both, Thresholds(None, None), several=len(items) > 1)
        one.run(session, ScoreOptions(context=64, tokens=True), report)
    return one, out.bytes.getvalue().decode(), err.getvalue()


def whole() -> Iterator[str]:
    yield LINE


def test_its_lines_stay_and_the_next_text_begins_anew(session: Session) -> None:
    one, out, err = run(session, LineRows, broken, whole)
    names = [line.split("\t")[2] for line in out.splitlines()]
    assert 100 < len(names) <= COUNT + 1
    assert names[-1] == "1:1"
    assert names[:-1] == [f"0:{number}" for number in range(1, len(names))]
    assert {item.number for item in one.failed} == {0}
    assert err.startswith("error: 0: gone\n")
    page = Path("p.html").read_text()
    assert "failed: the rest is missing" in page
    assert page.count("<section") == 2


def test_it_has_no_object(session: Session) -> None:
    _, out, _ = run(session, JsonView, broken, whole)
    first, total = out.splitlines()
    assert '"path": "1"' in first
    assert first.count('"line": ') == 1
    assert '"total": true' in total


def test_alone_it_is_the_error(session: Session) -> None:
    with pytest.raises(InputError, match="gone"):
        run(session, LineRows, broken)
    assert not Path("p.html").exists()
