"""The REPL at a real pseudo-terminal."""

import stat
from collections.abc import Iterable
from pathlib import Path

import pytest

from bigcode_cli.cli.repl_model import Options
from bigcode_cli.engine.session import Session
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.records import Chunk, InfillRequest, LoadOptions, SamplingOptions, Silence
from tests.cli.running import command, environment
from tests.cli.screen import Typist

TAB, SHIFT_TAB, ENTER, ESCAPE = "\t", "\x1b[Z", "\r", "\x1b"
LEFT, RIGHT, CTRL_UP = "\x1b[D", "\x1b[C", "\x1b[1;5A"
CTRL_C, CTRL_D, CTRL_O = "\x03", "\x04", "\x0f"

READY = "Ctrl-D leave"
PROPOSED = "Tab accept"
AT_WORK = "Ctrl-C stop"
BUDGET = 24


def repl(*args: object, rows: int = 24, columns: int = 80, **changes: str) -> Typist:
    return Typist(
        command("repl", *args), environment(**changes), rows=rows, columns=columns
    )  # fmt: skip


def order(typist: Typist, line: str) -> None:
    """Give a command from anywhere in the code."""
    typist.type(CTRL_O)
    typist.wait_for("Enter run")
    typist.type(line + ENTER)


def proposal(session: Session, before: str, after: str = "", budget: int = BUDGET) -> str:
    """What is to be shown at a cursor."""
    question = Options(sampling=SamplingOptions(), max_new_tokens=budget).question(before, after)
    request = question.request
    events: Iterable[object] = (
        session.infill([request])
        if isinstance(request, InfillRequest)
        else session.generate([request])
    )
    text = "".join(event.text for event in events if isinstance(event, Chunk))
    return question.ghost(text)


@pytest.fixture(scope="module")
def mini() -> Session:
    return Session.open(resolve("mini", report=Silence()), LoadOptions())


def test_types_completes_in_the_middle_accepts_interrupts_and_quits(mini: Session) -> None:
    before, after = "def read(path):\n    with open(path, ", ") as f:\n        return f.read()"
    middle = proposal(mini, before, after)
    assert middle
    assert "\n" not in middle
    line = f"    with open(path, {middle}) as f:"

    with repl("-n", BUDGET) as typist:
        typist.wait_for(READY)
        # Enter indents by itself, and a level less is one key.
        typist.type(
            "def read(path):" + ENTER + "with open(path, ) as f:" + ENTER + "return f.read()"
        )
        screen = typist.wait_for("        return f.read()")
        assert screen.lines[:3] == [
            " 1 def read(path):", " 2     with open(path, ) as f:", " 3         return f.read()"
        ]  # fmt: skip

        # In the middle of a line, the ghost pushes the rest of it aside.
        typist.type("\x1b[A\x1b[F" + LEFT * len(") as f:") + TAB)
        screen = typist.wait_for(PROPOSED)
        assert screen.lines[1] == f" 2 {line}"
        assert screen.italics == middle.strip(" ")
        assert (screen.row, screen.column) == (1, 3 + len("    with open(path, "))

        # Escape dismisses it, typing on does, and both leave the code alone.
        typist.type(ESCAPE)
        typist.wait_for("Ctrl-O command")
        assert screen.lines[1] == " 2     with open(path, ) as f:"
        typist.type(TAB)
        typist.wait_for(PROPOSED)
        typist.type("x")
        typist.wait_for("open(path, x) as f:")
        typist.type("\x7f" + TAB)
        typist.wait_for(PROPOSED)

        # Right takes it; the cursor goes behind it.
        typist.type(RIGHT)
        typist.wait_for(lambda screen: not screen.italics and "Ctrl-O command" in str(screen))
        assert screen.lines[1] == f" 2 {line}"
        assert (screen.row, screen.column) == (1, 3 + len(line) - len(") as f:"))

        # Ctrl-C stops a generation, and what has come can still be taken.
        typist.type("\x1b[1;5F" + ENTER + SHIFT_TAB + ENTER)
        order(typist, "/set max_new_tokens 2000")
        typist.wait_for("max_new_tokens is 2000")
        typist.type(TAB)
        typist.wait_for(lambda screen: AT_WORK in str(screen) and bool(screen.italics))
        typist.type(TAB + TAB)  # which a running model does not mind
        typist.type(CTRL_C)
        typist.wait_for("stopped")
        assert screen.italics
        typist.type(CTRL_C)
        typist.wait_for(lambda screen: not screen.italics)
        typist.type(CTRL_C)
        typist.wait_for("/quit")

        # The next question finds the last one's cache.
        order(typist, "/stats")
        typist.wait_for("from the prefix cache")
        typist.type(ENTER)
        typist.wait_for("Ctrl-O command")

        # Commands complete themselves; code that went comes back.
        order(typist, "/save read.py")
        typist.wait_for("saved read.py")
        typist.type(CTRL_O + "cl" + TAB)
        typist.wait_for("/clear")
        typist.type(ENTER)
        typist.wait_for(READY)
        typist.type(CTRL_UP)
        typist.wait_for(line)
        order(typist, "/clear")
        typist.wait_for(READY)
        typist.type(CTRL_D)
        assert typist.wait() == 0
        assert "Traceback" not in str(screen)

    saved = Path("read.py").read_text()
    assert saved.startswith(f"def read(path):\n{line}\n        return f.read()\n")


def test_control_characters_of_the_model_are_spelled_out_and_nothing_is_coloured(
    model_folder: Path, session: Session, tmp_path: Path
) -> None:
    prompts = (f"{name} = " for name in ("first", "value", "total", "add", "Counter", "number"))
    prompt, ghost = next(
        (prompt, ghost)
        for prompt in prompts
        if "\\x" in (ghost := proposal(session, prompt, budget=40)) and len(ghost) < 200
    )
    state = tmp_path / "state"
    args = ("-m", model_folder, "-n", 40, "--quiet")
    with repl(*args, rows=12, columns=40, NO_COLOR="1", XDG_STATE_HOME=str(state)) as typist:
        typist.wait_for("Tab complete")
        assert "code goes here" not in str(typist.screen)
        typist.type(prompt + TAB)
        typist.wait_for(PROPOSED)
        typist.type(TAB)
        typist.wait_for("Ctrl-O command")
        order(typist, "/save out.py")
        typist.wait_for(lambda screen: "Ctrl-O command" in str(screen) and Path("out.py").exists())
        order(typist, "/quit")
        assert typist.wait() == 0
        assert not typist.screen.coloured
    assert Path("out.py").read_text() == prompt + ghost + "\n"
    history = state / "bigcode" / "history"
    assert history.read_text().endswith("+" + f"{prompt}{ghost}\n".replace("\n", "\n+")[:-1])
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.parent.stat().st_mode) == 0o700


def test_end_of_the_terminal_is_the_end_of_the_program(model_folder: Path) -> None:
    with repl("-m", model_folder) as typist:
        typist.wait_for(READY)
        typist.type("x = 1")
        typist.wait_for("x = 1")
        typist.hang_up()
        assert typist.process.wait(60) == 0
    history = Path.home() / ".local" / "state" / "bigcode" / "history"
    assert history.read_text().endswith("+x = 1\n")
