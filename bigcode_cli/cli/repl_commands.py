"""What can be ordered with a slash: one function a command, each told by its table row."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from bigcode_cli.cli.repl_files import CodeFile
from bigcode_cli.errors import UsageError
from bigcode_cli.hub.names import BUILTIN_MODELS
from bigcode_cli.records import SamplingOptions

if TYPE_CHECKING:
    from bigcode_cli.cli.repl_desk import Desk

_COMMAND = re.compile(r"/(\w*)(!?)(?:\s+(.*))?", re.DOTALL)

BUDGET = "max_new_tokens"
SETTINGS = (*(field.name for field in fields(SamplingOptions)), BUDGET)
WHOLE = frozenset({"top_k", "seed", BUDGET})
"""Settings that are whole numbers."""
DRAWN = "drawn"
"""How a seed is called that nobody chose."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        run: called with the desk, the argument, and whether ``!`` stood behind the name.
        argument: how the help shows it; empty where there is none.
        forced: whether ``!`` means anything.
    """

    run: Callable[["Desk", str, bool], None]
    help: str
    argument: str = ""
    forced: bool = False


def run(desk: "Desk", line: str) -> None:
    """Do what a line says.

    Raises:
        BigcodeError: it makes no sense, or failed.
    """
    match = _COMMAND.fullmatch(line.strip())
    name, force, argument = match.groups(default="") if match else ("", "", "")
    command = COMMANDS.get(name)
    if command is None:
        close = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean /{close[0]}?" if close else "/help lists the commands"
        raise UsageError(f"no such command: {line.strip()}", hint)
    if argument and not command.argument:
        raise UsageError(f"/{name} takes no argument")
    if force and not command.forced:
        raise UsageError(f"/{name} takes no !")
    command.run(desk, argument.strip(), bool(force))


def _model(desk: "Desk", argument: str, _force: bool) -> None:
    if argument:
        desk.load_model(argument)
        return
    info = desk.model.session.info
    desk.show(
        [
            ("model", desk.model.flags.model),
            ("device", f"{info.device}, {info.dtype}, weights {info.weights}"),
            ("context", f"{info.n_positions:,} tokens"),
        ]
    )


def _set(desk: "Desk", argument: str, _force: bool) -> None:
    name, _, value = argument.partition(" ")
    name = name.replace("-", "_")
    if name and name not in SETTINGS:
        close = get_close_matches(name, SETTINGS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(SETTINGS)}"
        raise UsageError(f"no such setting: {name}", hint)
    if name and value.strip():
        _change(desk, name, value.strip())
        desk.say(f"{name} is {_value(desk, name)}")
    else:
        desk.show([(one, _value(desk, one)) for one in ([name] if name else SETTINGS)])


def _change(desk: "Desk", name: str, value: str) -> None:
    number = _number(name, value)
    try:
        if name == BUDGET:
            changed = replace(desk.options, max_new_tokens=number)
        else:
            sampling = replace(desk.options.sampling, **{name: number})
            changed = replace(desk.options, sampling=sampling)
        changed.question("x", "")  # which refuses what makes no sense
    except UsageError as error:
        raise UsageError(error.message.removeprefix("--"), error.hint) from error
    desk.options = changed


def _number(name: str, value: str) -> Any:  # noqa: ANN401 -- of the setting's own type
    if name == "seed" and value == DRAWN:
        return None
    try:
        return int(value) if name in WHOLE else float(value)
    except ValueError as error:
        kind = "a whole number" if name in WHOLE else "a number"
        either = f" or {DRAWN}" if name == "seed" else ""
        raise UsageError(f"{name} must be {kind}{either}, not {value!r}") from error


def _value(desk: "Desk", name: str) -> str:
    if name == BUDGET:
        return str(desk.options.max_new_tokens)
    value = getattr(desk.options.sampling, name)
    return DRAWN if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _save(desk: "Desk", argument: str, force: bool) -> None:
    file = desk.file
    if argument:
        path = Path(argument).expanduser()
        encoding = desk.encoding
        file = replace(file, path=path) if file else CodeFile(path=path, encoding=encoding)
    if file is None:
        raise UsageError("/save needs a FILE")
    if not force and file.path.exists():
        raise UsageError(f"{file.path} is there already", "/save! replaces it")
    file.write(desk.code.text)
    desk.file = file
    desk.say(f"saved {file.path}")


def _load(desk: "Desk", argument: str, _force: bool) -> None:
    if not argument:
        raise UsageError("/load needs a FILE")
    file, code = CodeFile.read(Path(argument).expanduser(), desk.encoding)
    desk.replace_code(code)
    desk.file = file
    desk.say(f"loaded {file.path}")


def _clear(desk: "Desk", _argument: str, _force: bool) -> None:
    desk.replace_code("")
    desk.file = None


def _stats(desk: "Desk", _argument: str, _force: bool) -> None:
    stats = desk.model.stats
    share = 100 * stats.reused / max(1, stats.prompt)
    rows = [
        ("completions", f"{stats.completions:,}, {stats.interrupted:,} of them interrupted"),
        ("prompt", f"{stats.prompt:,} tokens, {share:.0f} % of them from the prefix cache"),
        ("output", f"{stats.new:,} tokens"),
    ]
    if stats.last is not None:
        last = stats.last
        first = "-" if last.first_token_s is None else f"{1000 * last.first_token_s:,.0f} ms"
        rows += [
            ("last one", f"first token after {first}, {last.reused_tokens:,} tokens reused"),
            (
                "last speeds",
                f"prompt {_rate(last.prefill_tokens_per_s)}, "
                f"output {_rate(last.decode_tokens_per_s)}",
            ),
        ]
    desk.show(rows)


def _rate(tokens_per_s: float | None) -> str:
    return "-" if tokens_per_s is None else f"{tokens_per_s:,.0f} tokens/s"


def _help(desk: "Desk", _argument: str, _force: bool) -> None:
    commands = [
        (f"/{name} {command.argument}".rstrip(), command.help) for name, command in COMMANDS.items()
    ]
    desk.show([*KEYS, ("", ""), *commands])


def _quit(desk: "Desk", _argument: str, _force: bool) -> None:
    desk.leave()


KEYS = (
    ("Tab", "complete at the cursor; before a line's text, indent"),
    ("Right, Tab", "accept what is shown"),
    ("Escape", "dismiss it; typing on does too"),
    ("Shift-Tab", "take a level of indentation back"),
    ("Ctrl-C", "stop the model"),
    ("Ctrl-Up, Ctrl-Down", "earlier code and back"),
    ("/, Ctrl-O", "give a command: / on a blank line, Ctrl-O anywhere"),
    ("Ctrl-D", "leave, when there is no code"),
)

COMMANDS = {
    "model": Command(_model, "show the model, or change to another", "[NAME]"),
    "set": Command(_set, "show or change how completions are drawn", "[NAME [VALUE]]"),
    "save": Command(_save, "write the code; /save! replaces a file", "[FILE]", forced=True),
    "load": Command(_load, "take the code of a file", "FILE"),
    "clear": Command(_clear, "begin anew; Ctrl-Up brings the code back"),
    "stats": Command(_stats, "tell counts, reuse and speeds"),
    "help": Command(_help, "show this"),
    "quit": Command(_quit, "leave"),
}


class CommandCompleter(Completer):
    """Completes command names, and the arguments that are known."""

    def __init__(self) -> None:
        self._paths = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """See ``Completer``."""
        typed = document.text_before_cursor
        name, blank, argument = typed.partition(" ")
        if not blank:
            yield from _beginning_with(typed, (f"/{command}" for command in COMMANDS))
        elif name == "/set":
            yield from _beginning_with(argument, SETTINGS)
        elif name == "/model" and "/" not in argument:
            yield from _beginning_with(argument, BUILTIN_MODELS)
        elif name in ("/save", "/save!", "/load", "/model"):
            yield from self._paths.get_completions(Document(argument), complete_event)


def _beginning_with(typed: str, words: Iterable[str]) -> Iterable[Completion]:
    for word in words:
        if word.startswith(typed):
            yield Completion(word, start_position=-len(typed))
