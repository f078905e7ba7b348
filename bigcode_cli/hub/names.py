"""What a model name means: a built-in or a saved model, a folder, or a repository on the Hub."""

import re
from dataclasses import dataclass
from pathlib import Path

from bigcode_cli.errors import ModelNotFoundError, UsageError
from bigcode_cli.hub.saved import find_saved

BUILTIN_MODELS = ("mini",)

_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REVISION_PART = re.compile(r"[A-Za-z0-9_+=@][A-Za-z0-9._+=@-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAMES = (
    "use mini, a saved model's name, a model folder, or a Hub id such as bigcode/tiny_starcoder_py"
)


@dataclass(frozen=True, slots=True)
class BuiltinName:
    """A model that comes with the package."""

    name: str


@dataclass(frozen=True, slots=True)
class SavedName:
    """A model of the user's own, and the folder that it is kept in."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class FolderName:
    """A folder on this machine; it exists."""

    path: Path


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository on the Hub: ``owner/name``."""

    repo: str


ModelName = BuiltinName | SavedName | FolderName | HubName


def parse_name(name: str) -> ModelName:
    """Tell what ``name`` means.

    A built-in name wins over a saved model's, both over a folder of that name (``./mini`` is the
    folder), and an existing folder over a Hub id.

    Raises:
        ModelNotFoundError: it is none of the four.
    """
    if name in BUILTIN_MODELS:
        return BuiltinName(name)
    if (saved := find_saved(name)) is not None:
        return SavedName(name, saved)
    if not name or "\0" in name:
        raise ModelNotFoundError(f"{name!r} is not a model's name", _NAMES)
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            return FolderName(path)
        if path.exists():
            raise ModelNotFoundError(f"{name!r} is a file, not a model folder", _NAMES)
    except OSError as error:
        reason = error.strerror or error
        raise ModelNotFoundError(f"cannot open {name!r}: {reason}", _NAMES) from error
    if is_repo_id(name):
        return HubName(name)
    if "/" in name or "\\" in name or name.startswith("."):
        raise ModelNotFoundError(f"no folder {name!r}, and that is no Hub id either", _NAMES)
    raise ModelNotFoundError(f"unknown model {name!r}", _NAMES)


def is_repo_id(name: str) -> bool:
    """Whether this is a Hub id of the form ``owner/name``, by the Hub's own rules for both."""
    parts = name.split("/")
    return (
        len(parts) == 2
        and all(_REPO_PART.fullmatch(part) for part in parts)
        and "--" not in name
        and ".." not in name
        and not name.endswith(".git")
    )


def is_commit(revision: str) -> bool:
    """Whether a revision is a full commit hash, which always means the same files."""
    return _COMMIT.fullmatch(revision) is not None


def check_revision(revision: str) -> None:
    """Refuse a revision that is no branch, tag or commit hash.

    Raises:
        UsageError: it is empty, has odd characters, or climbs out of a folder.
    """
    parts = revision.split("/")
    plain = all(_REVISION_PART.fullmatch(part) for part in parts)
    if not plain or len(revision) > 200:
        raise UsageError(
            f"{revision!r} is not a revision", "use a branch, a tag or a commit hash of the model"
        )
