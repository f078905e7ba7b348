"""From a model's name to a folder that holds it."""

from pathlib import Path

from bigcode_cli.errors import ModelIncompleteError, ModelUnsupportedError, UsageError
from bigcode_cli.hub import cache, tasks
from bigcode_cli.hub.card import read_licence
from bigcode_cli.hub.contents import check_complete
from bigcode_cli.hub.deltas import Delta, read_delta
from bigcode_cli.hub.names import (
    BUILTIN_MODELS,
    BuiltinName,
    FolderName,
    HubName,
    ModelName,
    SavedName,
    check_revision,
    is_repo_id,
    parse_name,
)
from bigcode_cli.records import ModelFolder, Reporter, Silence

BUILTIN_FOLDER = tasks.BUILTIN_FOLDER

REINSTALL = "install bigcode-cli again"
"""What to do where a file of the package is missing."""


def resolve(
    name: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    base: str | None = None,
    report: Reporter,
) -> ModelFolder:
    """Find a model, pulling it from the Hub where it is not here yet.

    A complete snapshot in the cache is used as it is, without asking the network whether the
    branch has moved on: ``bigcode models pull`` does that.

    Args:
        name: a built-in name, a saved model's, a folder, or a Hub id ``owner/name``.
        revision: branch, tag or commit of a Hub model; ``None`` is its main branch.
        offline: never use the network (``HF_HUB_OFFLINE`` does the same).
        base: of a folder that holds only what differs from another model, that one's name, in the
            place of the one that the folder names.

    Raises:
        ModelError: one of its leaves: unknown, gated, offline, incomplete, corrupt, unsupported,
            too large.
        UsageError: a revision that is none, or one for a model that is not on the Hub; a base of
            a model that is whole.
    """
    match _meaning(name, revision):
        case BuiltinName():
            folder = BUILTIN_FOLDER / name
            return open_folder(name, folder, base=base, hint=REINSTALL, report=report)
        case SavedName(path=path):
            return open_folder(name, path, base=base, offline=offline, is_own=True, report=report)
        case FolderName(path):
            return open_folder(name, path, base=base, offline=offline, report=report)
        case HubName(repo):
            _refuse_base(base, name)
            return _resolve_repo(repo, revision, offline=offline, report=report)


def open_folder(
    name: str,
    path: Path,
    *,
    base: str | None = None,
    offline: bool = False,
    hint: str | None = None,
    is_own: bool = False,
    report: Reporter,
) -> ModelFolder:
    """A folder on this machine, and with it the model that it differs from, if it is of that kind.

    Args:
        base, offline: see :func:`resolve`.
        hint: what to do if a file is missing.
        is_own: this program made the folder on this machine, so that what it says of a path holds.

    Raises:
        ModelError: as for :func:`resolve`; the base is not the one that the folder was made on.
        UsageError: a base of a model that is whole.
    """
    delta = read_delta(path)
    check_complete(path, name=name, hint=hint, has_tokenizer=delta is None)
    below = None
    if delta is None:
        _refuse_base(base, name)
    else:
        asked = delta.base if base is None and is_own and Path(delta.base).is_absolute() else base
        found = _find_base(delta, name, asked, offline=offline, report=report)
        delta.check(name, found)
        below = found.path
    return ModelFolder(name=name, path=path, licence=_licence(path, below), base=below)


def _licence(path: Path, base: Path | None) -> str | None:
    """What a model's card says, else that of its base, of which most of it is."""
    own = read_licence(path)
    return read_licence(base) if own is None and base is not None else own


def _refuse_base(base: str | None, name: str) -> None:
    if base is not None:
        raise UsageError(
            f"--base is for folders that hold what differs from another model, and {name} is whole"
        )


def _find_base(
    delta: Delta, name: str, base: str | None, *, offline: bool, report: Reporter
) -> ModelFolder:
    """The model that a folder stands on.

    The folder is not trusted: what it says may lead to a model of the package or the Hub, and to
    no path on this machine or a share; such a one is taken from the user alone.
    """
    if base is not None:
        found = resolve(base, offline=offline, report=report)
    elif delta.base in BUILTIN_MODELS:
        found = resolve(delta.base, report=report)
    elif is_repo_id(delta.base):  # and no folder of that name
        if delta.revision is not None:
            check_revision(delta.revision)
        found = _resolve_repo(delta.base, delta.revision, offline=offline, report=report)
    else:
        raise ModelIncompleteError(
            f"{name} holds only what differs from another folder, which you must name",
            f"it was made on --base {delta.base:.300}",
        )
    if found.base is not None:
        raise ModelUnsupportedError(f"{found.name}, the base of {name}, is no whole model itself")
    return found


def find_folder(
    name: str, *, revision: str | None, local_files_only: bool, config_only: bool
) -> Path:
    """Find a model for the library (``model/locate.py``); it tells nobody what it does meanwhile.

    A folder is taken as it is, since it may hold a configuration alone or a model without a
    tokenizer. Of a model on the Hub, ``config_only`` fetches the description without the weights.

    Raises:
        ModelError: as for :func:`resolve`.
        UsageError: as for :func:`resolve`.
    """
    silence = Silence()
    meaning = _meaning(name, revision)
    if isinstance(meaning, FolderName | SavedName):
        return meaning.path
    if config_only and isinstance(meaning, HubName):
        from bigcode_cli.hub.pull import pull_description

        return pull_description(
            meaning.repo, revision=revision, offline=local_files_only, report=silence
        )[0]
    return resolve(name, revision=revision, offline=local_files_only, report=silence).path


def _meaning(name: str, revision: str | None) -> ModelName:
    meaning = parse_name(name)
    if revision is not None:
        check_revision(revision)
        if not isinstance(meaning, HubName):
            raise UsageError(f"--revision is for models on the Hub, and {name!r} is not there")
    return meaning


def _resolve_repo(
    repo: str, revision: str | None, *, offline: bool, report: Reporter
) -> ModelFolder:
    found = cache.find_complete_snapshot(repo, revision)
    if found is not None:
        return ModelFolder(name=repo, path=found, revision=found.name, licence=read_licence(found))
    from bigcode_cli.hub.pull import pull

    return pull(repo, revision=revision, offline=offline, report=report)
