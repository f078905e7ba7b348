"""Which models are on this machine, and how to be rid of one."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bigcode_cli.errors import (
    ModelError,
    ModelIncompleteError,
    ModelNotFoundError,
    UsageError,
)
from bigcode_cli.hub import cache
from bigcode_cli.hub.contents import missing_files
from bigcode_cli.hub.deltas import read_delta
from bigcode_cli.hub.failures import quiet_client
from bigcode_cli.hub.names import (
    BUILTIN_MODELS,
    HubName,
    SavedName,
    check_revision,
    is_commit,
    is_repo_id,
    parse_name,
)
from bigcode_cli.hub.resolve import BUILTIN_FOLDER
from bigcode_cli.hub.saved import find_saved, list_saved
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.quantized_files import list_quantized

_BITS_SIGN = "@"
"""Stands in no Hub id and in no saved model's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A model on this machine.

    Attributes:
        kind: what brought it here; ``quantized`` are weights that were made of a model's, kept
            under its name, ``@`` and their bits.
        revision: its commit; ``None`` unless it came from the Hub.
        refs: the branches and tags that meant this commit when they were last asked for.
        size: bytes on disk; files that several revisions share count for each.
        complete: whether all that is needed to run it is there.
    """

    name: str
    path: Path
    kind: Literal["built-in", "saved", "hub", "quantized"]
    revision: str | None = None
    refs: tuple[str, ...] = ()
    size: int
    complete: bool


def list_models() -> list[LocalModel]:
    """The built-in models, the user's own, the cached ones of this family, and quantised weights.

    Each kind is sorted by name.
    """
    cached = sorted(_list_cached(), key=lambda model: model.name)
    return [*_list_builtin(), *_list_saved(), *cached, *_list_quantized()]


def _list_builtin() -> Iterator[LocalModel]:
    for name in BUILTIN_MODELS:
        folder = BUILTIN_FOLDER / name
        if folder.is_dir():
            yield _measure(name, folder, "built-in")


def _list_saved() -> Iterator[LocalModel]:
    for name in list_saved():
        if (folder := find_saved(name)) is not None:
            yield _measure(name, folder, "saved")


def _list_cached() -> Iterator[LocalModel]:
    try:
        repos = list(cache.cache_folder().glob("models--*--*"))
    except OSError:
        return
    for repo in repos:
        name = repo.name.removeprefix("models--").replace("--", "/")
        if not is_repo_id(name):
            continue
        refs = _read_refs(repo)
        for snapshot in sorted(repo.glob("snapshots/*")):
            if is_commit(snapshot.name) and _is_of_the_family(snapshot):
                yield _measure(name, snapshot, "hub", snapshot.name, refs.get(snapshot.name, ()))


def _list_quantized() -> Iterator[LocalModel]:
    for kept in list_quantized():
        yield LocalModel(
            name=f"{kept.model}{_BITS_SIGN}{kept.quantize}",
            path=kept.path,
            kind="quantized",
            size=kept.size,
            complete=True,
        )


def _is_of_the_family(snapshot: Path) -> bool:
    try:
        GPTBigCodeConfig.from_file(snapshot)
    except ModelError:
        return False
    return True


def _read_refs(repo: Path) -> dict[str, tuple[str, ...]]:
    """Branches and tags by the commit they mean."""
    found: dict[str, tuple[str, ...]] = {}
    folder = repo / "refs"
    for ref in sorted(path for path in folder.rglob("*") if path.is_file()):
        commit = ref.read_text("utf-8", errors="replace").strip()
        found[commit] = (*found.get(commit, ()), ref.relative_to(folder).as_posix())
    return found


def _measure(
    name: str,
    folder: Path,
    kind: Literal["built-in", "saved", "hub"],
    revision: str | None = None,
    refs: tuple[str, ...] = (),
) -> LocalModel:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    try:
        # What differs from another model has that one's tokenizer.
        complete = not missing_files(folder, has_tokenizer=read_delta(folder) is None)
    except ModelError:
        complete = False
    return LocalModel(
        name=name,
        path=folder,
        kind=kind,
        revision=revision,
        refs=refs,
        size=size,
        complete=complete,
    )


def require_hub_name(name: str, revision: str | None) -> None:
    """Refuse what can be neither pulled nor removed.

    Only a Hub id counts, even where a folder of that name lies in the working directory.

    Raises:
        UsageError: it names a built-in model or a folder, or the revision is none.
        ModelNotFoundError: it is no name at all.
    """
    if revision is not None:
        check_revision(revision)
    if not is_repo_id(name) and not isinstance(parse_name(name), HubName):
        raise UsageError(f"{name!r} is not a model on the Hub", "give a Hub id: owner/name")


def find_removable(name: str, revision: str | None) -> Path:
    """What ``remove_model`` would delete: a saved model, one of the cache, or quantised weights.

    Those are files, one for each state that the model was in; the last of them is given.

    Raises:
        UsageError: the model is neither saved nor from the Hub, or the revision is none.
        ModelNotFoundError: it is not in the cache.
    """
    if kept := _find_quantized(name, revision):
        return kept[-1]
    if (saved := _find_saved(name, revision)) is not None:
        return saved
    require_hub_name(name, revision)
    folder = cache.repo_folder(name)
    found = cache.find_snapshot(name, revision) if revision is not None else folder
    if found is None or not found.is_dir():
        what = name if revision is None else f"revision {revision!r} of {name}"
        raise ModelNotFoundError(
            f"{what} is not in the cache", "`bigcode models list` shows what is"
        )
    return found


def _find_quantized(name: str, revision: str | None) -> list[Path]:
    """The files of quantised weights that are listed under this name."""
    paths = [model.path for model in _list_quantized() if model.name == name]
    if paths and revision is not None:
        raise UsageError(f"--revision is for models on the Hub, and {name!r} is not there")
    return paths


def _find_saved(name: str, revision: str | None) -> Path | None:
    meaning = parse_name(name) if find_saved(name) is not None else None
    if not isinstance(meaning, SavedName):
        return None
    if revision is not None:
        raise UsageError(f"--revision is for models on the Hub, and {name!r} is not there")
    return meaning.path


def remove_model(name: str, revision: str | None) -> int:
    """Delete a saved model, one of the cache or one revision of it; how many bytes that freed.

    What other revisions share stays.

    Raises:
        UsageError, ModelNotFoundError: as for ``find_removable``.
        ModelIncompleteError: the cache is in no state to tell what revisions share.
        ModelError: a file cannot be deleted.
    """
    target = find_removable(name, revision)
    if kept := _find_quantized(name, revision):
        return sum(_delete_file(path) for path in kept)
    if _find_saved(name, revision) is not None:
        return _delete_saved(target)
    repo = cache.repo_folder(name)
    before = _disk_bytes(repo)
    try:
        if revision is None:
            shutil.rmtree(repo)
            shutil.rmtree(repo.parent / ".locks" / repo.name, ignore_errors=True)
        else:
            _delete_revision(name, target.name)
    except OSError as error:
        raise ModelError(f"cannot remove {target}: {error.strerror or error}") from error
    return before - _disk_bytes(repo)


def _delete_saved(folder: Path) -> int:
    size = _disk_bytes(folder)
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise ModelError(f"cannot remove {folder}: {error.strerror or error}") from error
    return size


def _delete_file(path: Path) -> int:
    try:
        size = path.stat().st_size
        path.unlink()
    except OSError as error:
        raise ModelError(f"cannot remove {path}: {error.strerror or error}") from error
    return size


def _delete_revision(name: str, commit: str) -> None:
    with quiet_client():
        from huggingface_hub import scan_cache_dir

        scanned = scan_cache_dir(cache.cache_folder())
        known = {
            revision.commit_hash
            for repo in scanned.repos
            if repo.repo_id == name and repo.repo_type == "model"
            for revision in repo.revisions
        }
        if commit not in known:
            raise ModelIncompleteError(
                f"the cache of {name} is damaged", f"remove it whole: bigcode models remove {name}"
            )
        scanned.delete_revisions(commit).execute()


def _disk_bytes(folder: Path) -> int:
    """Bytes of the files below a folder, each blob once."""
    return sum(
        path.lstat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    )
