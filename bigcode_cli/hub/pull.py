"""Bring a model from the Hub into the Hugging Face cache."""

import os
import shutil
from pathlib import Path

from bigcode_cli.errors import ModelIncompleteError, ModelTooLargeError
from bigcode_cli.hub import cache
from bigcode_cli.hub.contents import (
    TOKENIZER_NAME,
    check_complete,
    find_weights,
    is_index,
    missing_files,
    read_shards,
)
from bigcode_cli.hub.download import bytes_missing, download
from bigcode_cli.hub.failures import endpoint, hub_errors, not_here_error
from bigcode_cli.hub.listing import Listing, RemoteFile, list_files
from bigcode_cli.hub.names import is_commit
from bigcode_cli.hub.sizes import format_size
from bigcode_cli.model.config import CONFIG_NAME, GPTBigCodeConfig
from bigcode_cli.records import ModelFolder, Reporter


def pull(
    repo: str, *, revision: str | None = None, offline: bool = False, report: Reporter
) -> ModelFolder:
    """Download what a model needs and is not in the cache yet, at what the revision means now.

    The configuration comes first, and an architecture that we cannot run is refused before its
    weights are fetched. What has arrived is kept when something fails, and the next pull goes on
    from there; the revision's name is remembered last, when all is there.

    Raises:
        ModelError: unknown, gated, offline, incomplete, corrupt, unsupported, or too large for
            the disk.
    """
    if offline or cache.forced_offline():
        raise _not_here(repo, revision)
    listing = list_files(repo, revision)
    with hub_errors(repo, revision):
        folder = download(listing, listing.find(CONFIG_NAME), report).parent
        GPTBigCodeConfig.from_file(folder)
        files = _choose_files(listing, report)
        missing = sum(bytes_missing(listing, file) for file in files)
        if missing:
            _check_space(repo, missing)
            report.note(_describe_licence(listing))
        for file in files:
            download(listing, file, report)
        check_complete(folder, name=repo)
        _remember(listing, revision)
    return ModelFolder(name=repo, path=folder, revision=listing.commit, licence=listing.licence)


def pull_description(
    repo: str, *, revision: str | None = None, offline: bool = False, report: Reporter
) -> tuple[Path, Listing | None]:
    """Bring only what tells what a model is, its configuration and its tokenizer.

    Returns:
        The snapshot's folder and, where the Hub was asked, its listing.

    Raises:
        ModelError: as for :func:`pull`.
    """
    found = cache.find_snapshot(repo, revision)
    if found is not None and not {CONFIG_NAME, TOKENIZER_NAME} & set(missing_files(found)):
        return found, None
    if offline or cache.forced_offline():
        raise _not_here(repo, revision)
    listing = list_files(repo, revision)
    with hub_errors(repo, revision):
        folder = download(listing, listing.find(CONFIG_NAME), report).parent
        GPTBigCodeConfig.from_file(folder)
        download(listing, listing.find(TOKENIZER_NAME), report)
    return folder, listing


def _not_here(repo: str, revision: str | None) -> Exception:
    """Why a model that may not be pulled cannot be used."""
    found = cache.find_snapshot(repo, revision)
    if found is None:
        return not_here_error(repo)
    missing = ", ".join(missing_files(found))
    return ModelIncompleteError(
        f"model {repo} was not pulled to its end: {missing} not on this machine",
        f"`bigcode models pull {repo}` fetches the rest, with the network on",
    )


def _choose_files(listing: Listing, report: Reporter) -> tuple[RemoteFile, ...]:
    """What is needed beside the configuration: the tokenizer and one set of weights."""
    entry = find_weights(listing.files)
    if entry is None:
        raise ModelIncompleteError(
            f"{listing.repo} has no weights on the Hub in a format that bigcode reads",
            "safetensors or PyTorch .bin",
        )
    files = [listing.find(TOKENIZER_NAME), listing.find(entry)]
    if is_index(entry):
        folder = download(listing, listing.find(entry), report).parent
        files.extend(listing.find(shard) for shard in read_shards(folder, entry))
    return tuple(files)


def _check_space(repo: str, missing: int) -> None:
    """Refuse a download that the disk cannot hold."""
    folder = cache.repo_folder(repo)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise ModelTooLargeError(
            f"{repo} needs {format_size(missing)} on the disk of {folder}, "
            f"{format_size(free)} free",
            "make room, or set HF_HOME to a folder on another disk",
        )


def _describe_licence(listing: Listing) -> str:
    page = f"{endpoint()}/{listing.repo}"
    if listing.licence is None:
        return f"{listing.repo}: no licence is named, see {page}"
    return f"{listing.repo}: licence {listing.licence}, see {page}"


def _remember(listing: Listing, revision: str | None) -> None:
    """Write down which commit a branch or tag means, as huggingface_hub does."""
    if revision is not None and is_commit(revision):
        return
    ref = cache.repo_folder(listing.repo) / "refs" / (revision or cache.DEFAULT_REVISION)
    ref.parent.mkdir(parents=True, exist_ok=True)
    part = ref.with_name(f"{ref.name}.{os.urandom(4).hex()}.part")
    part.write_text(listing.commit, "ascii")
    part.replace(ref)
