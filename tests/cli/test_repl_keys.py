"""What keys make of the code."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bigcode_cli.engine.session import Session
from tests.cli.desks import Seat, seat

UP, DOWN, RIGHT, LEFT, HOME = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[H"
CTRL_HOME = "\x1b[1;5H"
BACKSPACE, SHIFT_TAB, ENTER, CTRL_O, CTRL_C, CTRL_D = "\x7f", "\x1b[Z", "\r", "\x0f", "\x03", "\x04"
UNDO = "\x1f"


@pytest.fixture
def at(session: Session, model_folder: Path) -> Iterator[Seat]:
    with seat(session, model_folder) as one:
        yield one


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ("def f():\rreturn 1\rx", "def f():\n    return 1\nx|"),
        ("if a:\rb\r\rc", "if a:\n    b\n\n    c|"),
        ("f(a, b)" + LEFT * 3 + ENTER, "f(a,\n|b)"),
        ("if a:\r" + BACKSPACE + "b", "if a:\nb|"),
        ("if a:\rb" + SHIFT_TAB, "if a:\nb|"),
        ("if a:\rb" + HOME + SHIFT_TAB, "if a:\n|b"),
        ("if a:\rb" + HOME + "\t", "if a:\n    |    b"),
        ("a\rb" + UP + "c" + UP + "d", "acd|\nb"),
        ("a\rb" + UP + DOWN + DOWN + "c", "a\nbc|"),
        ("ab" + CTRL_HOME + "\x1b<c\x1b>d", "cabd|"),
        ("\x1b[200~if a:\n    b\n\x1b[201~", "if a:\n    b\n|"),
        ("a" + CTRL_C + "b", "ab|"),
        ("ab" + HOME + CTRL_D, "|b"),
        ("a b" + UNDO, "a |"),
    ],
)
def test_typing(at: Seat, keys: str, code: str) -> None:
    assert at.type(keys) == code


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ("// x", "// x|"),
        ("/*", "/*|"),
        ("a\r/ b", "a\n/ b|"),
        ("a /help", "a /help|"),
        ("a" + CTRL_O + CTRL_C + "b", "ab|"),
        ("a" + CTRL_O + BACKSPACE + "b", "ab|"),
        ("a" + CTRL_O + "/help\r\rb", "ab|"),
        ("a\r/help\r\rb", "a\nb|"),
        ("a" + CTRL_O + "nonsense\rb", "ab|"),
        ("a" + CTRL_O + "help\r" + DOWN + "xb", "ab|"),
        ("a" + CTRL_O + "clear\rb", "b|"),
    ],
)
def test_slash_begins_a_command_where_it_can_be_none_of_the_code(
    at: Seat, keys: str, code: str
) -> None:
    assert at.type(keys) == code


def test_ctrl_d_leaves_only_where_no_code_is(at: Seat) -> None:
    assert at.type("a" + CTRL_D + BACKSPACE + CTRL_D + "never read") == "|"


def test_bug_behind_a_key_ends_the_program_with_its_error(
    at: Seat, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(at.desk, "tab", fail)
    with pytest.raises(ZeroDivisionError, match="oops"):
        at.type("a\t")
