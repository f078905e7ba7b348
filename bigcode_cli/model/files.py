"""Files of a model folder, which is untrusted: plain names, bounded sizes, nothing outside it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bigcode_cli.errors import ModelCorruptError, ModelIncompleteError

MAX_JSON_BYTES = 64 * 2**20
MAX_JSON_DEPTH = 64


def folder_file(folder: Path, name: str) -> Path:
    """The regular file ``name`` of a model folder.

    A symbolic link may lead to another file of the folder or, in a snapshot of the Hub's cache
    (``snapshots/REVISION/NAME``), into that repository's ``blobs``; nowhere else.

    Raises:
        ModelCorruptError: ``name`` is no plain file name, or the file lies outside the folder.
        ModelIncompleteError: there is no such file.
    """
    if not name or name in {".", ".."} or any(sign in name for sign in "/\\:\0"):
        raise ModelCorruptError(f"{folder}: {name!r} is not a plain file name")
    path = folder / name
    try:
        real = path.resolve(strict=True)
        home = folder.resolve(strict=True)
        if not real.is_file():
            raise ModelCorruptError(f"{path} is not a regular file")
    except (OSError, RuntimeError) as error:  # a loop of links raises RuntimeError before 3.13
        raise ModelIncompleteError(
            f"{path} is missing or unreadable", "download the model again, or check the folder"
        ) from error
    allowed = [home]
    if folder.absolute().parent.name == "snapshots":
        allowed.append(folder.absolute().parent.parent.resolve() / "blobs")
    if not any(real.is_relative_to(place) for place in allowed):
        raise ModelCorruptError(f"{path} links to a file outside the model's folder")
    return path


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in the file ``name`` of a model folder.

    Raises:
        ModelCorruptError: it is not a JSON object, or larger than 64 MiB.
        ModelIncompleteError: there is no such file.
    """
    path = folder_file(folder, name)
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelCorruptError(f"{path} is larger than {MAX_JSON_BYTES >> 20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise ModelIncompleteError(f"{path} cannot be read: {error.strerror}") from error
    return parse_json_object(data, str(path))


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as a JSON file, the whole of it or nothing.

    Raises:
        OSError: the file cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def parse_json_object(data: bytes, where: str) -> dict[str, Any]:
    """``data`` as one JSON object; ``where`` names it in the message.

    Raises:
        ModelCorruptError: it is not UTF-8, not JSON, not an object, names a key twice, or nests
            its values deeper than 64: what parses at the edge of the recursion limit could
            neither be shown nor written.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelCorruptError(f"{where} is not valid JSON: {reason}") from error
    if not isinstance(value, dict):
        raise ModelCorruptError(f"{where} is not a JSON object")
    level: list[Any] = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [item for outer in level for item in _items(outer)]
    if level:
        raise ModelCorruptError(f"{where} is not sane JSON: nested deeper than {MAX_JSON_DEPTH}")
    return value


def _items(value: object) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return result
