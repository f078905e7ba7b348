"""The Hugging Face cache on this machine: where a repository's snapshot lies.

The layout is huggingface_hub's own (``models--OWNER--NAME/{blobs,refs,snapshots}``) and shared with
every program that uses it. Looking something up reads that layout directly: no network, and no
import of the client, which takes longer than starting the built-in model's tokenizer.
"""

import warnings
from pathlib import Path
from types import ModuleType

from bigcode_cli.hub.contents import missing_files
from bigcode_cli.hub.names import is_commit

DEFAULT_REVISION = "main"


def cache_folder() -> Path:
    """The cache, as ``HF_HUB_CACHE``, ``HF_HOME`` or the system's custom has it."""
    return Path(_constants().HF_HUB_CACHE)


def forced_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids the network."""
    return bool(_constants().HF_HUB_OFFLINE)


def _constants() -> ModuleType:
    """The client's settings from the environment; some of those it only warns about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from huggingface_hub import constants

    return constants


def repo_folder(repo: str) -> Path:
    """Where the cache keeps a repository, whether it is there or not."""
    return cache_folder() / f"models--{repo.replace('/', '--')}"


def find_commit(repo: str, revision: str | None) -> str | None:
    """The commit that a revision meant when it was last asked for; ``None`` if it never was."""
    if revision is not None and is_commit(revision):
        return revision
    try:
        commit = (repo_folder(repo) / "refs" / (revision or DEFAULT_REVISION)).read_text("ascii")
    except (OSError, ValueError):
        return None
    return commit if is_commit(commit) else None


def find_snapshot(repo: str, revision: str | None) -> Path | None:
    """The folder of a revision's files, complete or not; ``None`` where there is none."""
    commit = find_commit(repo, revision)
    if commit is None:
        return None
    folder = repo_folder(repo) / "snapshots" / commit
    return folder if folder.is_dir() else None


def find_complete_snapshot(repo: str, revision: str | None) -> Path | None:
    """The folder of a revision whose needed files are all there.

    Raises:
        ModelCorruptError: the index of the weights cannot be read.
    """
    folder = find_snapshot(repo, revision)
    return folder if folder is not None and not missing_files(folder) else None
