"""The command ``bigcode``: its commands, each loaded when called, and the one error boundary."""

# ruff: noqa: ANN401 -- Typer keeps the classes of commands and contexts private

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from bigcode_cli import __version__
from bigcode_cli.cli.help import HELP_NAMES, Group, dress
from bigcode_cli.cli.render import is_terminal, print_error
from bigcode_cli.errors import BigcodeError

if TYPE_CHECKING:
    from bigcode_cli.cli.settings import Settings

PROGRAM = "bigcode"
COMPLETE_VARIABLE = "_BIGCODE_COMPLETE"

COMMANDS = {
    "generate": "Complete a prompt, and print the completion as it is decoded.",
    "infill": "Fill a hole in a text, and print what belongs there.",
    "score": "Measure how well a model predicts texts: perplexity and bits per byte.",
    "classify": "Label texts or their parts, with a model that has a head for that.",
    "bench": "Measure how fast a model is on this machine, or how well it fills in.",
    "repl": "Write code at a prompt where the model completes it live.",
    "models": "List, pull, show, verify, export and remove models.",
    "config": "Show the settings in force and where each comes from.",
    "train": "Train models of your own.",
}
"""Every command, in the order of the help page. ``cli/NAME.py`` holds its ``app``."""

ALIASES = {"benchmark": "bench", "perplexity": "score", "score-perplexity": "score"}
"""Other names of commands, which no page lists."""

ClickError: type[Exception] = typer.BadParameter.__mro__[2]
"""The base of what the parser raises; Typer gives it no public name."""

COMPLETION_OPTIONS = {"install_completion", "show_completion"}
"""Typer adds these to every app; they belong to the program alone."""

USAGE_EXIT_CODE = 2
INTERRUPTED_EXIT_CODE = 130

OFF = ("", "0", "false", "f", "no", "n", "off")
"""How an environment variable says no."""


class LazyCommand(TyperCommand):
    """Stands for a command until it is called, so that no other command is imported."""

    def load(self) -> TyperCommand | TyperGroup:
        """The command itself."""
        module = import_module(f"bigcode_cli.cli.{self.name}")
        command: Any = get_command(dress(module.app))
        command.name = self.name
        command.params = [p for p in command.params if p.name not in COMPLETION_OPTIONS]
        return command  # type: ignore[no-any-return]

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: Any = None,
        **extra: Any,
    ) -> Any:
        """Parse the arguments with the settings files' values as defaults."""
        command = self.load()
        if parent is not None and not parent.resilient_parsing:
            extra["default_map"] = _default_map(parent.obj, command, args)
        return command.make_context(info_name, args, parent, **extra)


class BigcodeGroup(Group):
    """The program: its commands are known by name alone."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, summary in COMMANDS.items():
            self.add_command(LazyCommand(name, help=summary))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name or of what it is another name for."""
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))


app = typer.Typer(
    name=PROGRAM,
    cls=BigcodeGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": HELP_NAMES},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback(
    epilog='\b\nExamples:\n  bigcode generate "def foo():"\n  bigcode generate --help',
)
def bigcode(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Local code completion with models of the GPTBigCode family."""
    from bigcode_cli.cli.settings import Settings

    context.obj = Settings()


def main() -> None:
    """Run the program and leave the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run one command line: the one place where an error becomes a line and an exit code."""
    try:
        code = _dispatch(list(args))
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        _drop_stdout()
        return 0
    except Exception as error:
        _flush_or_drop()
        if _stems_from_interrupt(error):
            return _interrupted()
        if _wants_debug(args):
            import traceback

            traceback.print_exc()
        return _explain(error)
    return code


def _dispatch(args: list[str]) -> int:
    command = get_command(app)
    if COMPLETE_VARIABLE in os.environ:
        command.main(args, prog_name=PROGRAM)
    try:
        with command.make_context(PROGRAM, args) as context:
            command.invoke(context)
    except typer.Exit as leave:
        return leave.exit_code
    return 0


def _default_map(settings: "Settings", command: Any, args: list[str]) -> dict[str, Any]:
    try:
        settings.check_names(COMMANDS)
        return settings.default_map(command, (command.name,))
    except BigcodeError:
        if set(args) & set(HELP_NAMES):
            return {}  # a broken settings file is no reason to withhold the help
        raise


def _explain(error: Exception) -> int:
    """Print an error's line and hint, and say its exit code."""
    if isinstance(error, BigcodeError):
        print_error(error.message, error.hint)
        return error.exit_code
    if isinstance(error, ClickError):
        return _explain_usage(error)
    if isinstance(error, typer.Abort):
        print_error("aborted")
    elif isinstance(error, MemoryError):
        print_error("out of memory", "a smaller model, or --quantize int8, needs less")
    elif isinstance(error, OSError):
        name = f": {error.filename}" if error.filename else ""
        print_error(f"{error.strerror or error}{name}")
    else:
        print_error(
            f"internal error: {type(error).__name__}: {error}",
            "this is a bug; --debug shows where it happened",
        )
    return 1


def _explain_usage(error: Any) -> int:
    """What the parser refused, in the same form as every other error."""
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(message, err=True)
        return USAGE_EXIT_CODE
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    print_error(message[:1].lower() + message[1:].rstrip("."), f"{path} --help says what it takes")
    return USAGE_EXIT_CODE


def _interrupted() -> int:
    """Ctrl-C: what was printed stays, and the shell's prompt gets a line of its own."""
    for stream in (sys.stdout, sys.stderr):
        if is_terminal(stream):
            with suppress(OSError):
                print(file=stream, flush=True)
            break
    _flush_or_drop()
    return INTERRUPTED_EXIT_CODE


def _stems_from_interrupt(error: BaseException) -> bool:
    """Whether a library turned a Ctrl-C into an error of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _wants_debug(args: Sequence[str]) -> bool:
    """Known before anything is parsed, since parsing may be what fails."""
    options = args[: args.index("--")] if "--" in args else args
    return "--debug" in options or os.environ.get("BIGCODE_DEBUG", "0").lower() not in OFF


def _flush_or_drop() -> None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        _drop_stdout()


def _drop_stdout() -> None:
    """Lose what stdout still holds: nobody takes it, and the interpreter would try again."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
