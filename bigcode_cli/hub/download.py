"""One file from the Hub into the cache: resumed where it was cut, checked against its hash.

huggingface_hub throws a partial file away when a download fails; a model of many gigabytes on a
bad line would never arrive. So the bytes are fetched here, in its session, under the name that its
own older releases used (``blobs/HASH.incomplete``), and laid out as it lays them out.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bigcode_cli import __version__
from bigcode_cli.errors import ModelCorruptError
from bigcode_cli.hub import cache
from bigcode_cli.hub.failures import is_transient
from bigcode_cli.hub.listing import PROGRAM, Listing, RemoteFile
from bigcode_cli.records import Reporter

if TYPE_CHECKING:
    from hashlib import _Hash

CHUNK_BYTES = 1 << 20
RETRY_WAITS_S = (0.5, 1.0, 2.0, 4.0)
"""How long to wait after each try in a row that brought no byte."""


def is_here(listing: Listing, file: RemoteFile) -> bool:
    """Whether the snapshot of the listing's commit holds this file at its full size."""
    pointer = _pointer(listing, file)
    return pointer.is_file() and pointer.stat().st_size == file.size


def bytes_missing(listing: Listing, file: RemoteFile) -> int:
    """How many bytes of a file are still to be fetched."""
    if is_here(listing, file):
        return 0
    blob = _blob(listing, file)
    for found in (blob, _partial(blob)):
        if found.is_file() and found.stat().st_size <= file.size:
            return file.size - found.stat().st_size
    return file.size


def download(listing: Listing, file: RemoteFile, report: Reporter) -> Path:
    """Bring one file into the snapshot of the listing's commit, and say where it lies.

    Raises:
        ModelCorruptError: what arrives has another size or hash than the Hub promised.
    """
    pointer = _pointer(listing, file)
    if is_here(listing, file):
        return pointer
    blob = _blob(listing, file)
    for folder in (blob.parent, pointer.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with _locked(listing, file):
        if is_here(listing, file):  # by now: another process had the lock
            return pointer
        if not (blob.is_file() and blob.stat().st_size == file.size):
            _fetch(listing, file, _partial(blob), report)
            _partial(blob).replace(blob)
        _point(pointer, blob)
    return pointer


def _pointer(listing: Listing, file: RemoteFile) -> Path:
    return cache.repo_folder(listing.repo) / "snapshots" / listing.commit / file.name


def _blob(listing: Listing, file: RemoteFile) -> Path:
    return cache.repo_folder(listing.repo) / "blobs" / file.digest


def _partial(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.incomplete")


@contextmanager
def _locked(listing: Listing, file: RemoteFile) -> Iterator[None]:
    """Keep other processes, huggingface_hub's own among them, from fetching the same file."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    repo = cache.repo_folder(listing.repo)
    lock = repo.parent / ".locks" / repo.name / f"{file.digest}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        yield


def _point(pointer: Path, blob: Path) -> None:
    """Show a blob under its file's name; where links are not to be had, move it there."""
    pointer.unlink(missing_ok=True)
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        blob.replace(pointer)


def _fetch(listing: Listing, file: RemoteFile, partial: Path, report: Reporter) -> None:
    """Fill ``partial`` from its present end on, and check the whole."""
    with partial.open("a+b") as out:
        arrived = _Arrived(out, file)
        tries = 0
        while arrived.size < file.size:
            before = arrived.size
            try:
                _stream(listing, arrived, report)
            except Exception as error:
                tries = 0 if arrived.size > before else tries + 1
                if tries > len(RETRY_WAITS_S) or not is_transient(error):
                    raise
                time.sleep(RETRY_WAITS_S[max(tries - 1, 0)])
            else:
                break
    if arrived.size != file.size or arrived.digest() != file.digest:
        partial.unlink()
        found = "another hash" if arrived.size == file.size else f"{arrived.size} bytes"
        raise ModelCorruptError(
            f"{file.name} of {listing.repo} arrived with {found}, not {_promise(file, arrived)}",
            "pull again; if it stays so, the repository or a proxy on the way is at fault",
        )


def _promise(file: RemoteFile, arrived: "_Arrived") -> str:
    return "the one listed" if arrived.size == file.size else f"the {file.size} listed"


class _Arrived:
    """The bytes of a file that are here, hashed as they come.

    Args:
        out: opened for appending and reading; what it holds already counts.
    """

    def __init__(self, out: BinaryIO, file: RemoteFile) -> None:
        self.file = file
        self._out = out
        self._hash = new_hash(file.digest, file.size)
        self.size = 0
        out.seek(0)
        while self.size <= file.size and (chunk := out.read(CHUNK_BYTES)):
            self._hash.update(chunk)
            self.size += len(chunk)
        if self.size > file.size:
            self.restart()

    def write(self, chunk: bytes) -> None:
        self._out.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Forget what was here."""
        self._out.truncate(0)
        self._hash = new_hash(self.file.digest, self.file.size)
        self.size = 0

    def digest(self) -> str:
        return self._hash.hexdigest()


def _stream(listing: Listing, arrived: _Arrived, report: Reporter) -> None:
    """One request for the bytes that are missing; it may stop short of them."""
    from huggingface_hub import constants, get_session, hf_hub_url
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        hf_raise_for_status,
    )

    file = arrived.file
    url = hf_hub_url(listing.repo, file.name, revision=listing.commit)
    headers = build_hf_headers(library_name=PROGRAM, library_version=__version__)
    headers["Accept-Encoding"] = "identity"
    if arrived.size:
        headers["Range"] = f"bytes={arrived.size}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
        if response.is_error:
            response.read()
        hf_raise_for_status(response)
        if arrived.size and response.status_code != 206:
            arrived.restart()
        report.progress(file.name, arrived.size, file.size, "B")
        for chunk in response.iter_bytes(CHUNK_BYTES):
            arrived.write(chunk)
            if arrived.size > file.size:
                return
            report.progress(file.name, arrived.size, file.size, "B")


def new_hash(digest: str, size: int) -> "_Hash":
    """The hash that a file of ``size`` bytes has when its name in the cache is ``digest``.

    64 hexadecimal digits are a SHA-256; 40 are git's object id: the SHA-1 of ``blob SIZE``, a zero
    byte and the content (Chacon & Straub, Pro Git, 10.2).
    """
    if len(digest) == 64:
        return hashlib.sha256()
    return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
