"""Save a model under a name: whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bigcode_cli.errors import OutputError, UsageError
from bigcode_cli.homes import HOME_VARIABLE
from bigcode_cli.hub.names import BUILTIN_MODELS
from bigcode_cli.hub.saved import find_saved, is_plain_name, saved_folder


@dataclass(frozen=True, slots=True)
class Draft:
    """A model that is being made.

    Attributes:
        name: that it will have.
        folder: to write it to.
    """

    name: str
    folder: Path

    def keep(self) -> Path:
        """Give it its name, in the place of what had it; the folder that it is in from now on.

        Raises:
            OutputError: that cannot be done; what had the name keeps it.
        """
        target = self.folder.with_name(self.name)
        before = self.folder.with_name(f".{self.name}.{os.getpid()}.old")
        try:
            if target.exists():
                target.rename(before)
            try:
                self.folder.rename(target)
            except OSError:
                if before.exists():
                    before.rename(target)
                raise
        except OSError as error:
            raise _unwritable(target, error) from error
        shutil.rmtree(before, ignore_errors=True)
        return target


def check_name(name: str, *, replace: bool) -> None:
    """Refuse a name that no model can be saved under.

    Raises:
        UsageError: it is no plain name, a built-in model's, or taken and not to be replaced.
    """
    if not is_plain_name(name):
        raise UsageError(
            f"{name!r} cannot be a model's name",
            "use letters, digits, '.', '_' and '-', as in flask-tuned",
        )
    if name in BUILTIN_MODELS:
        raise UsageError(f"{name} is a built-in model", "choose another --name")
    if not replace and find_saved(name) is not None:
        raise UsageError(
            f"there is a saved model {name} already",
            "replace it with --force, or choose another --name",
        )


@contextmanager
def draft(name: str, *, replace: bool) -> Iterator[Draft]:
    """A folder for a model that is to be saved; what is not kept is gone at the end.

    Raises:
        UsageError: see ``check_name``.
        OutputError: the folder cannot be made.
    """
    check_name(name, replace=replace)
    above = saved_folder()
    part = above / f".{name}.{os.getpid()}.part"
    try:
        try:
            part.mkdir(parents=True)
        except OSError as error:
            raise _unwritable(above, error) from error
        yield Draft(name, part)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}",
        f"{HOME_VARIABLE} names another folder for saved models",
    )
