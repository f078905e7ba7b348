"""Defaults from ``bigcode.toml``: the project's over the user's.

One mechanism feeds every command: the files become click's ``default_map``, so the command line
and the environment come first and every value passes through the option's own parser. Top-level
keys are options that the model commands share; a table named like a command sets that command's
options, ``[models.pull]`` those of a command within a command.

A project's file arrives with whatever was cloned, so it may set no more than ``PROJECT_KEYS``:
which model answers and how, never where something is read, written or sent.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin

import typer

from bigcode_cli.cli.decoding_flags import SamplingFlags, StopFlags
from bigcode_cli.cli.params import ModelFlags
from bigcode_cli.errors import UsageError

FILE_NAME = "bigcode.toml"

SHARED_KEYS = frozenset({field.name for field in fields(ModelFlags)} | {"encoding", "quiet"})
"""What may stand outside a table."""

PROJECT_KEYS = (
    SHARED_KEYS
    | {field.name for group in (SamplingFlags, StopFlags) for field in fields(group)}
    | {"num_samples", "heal", "truncate", "stats", "span", "order", "dialect", "candidates"}
    | {"context", "stride"}
) - {"offline"}
"""What a project's file may set."""

UNSETTABLE = frozenset(
    {"help", "version", "debug", "install_completion", "show_completion"}
    | {"prefix", "suffix", "write", "force"}  # these are of one call
    | {"task", "head", "head_revision", "redact"}  # as are these
)


class Command(Protocol):
    """What is asked of a click command."""

    name: str | None
    params: list[Any]
    callback: Callable[..., Any] | None


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A ``bigcode.toml`` that was found and read."""

    path: Path
    scope: Literal["project", "user"]
    text: str
    content: dict[str, Any]

    def where(self, key: str, table: tuple[str, ...] = ()) -> str:
        """``path:line`` of a key, for errors."""
        line = _find_line(self.text, table, key)
        return f"{self.path}:{line}" if line else str(self.path)


class Settings:
    """The settings files in force, strongest first. They are looked for when first needed."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @cached_property
    def files(self) -> tuple[SettingsFile, ...]:
        """The project's file and the user's, where there are any.

        Raises:
            UsageError: one cannot be read or is not TOML.
        """
        project, user = find_project_file(self._folder or Path.cwd()), user_file()
        found = [] if project is None or project == user else [_read(project, "project")]
        return (*found, _read(user, "user")) if user.is_file() else tuple(found)

    def check_names(self, commands: Mapping[str, object]) -> None:
        """Refuse what no command could read.

        Raises:
            UsageError: an unknown key or table, with its file and line.
        """
        for file in self.files:
            for key, value in file.content.items():
                if isinstance(value, dict):
                    if key not in commands:
                        raise UsageError(
                            f"{file.where(key)}: no such command: [{key}]",
                            f"tables are named like commands: {', '.join(commands)}",
                        )
                elif (name := _plain(key)) not in SHARED_KEYS:
                    raise UsageError(
                        f"{file.where(key)}: unknown key {key!r}",
                        _suggest(name, SHARED_KEYS),
                    )
                else:
                    _check_allowed(file, (), key, name)

    def default_map(self, command: Command, table: tuple[str, ...]) -> dict[str, Any]:
        """Click's default map for one command and those within it.

        Raises:
            UsageError: an unknown key or a value of the wrong type, with its file and line.
        """
        values: dict[str, Any] = {}
        within: MutableMapping[str, Command] = getattr(command, "commands", {})
        known = settable(command)
        for file in reversed(self.files):
            content = file.content
            for key, value in content.items():
                if (name := _plain(key)) in known and name in SHARED_KEYS:
                    values[name] = _checked(file, (), key, value, known[name])
            for name in table:
                content = content.get(name, {})
            for key, value in content.items():
                if key in within and isinstance(value, dict):
                    continue
                name = _plain(key)
                if name not in known:
                    raise UsageError(
                        f"{file.where(key, table)}: {' '.join(table)} has no setting {key!r}",
                        _suggest(name, known),
                    )
                _check_allowed(file, table, key, name)
                values[name] = _checked(file, table, key, value, known[name])
        for name, part in within.items():
            values[name] = self.default_map(part, (*table, name))
        return values

    def origin(self, table: tuple[str, ...], name: str) -> SettingsFile | None:
        """The file that a setting of a command comes from."""
        for file in self.files:
            content = file.content
            for part in table:
                content = content.get(part, {})
            for keys in (content, file.content):
                if any(_plain(key) == name for key in keys):
                    return file
        return None


def find_project_file(folder: Path) -> Path | None:
    """The nearest ``bigcode.toml`` in a folder or above it.

    The search ends at the root of a repository and at the user's home.
    """
    home = Path.home()
    for place in (folder, *folder.parents):
        if (place / FILE_NAME).is_file():
            return place / FILE_NAME
        if place == home or (place / ".git").exists():
            return None
    return None


def user_file() -> Path:
    """Where the user's settings are: ``$XDG_CONFIG_HOME/bigcode/bigcode.toml`` on Linux."""
    return Path(typer.get_app_dir("bigcode")) / FILE_NAME


def settable(command: Command) -> dict[str, object]:
    """The options of a command that a file may set: name → annotation. Paths are not among them."""
    if command.callback is None:
        return {}
    annotations = {
        name: _bare(parameter.annotation)
        for name, parameter in inspect.signature(command.callback, eval_str=True).parameters.items()
    }
    return {
        param.name: annotations[param.name]
        for param in command.params
        if param.param_type_name == "option"
        and param.name not in UNSETTABLE
        and annotations.get(param.name, Path) not in (Path, list[Path])
    }


def _read(path: Path, scope: Literal["project", "user"]) -> SettingsFile:
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
        return SettingsFile(path, scope, text, tomllib.loads(text))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _suggest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    if close := get_close_matches(name, list(known), n=1):
        return f"did you mean {close[0]}?"
    return f"known here: {', '.join(sorted(known)) or 'none'}"


def _plain(key: str) -> str:
    """Keys may be spelled like the options, with hyphens."""
    return key.replace("-", "_")


def _bare(annotation: object) -> object:
    """An annotation without ``Annotated`` and without ``| None``."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        rest = [part for part in get_args(annotation) if part is not type(None)]
        return _bare(rest[0]) if len(rest) == 1 else annotation
    return annotation


def _check_allowed(file: SettingsFile, table: tuple[str, ...], key: str, name: str) -> None:
    if file.scope == "project" and name not in PROJECT_KEYS:
        raise UsageError(
            f"{file.where(key, table)}: a project's file may not set {key!r}",
            f"set it in {user_file()}, in the environment or on the command line",
        )


def _checked(
    file: SettingsFile, table: tuple[str, ...], key: str, value: object, annotation: object
) -> object:
    """The value, if it is of the option's type."""
    if get_origin(annotation) is Literal:
        good, wanted = value in get_args(annotation), " or ".join(get_args(annotation))
    elif get_origin(annotation) is list:
        if _plain(key) == "model" and isinstance(value, str):  # shared with those that take one
            value = [value]
        good = isinstance(value, list) and all(isinstance(item, str) for item in value)
        wanted = "a list of texts"
    elif annotation is bool:
        good, wanted = isinstance(value, bool), "true or false"
    elif annotation is int:
        good, wanted = isinstance(value, int) and not isinstance(value, bool), "a whole number"
    elif annotation is float:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        wanted = "a number"
    else:
        good, wanted = isinstance(value, str), "a text"
    if not good:
        raise UsageError(f"{file.where(key, table)}: {key} must be {wanted}, not {value!r}")
    if _plain(key) != "model":
        return value
    if isinstance(value, list):
        return [_beside(file, item) for item in value]
    return _beside(file, str(value))


def _beside(file: SettingsFile, model: str) -> str:
    """A model's name; a folder beside the file is one wherever one works."""
    return str(file.path.parent / model) if model.startswith(("./", "../")) else model


def _find_line(text: str, table: tuple[str, ...], key: str) -> int | None:
    """The line of ``key = …`` in a table, or of the table named ``key``; ``None`` if unsure."""
    here: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            here = tuple(part.strip().strip("\"'") for part in header[1].split("."))
            if here[: len(table) + 1] == (*table, key):
                return number
        elif here == table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
            return number
    return None
