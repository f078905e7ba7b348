"""The command line of the REPL, and what its toolbar tells at any width."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.formatted_text.utils import fragment_list_to_text
from prompt_toolkit.utils import get_cwidth

from bigcode_cli.cli.repl_screen import toolbar_text
from bigcode_cli.engine.session import Session
from tests.cli.desks import Seat, seat
from tests.cli.running import Program


@pytest.mark.parametrize("stdin", [b"x = 1\n", None])
def test_without_a_terminal_it_is_a_usage_error(program: Program, stdin: bytes | None) -> None:
    result = program("repl", stdin=stdin, stdout_terminal=stdin is not None)
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr == (
        "error: the repl needs a terminal to type at and to draw on\n"
        "hint: bigcode generate and bigcode infill work in pipes\n"
    )


def test_terminal_that_cannot_draw_is_a_usage_error(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    result = program("repl", stdin=None, stdout_terminal=True)
    assert (result.code, result.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["-t", "-1"], 2),
        (["-n", "0"], 2),
        (["--stop", ""], 2),
        (["--encoding", "nonsense"], 2),
        (["-m", "./nowhere"], 3),
    ],
)
def test_what_makes_no_sense_fails_before_anything_is_drawn(
    program: Program, args: list[str], code: int
) -> None:
    result = program("repl", *args, stdin=None, stdout_terminal=True)
    assert (result.code, result.stdout) == (code, b"")
    assert result.stderr.startswith("error: ")


class TestToolbar:
    @pytest.fixture
    def at(self, session: Session, model_folder: Path) -> Iterator[Seat]:
        with seat(session, model_folder) as one:
            yield one

    def text(self, at: Seat, width: int) -> str:
        return fragment_list_to_text(toolbar_text(at.desk, width))

    def test_it_tells_the_model_and_what_the_keys_do_now(self, at: Seat) -> None:
        name = at.desk.model.name
        assert self.text(at, 80).startswith(f" {name} · cpu · float32 ")
        assert "/ command" in self.text(at, 80)
        at.write("x")
        assert "Ctrl-O command" in self.text(at, 80)
        at.desk.ghost = "y"
        assert "Tab accept  Escape dismiss" in self.text(at, 80)
        at.desk.doing = "completing"
        assert "Ctrl-C stop" in self.text(at, 80)
        assert self.text(at, 80).startswith(f" {name} · completing…")
        at.desk.open_command(typed=False)
        assert "Enter run" in self.text(at, 80)
        at.desk.show([("a", "b")])
        assert "back to the code" in self.text(at, 80)

    @pytest.mark.parametrize("doing", ["", "completing", "loading 日本語/x\x1b[2J 25 %"])
    def test_it_fits_any_width_and_keeps_its_first_key(self, at: Seat, doing: str) -> None:
        at.desk.doing = doing
        for width in range(1, 100):
            text = self.text(at, width)
            assert "\x1b" not in text
            assert ("Ctrl-C stop" if doing else "Tab complete") in text
            assert get_cwidth(text) <= max(width, 15)
