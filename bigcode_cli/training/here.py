"""Tuning a model to one folder: which of its files are learned from, and what is saved."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bigcode_cli.backends.loading import load
from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.folders import list_files, matches
from bigcode_cli.hub.deltas import base_keys
from bigcode_cli.hub.saved import is_plain_name
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import save_difference
from bigcode_cli.model.shards import Storage
from bigcode_cli.records import LoadOptions, ModelFolder, Reporter
from bigcode_cli.text.secrets import secret_reason
from bigcode_cli.training.adapt import AdaptSettings
from bigcode_cli.training.data.near_duplicates import near_duplicate_groups, sketch

FEWEST_FILES = 5
HELD_OUT = 0.1
"""Of the files, rounded up; never fewer than two, so that a change can be told from chance."""

MEASURED_BYTES = 100_000
"""Of what is held out: what two cores score in about half a minute."""

MAX_BYTES = 400_000
MAX_LINE = 1_000
"""Of files that someone wrote, as ``bench.infill_repo`` has it."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a folder.

    Attributes:
        name: from the folder, with slashes.
        text: exactly what it holds.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Split:
    """A folder's files on their two sides, in no order of their names.

    Attributes:
        left_out: files that match and are on neither side.
    """

    learned: tuple[SourceFile, ...]
    held_out: tuple[SourceFile, ...]
    left_out: int

    @property
    def texts(self) -> list[str]:
        """What is learned from, as the model sees code: no byte order mark, line ends of Unix."""
        return [
            file.text.removeprefix("\ufeff").replace("\r\n", "\n")
            for file in sorted(self.learned, key=lambda file: file.name)
        ]

    @property
    def measured(self) -> list[SourceFile]:
        """The held-out files that are measured: all of them, or the first of many."""
        chosen: list[SourceFile] = []
        room = MEASURED_BYTES
        for file in self.held_out:
            room -= len(file.text)
            if room < 0 and len(chosen) > 1:
                break
            chosen.append(file)
        return chosen


def split_folder(folder: Path, globs: Sequence[str], *, seed: int) -> Split:
    """Read a folder's files and hold some out; near-duplicates are on one side.

    Links, files that git ignores, and files that are empty, binary, large, minified or look as if
    they held secrets are left out, and so is a second file of the same text.

    Raises:
        InputError: there is no such folder, or too few files to learn from and to measure on.
        UsageError: datasketch is not installed.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}")
    names = [name for name in list_files(folder) if any(matches(name, glob) for glob in globs)]
    wanted = f"files in {folder} that match {' or '.join(globs)}"
    if not names:
        raise InputError(f"there are no {wanted}", "--glob says which files to learn from")
    files: dict[str, SourceFile] = {}
    for name in names:
        text = _read(folder, name)
        if text is not None:
            files.setdefault(text, SourceFile(name, text))
    if len(files) < FEWEST_FILES:
        raise InputError(
            f"{len(files)} usable {wanted}: too few to learn from and to measure on",
            f"at least {FEWEST_FILES} are needed",
        )
    return _split(list(files.values()), seed, left_out=len(names) - len(files))


def _read(folder: Path, name: str) -> str | None:
    """A file's text; ``None`` of one that is not to be learned from."""
    try:
        if (folder / name).stat().st_size > MAX_BYTES:
            return None
        text = (folder / name).read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if "\0" in text or not text.strip() or max(map(len, text.split("\n"))) > MAX_LINE:
        return None
    return None if secret_reason(name, text) is not None else text


def _split(files: list[SourceFile], seed: int, *, left_out: int) -> Split:
    """Hold groups of near-duplicates out, in an order of chance, those that are not too many."""
    room = max(2, math.ceil(HELD_OUT * len(files)))
    groups = near_duplicate_groups([sketch(file.text) for file in files])
    Random(seed).shuffle(groups)
    held_out: list[int] = []
    for group in groups:
        if len(held_out) + len(group) <= room:
            held_out += group
    learned = sorted(set(range(len(files))) - set(held_out))
    if not held_out or not learned:
        raise InputError("nothing can be held out: nearly all files are copies of one another")
    return Split(tuple(files[at] for at in learned), tuple(files[at] for at in held_out), left_out)


def default_name(folder: Path) -> str:
    """The name of what is tuned to a folder: ``flask-tuned``."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")[:80]
    name = f"{stem}-tuned" if stem else "tuned"
    assert is_plain_name(name)
    return name


def load_whole(
    base: ModelFolder, device: str, threads: int | None, report: Reporter
) -> GPTBigCodeForCausalLM:
    """The model that is to be tuned, in float32.

    Raises:
        ModelError: it cannot be loaded.
        UsageError: the device is not here.
    """
    options = LoadOptions(device=device, dtype="float32", threads=threads)
    return load(GPTBigCodeForCausalLM, base, options, report).model


def check_base(base: ModelFolder) -> None:
    """Refuse a base that differs from another model itself: nothing could stand on it.

    Raises:
        UsageError: it does.
    """
    if base.base is not None:
        raise UsageError(
            f"{base.name} was tuned itself and holds only what differs from its base",
            "tune that base again: name it with --model",
        )


def save_tuned(
    model: GPTBigCodeForCausalLM, settings: AdaptSettings, base: ModelFolder, folder: Path
) -> None:
    """Write what was trained; with the base it makes the tuned model.

    Factors are kept in float32, since they are small; whole matrices in bfloat16.

    Raises:
        OutputError: the folder cannot be written to.
        ModelError: the base cannot be read any more.
    """
    config = model.config.with_changes(extra={**model.config.extra, **base_keys(base)})
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    storage: Storage = "float32" if settings.rank else "bfloat16"
    save_difference(trained, config, type(model).__name__, folder, storage)
