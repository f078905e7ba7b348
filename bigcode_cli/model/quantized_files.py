"""Quantised weights that are kept: made once, by content, in the user's cache folder.

``quantized/KEY.safetensors`` in ``homes.cache_folder``. The key is a hash of everything that the
numbers come from: the bytes of all weight files, the configuration, the bits and ``FORMAT``. So
weights that changed are quantised anew, and the same ones under another name are not.

To hash gigabytes at each start would cost more than to read them. ``digests.json`` remembers the
SHA-256 of a file by what changes with its content: size, inode, and the times in nanoseconds at
which it was last written and changed, of which no program can set the second. A file that was
changed in the last seconds is not remembered, since clocks of file systems may stand still as long
(git calls such entries racily clean).
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigcode_cli.errors import ModelError, ModelIncompleteError
from bigcode_cli.homes import cache_folder
from bigcode_cli.model.config import CONFIG_NAME
from bigcode_cli.model.files import folder_file
from bigcode_cli.model.tensor_index import SAFETENSORS_SUFFIX, TensorIndex, read_metadata

FORMAT = 1
"""To be counted up where other numbers come of the same weights, or they are laid out otherwise."""

PART = ".part"
"""Ends the name of a file that is being written."""

_SETTLED_S = 3.0
_LEFT_BEHIND_S = 24 * 3600.0
_DIGESTS = "digests.json"


@dataclass(frozen=True, slots=True)
class QuantizedFile:
    """Quantised weights that are kept.

    Attributes:
        model: the name of the model when they were made.
        quantize: ``int8`` or ``int4``.
        size: bytes.
    """

    path: Path
    model: str
    quantize: str
    size: int


def quantized_folder() -> Path:
    """Where they are kept; it need not exist."""
    return cache_folder() / "quantized"


def quantized_path(index: TensorIndex, quantize: str) -> Path:
    """Where the quantised weights of a model are kept, whether they are or not.

    Args:
        index: of the model's folder, over that of its base where it has one.

    Raises:
        ModelIncompleteError: a file cannot be read.
    """
    digests = Digests()
    # Of two tensors of one name in several files, the folder's own index says which is meant.
    places = [
        (name, index.files.index(entry.file), entry.start) for name, entry in index.entries.items()
    ]
    key = hashlib.sha256(repr((FORMAT, quantize, places)).encode())
    for path in (folder_file(index.folder, CONFIG_NAME), *index.files):
        key.update(digests.of(path))
    digests.keep()
    return quantized_folder() / f"{key.hexdigest()}{SAFETENSORS_SUFFIX}"


def metadata(model: str, quantize: str) -> dict[str, str]:
    """What such a file says of itself in its header."""
    return {"format": "pt", "model": model, "quantize": quantize}


def list_quantized() -> list[QuantizedFile]:
    """All that are kept, by their model's name; what is no such file is left out."""
    return sorted(_found(), key=lambda one: (one.model, one.quantize, one.path))


def _found() -> Iterator[QuantizedFile]:
    try:
        paths = list(quantized_folder().glob(f"*{SAFETENSORS_SUFFIX}"))
    except OSError:
        return
    for path in paths:
        with suppress(ModelError, OSError):
            told = read_metadata(path)
            model, quantize = told.get("model"), told.get("quantize")
            if isinstance(model, str) and isinstance(quantize, str):
                yield QuantizedFile(path, model, quantize, path.stat().st_size)


def sweep() -> None:
    """Remove what writers that were killed have left; those at work are let be."""
    with suppress(OSError):
        for part in quantized_folder().glob(f".*{PART}"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > _LEFT_BEHIND_S:
                    part.unlink()


class Digests:
    """The SHA-256 of files, remembered from one run to the next."""

    def __init__(self) -> None:
        self._path = quantized_folder() / _DIGESTS
        self._known = _read(self._path)
        self._has_new = False

    def of(self, path: Path) -> bytes:
        """The digest of a file.

        Raises:
            ModelIncompleteError: it cannot be read.
        """
        place = str(path.resolve())
        try:
            with path.open("rb") as file:
                before = _state(file.fileno())
                known = self._known.get(place)
                if isinstance(known, dict) and known.get("state") == before:
                    with suppress(KeyError, TypeError, ValueError):
                        return bytes.fromhex(known["sha256"])
                digest = hashlib.file_digest(file, "sha256").digest()
                after = _state(file.fileno())
        except OSError as error:
            raise ModelIncompleteError(f"{path} cannot be read: {error.strerror}") from error
        if before == after and time.time() - max(after[2:]) / 1e9 > _SETTLED_S:
            self._known[place] = {"state": after, "sha256": digest.hex()}
            self._has_new = True
        return digest

    def keep(self) -> None:
        """Remember what was found out; where that cannot be written, it is found out again."""
        if not self._has_new:
            return
        kept = {place: known for place, known in self._known.items() if os.path.exists(place)}  # noqa: PTH110
        part = self._path.with_name(f".{_DIGESTS}.{os.getpid()}{PART}")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.write_text(json.dumps(kept), encoding="utf-8")
                part.replace(self._path)
            finally:
                part.unlink(missing_ok=True)


def _state(descriptor: int) -> list[int]:
    """What changes with a file's content: size, inode, times of writing and of change."""
    found = os.fstat(descriptor)
    return [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
