"""Which files make a model folder, on the Hub and on disk."""

import json
from collections.abc import Collection
from pathlib import Path, PurePosixPath, PureWindowsPath

from bigcode_cli.errors import ModelCorruptError, ModelIncompleteError

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Where weights begin, the best first: one file, or the index of several."""


def find_weights(names: Collection[str]) -> str | None:
    """The file among ``names`` that the weights are read from: safetensors before ``.bin``."""
    return next((entry for entry in WEIGHTS if entry in names), None)


def is_index(entry: str) -> bool:
    """Whether the weights stand in several files that this one lists."""
    return entry.endswith(".index.json")


def read_shards(index: Path) -> tuple[str, ...]:
    """The shards that an index names, in order and each once.

    Raises:
        ModelCorruptError: no such JSON, or a name that is not a plain file name.
    """
    try:
        weight_map = json.loads(index.read_bytes())["weight_map"]
        shards = tuple(dict.fromkeys(weight_map.values()))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ModelCorruptError(f"{index} is not an index of weights") from error
    for shard in shards:
        if not isinstance(shard, str) or not _is_plain(shard):
            raise ModelCorruptError(f"{index} names {shard!r}, which is not a file of the model")
    return tuple(sorted(shards))


def _is_plain(name: str) -> bool:
    """Whether this is a bare file name on every system."""
    known = name.endswith((".safetensors", ".bin")) and name.isprintable()
    return known and PurePosixPath(name).name == name and PureWindowsPath(name).name == name


def missing_files(folder: Path) -> tuple[str, ...]:
    """The files that a model folder lacks; none where it is complete.

    Raises:
        ModelCorruptError: the index of the weights cannot be read.
    """
    needed = [CONFIG, TOKENIZER]
    entry = find_weights([name for name in WEIGHTS if (folder / name).exists()])
    if entry is None:
        needed.append(WEIGHTS[0])
    elif is_index(entry):
        needed.extend(read_shards(folder / entry))
    return tuple(name for name in needed if not (folder / name).is_file())


def check_complete(folder: Path, *, name: str, hint: str | None = None) -> None:
    """Refuse a folder that lacks a file.

    Raises:
        ModelIncompleteError: names the missing files.
        ModelCorruptError: the index of the weights cannot be read.
    """
    missing = missing_files(folder)
    if missing:
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise ModelIncompleteError(f"model {name} has no {shown}", hint)
