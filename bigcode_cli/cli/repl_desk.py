"""The desk: the code under work, the ghost at its cursor, and the model that is asked for it."""

import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.lexers import Lexer, PygmentsLexer, SimpleLexer

from bigcode_cli.cli import repl_commands
from bigcode_cli.cli.render import one_line
from bigcode_cli.cli.repl_files import NEW_NAME, CodeFile, History, state_folder
from bigcode_cli.cli.repl_model import Model, Options
from bigcode_cli.cli.repl_task import Task
from bigcode_cli.cli.repl_text import LEVEL, blanks_to_delete, next_margin, outdented, table
from bigcode_cli.errors import BigcodeError

MAX_LEXED_LINES = 2000
"""All code is lexed at every key: 50 microseconds a line."""
PLAIN = SimpleLexer()

HINT = "# code goes here: Tab completes it, /help tells the rest"


@dataclass(frozen=True, slots=True)
class Message:
    """One line for whoever sits at the desk."""

    text: str
    error: bool = False


class Desk:
    """All that is there while the REPL runs, and all that can be done.

    Nothing here waits for the model. ``bind`` comes before anything else.

    Args:
        options: of completions, until they are changed.
        encoding: of files.
        quiet: no hints and no notes.
        debug: show the traceback of an error that is none of ours.

    Attributes:
        code: what is worked on.
        command: the line that a slash opens.
        page: what is to be read instead of the code, until a key is pressed.
        ghost: what the model proposes at the cursor, harmless.
        message: what is to be told.
        doing: what the model is at; empty where it is at nothing.
    """

    app: Application[None]
    model: Model

    def __init__(
        self, options: Options, *, encoding: str = "utf-8", quiet: bool = False, debug: bool = False
    ) -> None:
        self.options, self.encoding = options, encoding
        self._quiet, self._debug = quiet, debug
        self.ghost, self.doing = "", ""
        self.message: Message | None = None
        self._task: Task | None = None
        self._slash_typed = False
        self.file = None
        folder = state_folder()
        self.code = Buffer(
            multiline=True,
            history=History(folder / "history", self.say),
            on_text_changed=self._changed,
            on_cursor_position_changed=self._changed,
        )
        self.command = Buffer(
            multiline=False,
            history=History(folder / "commands", self.say),
            completer=repl_commands.CommandCompleter(),
            accept_handler=self._order,
        )
        self.page = Buffer(read_only=True)

    def bind(self, app: Application[None], model: Model) -> None:
        """Set what can only be made when there is a desk."""
        self.app, self.model = app, model

    def post(self, call: Callable[[], None]) -> None:
        """Have something called on the screen's thread; from any thread."""
        loop, context = self.app.loop, self.app.context
        if loop is not None:
            with suppress(RuntimeError):  # the loop was closed since
                loop.call_soon_threadsafe(call, context=context)

    @property
    def file(self) -> CodeFile | None:
        """The file that the code came from or was saved in."""
        return self._file

    @file.setter
    def file(self, file: CodeFile | None) -> None:
        self._file = file
        self._lexer = PygmentsLexer.from_filename(file.path.name if file else NEW_NAME)

    @property
    def lexer(self) -> Lexer:
        """What highlights the code; nothing does where it is so long that keys would wait."""
        return self._lexer if self.code.document.line_count <= MAX_LEXED_LINES else PLAIN

    @property
    def shown_ghost(self) -> str:
        """What is shown at the cursor: the ghost, or a hint where there is nothing at all."""
        hint = not (self.code.text or self._quiet or self.app.is_done)
        return HINT if hint else self.ghost

    def say(self, text: str) -> None:
        """Tell something worth knowing, unless nothing is to be told."""
        if not self._quiet:
            self.message = Message(one_line(text))

    def fail(self, error: Exception) -> None:
        """Tell what went wrong, in one line."""
        if isinstance(error, BigcodeError):
            text, hint = error.message, error.hint
        else:
            text, hint = f"internal error: {type(error).__name__}: {error}", None
            if self._debug:
                lines = "".join(traceback.format_exception(error)).splitlines()
                self.show([("", line) for line in lines])
        self.message = Message(one_line(f"{text} ({hint})" if hint else text), error=True)

    def show(self, rows: Sequence[tuple[str, str]]) -> None:
        """Put a table of two columns in the code's place, to be read."""
        width = self.app.output.get_size().columns
        text = "\n".join(table([(one_line(name), one_line(text)) for name, text in rows], width))
        self.page.set_document(Document(text, 0), bypass_readonly=True)
        self.app.layout.focus(self.page)

    def close_page(self) -> None:
        """Back to the code."""
        self.app.layout.focus(self.code)

    def tab(self) -> None:
        """Accept the ghost, indent, or ask the model; while it is at work, nothing."""
        here = self.code.document
        if self.doing:
            return
        if self.ghost:
            self.accept()
        elif here.current_line_after_cursor.strip() and not here.current_line_before_cursor.strip():
            self.code.insert_text(" " * (LEVEL - here.cursor_position_col % LEVEL))
        elif here.text.strip():
            self._complete(here)
        else:
            self.say("there is nothing to complete yet")

    def accept(self) -> None:
        """Make the ghost a part of the code, as far as it has come."""
        text = self.ghost
        self.dismiss()
        self.code.insert_text(text)

    def dismiss(self) -> None:
        """No ghost, and none to come."""
        if self._task is not None:
            self._task.abandon()
            self._task = None
        self.ghost, self.doing = "", ""

    def interrupt(self) -> None:
        """Stop the model; a ghost stays as far as it has come, until the next interrupt."""
        if self._task is not None and not self._task.stopped:
            self._task.stop()
            self.doing = "stopping"
        elif self.ghost or self._task is not None:
            self.dismiss()
        else:
            self.say("Ctrl-D leaves when there is no code, /quit always")

    def load_model(self, name: str) -> None:
        """Change to another model, unless it is not to be had."""
        self.dismiss()

        def told(what: str) -> None:
            self.doing = what
            self.app.invalidate()

        def ended(failure: Exception | None) -> None:
            if failure is None and self.model.flags.model == name:
                self.say(f"now {name}")
            self._ended(failure)

        self.doing = f"loading {name}"
        self._task = self.model.load(name, told, ended)

    def newline(self) -> None:
        """Begin a line, indented; blanks alone on the old one go."""
        here = self.code.document
        before = here.current_line_before_cursor
        margin = next_margin(before)
        after = here.current_line_after_cursor
        if not before.strip():
            self.code.delete_before_cursor(len(before))
        self.code.delete(len(after) - len(after.lstrip(" \t")))
        self.code.insert_text("\n" + margin)

    def backspace_indentation(self) -> None:
        """Take back a level of the indentation that the cursor stands in."""
        before = self.code.document.current_line_before_cursor
        self.code.delete_before_cursor(blanks_to_delete(before))

    def outdent(self) -> None:
        """Take a level of indentation from the cursor's line."""
        here = self.code.document
        line = here.current_line
        removed = len(line) - len(outdented(line))
        start = here.cursor_position + here.get_start_of_line_position()
        text = here.text[:start] + here.text[start + removed :]
        self.code.document = Document(text, max(start, here.cursor_position - removed))

    def up(self, count: int) -> None:
        """A line up; earlier code where there is none."""
        if self.code.text:
            self.code.cursor_up(count)
        else:
            self.code.history_backward(count)

    def down(self, count: int) -> None:
        """A line down."""
        self.code.cursor_down(count)

    def open_command(self, *, typed: bool) -> None:
        """Begin a command.

        Args:
            typed: a slash in the code did it, which may turn out to be code.
        """
        self._slash_typed = typed
        self.command.set_document(Document("/"))
        self.app.layout.focus(self.command)

    def close_command(self) -> None:
        """Back to the code."""
        self.command.reset()
        self.app.layout.focus(self.code)

    def slash_was_code(self, typed: str) -> bool:
        """Whether what is typed behind a slash makes both code, as in ``//``; then they are."""
        if not self._slash_typed or self.command.text != "/" or typed.isalpha():
            return False
        self.close_command()
        self.code.insert_text("/" + typed)
        return True

    def replace_code(self, code: str) -> None:
        """Other code in place of this, which goes into the history."""
        self._remember()
        self.dismiss()
        self.code.reset(Document(code, 0))

    def leave(self) -> None:
        """End the program, the code in the history."""
        self.dismiss()
        self.app.exit()

    def close(self) -> None:
        """Keep what is to be kept, and wait for the model to stop."""
        self._remember()
        self.model.close()

    def _remember(self) -> None:
        if self.code.text.strip():
            self.code.append_to_history()

    def _changed(self, _: Buffer) -> None:
        """The code or the cursor is not what the ghost was for."""
        self.message = None
        if self.ghost or self._task is not None:
            self.dismiss()

    def _order(self, buffer: Buffer) -> bool:
        """Run the command; its line is kept in the history and goes."""
        self.app.layout.focus(self.code)
        self.message = None
        try:
            repl_commands.run(self, buffer.text)
        except Exception as error:
            self.fail(error)
        return False

    def _complete(self, here: Document) -> None:
        name = self.file.path.name if self.file else None
        question = self.options.question(here.text_before_cursor, here.text_after_cursor, name)
        answer = ""

        def told(text: str) -> None:
            nonlocal answer
            answer += text
            if question.is_over(answer):
                self.dismiss()
                self.say("the model ends the block here")
            else:
                self.ghost = question.ghost(answer)
            self.app.invalidate()

        def ended(failure: Exception | None) -> None:
            if failure is None and not self.ghost:
                self.say("the model adds nothing here")
            self._ended(failure)

        self.message, self.doing = None, "completing"
        self._task = self.model.complete(question.request, told, ended)

    def _ended(self, failure: Exception | None) -> None:
        if failure is not None:
            self.fail(failure)
        elif self._task is not None and self._task.stopped:
            self.say("stopped")
        self._task, self.doing = None, ""
        self.app.invalidate()
