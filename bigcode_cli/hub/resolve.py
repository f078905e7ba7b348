"""From a model's name to a folder that holds it."""

from pathlib import Path

from bigcode_cli.errors import UsageError
from bigcode_cli.hub import cache
from bigcode_cli.hub.card import read_licence
from bigcode_cli.hub.contents import check_complete
from bigcode_cli.hub.names import (
    BuiltinName,
    FolderName,
    HubName,
    ModelName,
    check_revision,
    parse_name,
)
from bigcode_cli.records import ModelFolder, Reporter, Silence

BUILTIN_FOLDER = Path(__file__).parents[1] / "builtin"


def resolve(
    name: str, *, revision: str | None = None, offline: bool = False, report: Reporter
) -> ModelFolder:
    """Find a model, pulling it from the Hub where it is not here yet.

    A complete snapshot in the cache is used as it is, without asking the network whether the
    branch has moved on: ``bigcode models pull`` does that.

    Args:
        name: a built-in name, a folder, or a Hub id ``owner/name``.
        revision: branch, tag or commit of a Hub model; ``None`` is its main branch.
        offline: never use the network (``HF_HUB_OFFLINE`` does the same).

    Raises:
        ModelError: one of its leaves: unknown, gated, offline, incomplete, corrupt, unsupported,
            too large.
        UsageError: a revision that is none, or one for a model that is not on the Hub.
    """
    match _meaning(name, revision):
        case BuiltinName():
            folder = BUILTIN_FOLDER / name
            check_complete(folder, name=name, hint="install bigcode-cli again")
            return ModelFolder(name=name, path=folder, licence=read_licence(folder))
        case FolderName(path):
            check_complete(path, name=name)
            return ModelFolder(name=name, path=path, licence=read_licence(path))
        case HubName(repo):
            return _resolve_repo(repo, revision, offline=offline, report=report)


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
    if isinstance(meaning, FolderName):
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
