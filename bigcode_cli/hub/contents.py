"""Which files make a model folder, on the Hub and on disk."""

import os
from collections.abc import Collection
from pathlib import Path, PurePosixPath, PureWindowsPath

from bigcode_cli.errors import ModelCorruptError, ModelIncompleteError
from bigcode_cli.model.config import CONFIG_NAME
from bigcode_cli.model.files import read_json
from bigcode_cli.model.tensor_index import (
    BIN_INDEX_NAME,
    BIN_NAME,
    SAFETENSORS_INDEX_NAME,
    SAFETENSORS_NAME,
)

TOKENIZER_NAME = "tokenizer.json"
WEIGHTS = (SAFETENSORS_NAME, SAFETENSORS_INDEX_NAME, BIN_NAME, BIN_INDEX_NAME)
"""Where weights begin, the best first: one file, or the index of several."""


def find_weights(names: Collection[str]) -> str | None:
    """The file among ``names`` that the weights are read from: safetensors before ``.bin``."""
    return next((entry for entry in WEIGHTS if entry in names), None)


def is_index(entry: str) -> bool:
    """Whether the weights stand in several files that this one lists."""
    return entry in {SAFETENSORS_INDEX_NAME, BIN_INDEX_NAME}


def read_shards(folder: Path, index: str) -> tuple[str, ...]:
    """The shards that the index of a folder names, sorted and each once.

    Raises:
        ModelIncompleteError: there is no such index.
        ModelCorruptError: it is no JSON of that form, or a name is not a plain file name.
    """
    weight_map = read_json(folder, index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelCorruptError(f"{folder / index} lists no weights")
    for shard in weight_map.values():
        if not isinstance(shard, str) or not _is_plain(shard):
            raise ModelCorruptError(
                f"{folder / index} names {shard!r}, which is no file of a model folder"
            )
    return tuple(sorted(set(weight_map.values())))


def _is_plain(name: str) -> bool:
    """Whether this is a bare file name on every system."""
    known = name.endswith((".safetensors", ".bin")) and name.isprintable()
    return known and PurePosixPath(name).name == name and PureWindowsPath(name).name == name


def missing_files(folder: Path, *, has_tokenizer: bool = True) -> tuple[str, ...]:
    """The files that a model folder lacks; none where it is complete.

    Args:
        has_tokenizer: it is to hold a tokenizer.

    Raises:
        ModelCorruptError: the index of the weights cannot be read.
    """
    needed = [CONFIG_NAME, TOKENIZER_NAME] if has_tokenizer else [CONFIG_NAME]
    # A link into a blob that is gone counts as there: it says which weights were meant.
    entry = find_weights([name for name in WEIGHTS if os.path.lexists(folder / name)])
    needed.append(entry or WEIGHTS[0])
    if entry is not None and is_index(entry) and (folder / entry).is_file():
        needed.extend(read_shards(folder, entry))
    return tuple(name for name in needed if not (folder / name).is_file())


def check_complete(
    folder: Path, *, name: str, hint: str | None = None, has_tokenizer: bool = True
) -> None:
    """Refuse a folder that lacks a file.

    Raises:
        ModelIncompleteError: names the missing files.
        ModelCorruptError: the index of the weights cannot be read.
    """
    missing = missing_files(folder, has_tokenizer=has_tokenizer)
    if missing:
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise ModelIncompleteError(f"model {name} has no {shown}", hint)
