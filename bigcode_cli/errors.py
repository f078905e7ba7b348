"""Every error that a user can cause or meet: a message, a hint where there is one, an exit code.

One tree, no I/O. ``cli/app.py`` is the one boundary that turns an error into its line and its exit
code; anything outside this tree is a bug and keeps its traceback under ``--debug``.
"""

from typing import ClassVar


class BigcodeError(Exception):
    """Something failed that is worth one clear line.

    Args:
        message: what is wrong, in one line, without a full stop and without ``error:``.
        hint: what to do about it, in one line.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BigcodeWarning(UserWarning):
    """Something was done in another way than it was asked for."""


class UsageError(BigcodeError):
    """The command line, a setting or a record's value makes no sense."""

    exit_code = 2


class InputError(BigcodeError):
    """The only input is missing, empty or undecodable."""

    exit_code = 2


class OutputError(BigcodeError):
    """The answer could not be written: disk full, no permission, not a folder."""


class ModelError(BigcodeError):
    """The model is not to be had."""

    exit_code = 3


class ModelNotFoundError(ModelError):
    """No built-in model, folder or Hub repository has this name."""


class ModelGatedError(ModelError):
    """The repository asks for its conditions to be accepted, or for a token."""


class ModelOfflineError(ModelError):
    """The model is not here and the network is off or out of reach."""


class ModelIncompleteError(ModelError):
    """A file or a tensor that the model needs is missing."""


class ModelCorruptError(ModelError):
    """A file of the model is not what it says it is."""


class ModelUnsupportedError(ModelError):
    """A model of another architecture, or with a value that the code cannot honour."""


class ModelTooLargeError(ModelError):
    """The weights do not fit into the memory that is free."""


class ThresholdError(BigcodeError):
    """A threshold that the user set was not met."""

    exit_code = 4
