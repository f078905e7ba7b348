"""Other files that the model may look at, and which of them it may not without being forced."""

import os
from collections.abc import Sequence
from pathlib import Path

from bigcode_cli.cli.inputs import BYTE_ORDER_MARK, decode, read_file
from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.git import complaint, run_git
from bigcode_cli.records import ContextFile

FORCE_HINT = "--force shows it to the model all the same"


def read_context(
    files: Sequence[Path], *, encoding: str, hole: Path | None, force: bool
) -> tuple[ContextFile, ...]:
    """The files as the model is shown them.

    Args:
        hole: the file that is filled, which is no context of itself.
        force: take what git ignores and what looks like a secret too.

    Raises:
        InputError: one is missing or is no text.
        UsageError: one is the file with the hole, or may not be shown.
    """
    return tuple(_read(file, encoding, hole, force) for file in files)


def told_name(file: Path) -> str:
    """A file's name as the model is told it: from the current folder, with slashes."""
    try:
        return Path(os.path.relpath(file)).as_posix()
    except ValueError:  # on another drive
        return file.as_posix()


def _read(file: Path, encoding: str, hole: Path | None, force: bool) -> ContextFile:
    data = read_file(file)
    if hole is not None and file.samefile(hole):
        raise UsageError(f"{file} is the file with the hole, not context of it")
    if not force and (reason := _ignored(file)):
        raise UsageError(f"{file} is not shown to the model: {reason}", FORCE_HINT)
    text = decode(data, encoding, str(file))
    if "\0" in text:
        raise InputError(f"{file} is binary, not text")
    if not force and (reason := _secret(file, text)):
        raise UsageError(f"{file} is not shown to the model: {reason}", FORCE_HINT)
    plain = text.removeprefix(BYTE_ORDER_MARK).replace("\r\n", "\n")
    return ContextFile(told_name(file), plain)


def _secret(file: Path, text: str) -> str | None:
    """Why a file looks like a secret, by its own name or by that of what it leads to."""
    from bigcode_cli.text.secrets import secret_reason

    names = dict.fromkeys((str(file), os.path.realpath(file)))
    return next((reason for name in names if (reason := secret_reason(name, text))), None)


def _ignored(file: Path) -> str | None:
    """Why git would leave a file out; ``None`` where it would not, or there is no git."""
    real = Path(os.path.realpath(file))
    if not any((folder / ".git").exists() for folder in real.parents):
        return None
    # A file within an ignored folder, or one that only the user's own list names, is ignored too.
    done = run_git(real.parent, "check-ignore", "--quiet", "--", real.name)
    if done is None or done.returncode == 1:
        return None
    if not done.returncode:
        return "git ignores it"
    return f"git cannot say whether it is ignored ({complaint(done)})"
