"""A desk that nobody looks at: keys come from a pipe, and the model tells when it is asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput, Output

from bigcode_cli.cli.params import ModelFlags
from bigcode_cli.cli.repl_desk import Desk
from bigcode_cli.cli.repl_model import Model, Options
from bigcode_cli.cli.repl_screen import application, run
from bigcode_cli.engine.session import Session
from bigcode_cli.records import SamplingOptions

DEADLINE_S = 60
LEAVE = "\x0fquit\r"


class Seat:
    """A desk and its keyboard.

    Attributes:
        told: what the model's thread wants to have called.
    """

    def __init__(self, keyboard: PipeInput, session: Session, folder: Path, *, debug: bool) -> None:
        self.told: Queue[Callable[[], None]] = Queue()
        self.desk = Desk(Options(sampling=SamplingOptions(), max_new_tokens=24), debug=debug)
        flags = ModelFlags(model=str(folder))
        model = Model(session, flags, self.told.put)
        self.desk.bind(application(self.desk, colour=True), model)
        self._keyboard = keyboard

    def hear(self) -> None:
        """Have the next thing called that the model's thread tells."""
        self.told.get(timeout=DEADLINE_S)()

    def settle(self) -> None:
        """Hear the model until it is at nothing."""
        while self.desk.doing:
            self.hear()

    def write(self, before: str, after: str = "") -> None:
        """Have this code, the cursor in between."""
        self.desk.replace_code(before + after)
        self.desk.code.cursor_position = len(before)

    def type(self, keys: str) -> str:
        """The code once these keys were pressed and the program left; ``|`` is the cursor."""
        self._keyboard.send_text(keys + LEAVE)
        run(self.desk.app)
        code = self.desk.code.document
        return f"{code.text_before_cursor}|{code.text_after_cursor}"


@contextmanager
def seat(
    session: Session, folder: Path, *, debug: bool = False, output: Output | None = None
) -> Iterator[Seat]:
    """Somewhere to sit, without a screen unless there is an output."""
    output = output or DummyOutput()
    with create_pipe_input() as keyboard, create_app_session(keyboard, output):
        one = Seat(keyboard, session, folder, debug=debug)
        yield one
        one.desk.close()
