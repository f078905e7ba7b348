"""Where documents come from: folders of packages, files, patterns and JSON Lines.

All end as batches: some documents of one package, so that its licence is known, small enough for
one worker process to read and judge at a time.

A JSON Lines file holds ``{"text"}`` and optionally ``"path"``, ``"package"`` and ``"licence"`` (an
SPDX expression or a common name).
"""

import glob
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from bigcode_cli.errors import InputError
from bigcode_cli.training.data import licences
from bigcode_cli.training.data.packages import (
    GLOBS,
    Package,
    describes_itself,
    find_packages,
    whole_package,
)

DOCUMENTS = 64
"""Of a batch, at most."""
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Batch:
    """Some documents of one package.

    Attributes:
        names: of files, from the package's root; of records, as they tell them.
        texts: of records; ``None`` where there are files to be read.
    """

    package: Package
    names: tuple[str, ...]
    texts: tuple[str, ...] | None = None


def find_all(
    paths: Sequence[Path], *, globs: Sequence[str] = GLOBS, any_licence: bool = False
) -> list[Package]:
    """The packages of all folders and files, in the order they are named, single files last.

    Args:
        paths: folders (see ``find_packages``), files, or patterns of either; a file that is named
            or fits a pattern is taken whatever it is called.

    Raises:
        InputError: something is missing, or a folder tells of no package.
    """
    packages: list[Package] = []
    files: list[Path] = []
    for path in paths:
        for found in _expanded(path):
            if found.is_dir():
                packages += find_packages(found, globs=globs, any_licence=any_licence)
            else:
                files.append(found)
    return [*packages, *_packages_of(files)]


def batches(package: Package) -> Iterator[Batch]:
    """A package's files."""
    # Batches go to other processes; each needs only its own files.
    bare = replace(package, files=())
    for start in range(0, len(package.files), DOCUMENTS):
        yield Batch(bare, package.files[start : start + DOCUMENTS])


def read_records(path: Path) -> Iterator[Batch]:
    """The records of a JSON Lines file in their order; what belongs to one package stays together.

    Raises:
        InputError: the file cannot be read, or a line is no record; the message names it.
    """
    rows = _rows(path)
    for package, records in groupby(rows, key=lambda row: row[0]):
        names: list[str] = []
        texts: list[str] = []
        for _, name, text in records:
            names.append(name)
            texts.append(text)
            if len(names) == DOCUMENTS:
                yield Batch(package, tuple(names), tuple(texts))
                names, texts = [], []
        if names:
            yield Batch(package, tuple(names), tuple(texts))


def _expanded(path: Path) -> Iterable[Path]:
    """What a path or a pattern names; a path that exists is no pattern."""
    if path.exists():
        return [path]
    if not glob.has_magic(str(path)):
        raise InputError(f"no data folder or file {path}")
    # Path.glob takes no absolute pattern.
    found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
    if not found:
        raise InputError(f"nothing fits {path}")
    return map(Path, found)


def _packages_of(files: Sequence[Path]) -> Iterator[Package]:
    """Single files, each in the nearest folder above it that tells of a package."""
    homes: dict[Path, dict[str, None]] = {}
    for file in files:
        path = file.resolve()
        home = _home(path)
        homes.setdefault(home, {})[path.relative_to(home).as_posix()] = None
    for home, names in homes.items():
        yield whole_package(home, names)


def _home(file: Path) -> Path:
    """The package's folder; the file's own where none tells of one."""
    beyond = {Path(file.anchor), Path(os.path.expanduser("~"))}  # noqa: PTH111 - never raises
    for folder in file.parents:
        if folder in beyond:
            break
        try:
            if describes_itself(folder):
                return folder
        except OSError:
            break
        # Licences beside a repository are not its own.
        if (folder / ".git").exists():
            break
    return file.parent


def _rows(path: Path) -> Iterator[tuple[Package, str, str]]:
    """Package, name and text of each record."""
    packages: dict[tuple[str, str], Package] = {}
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: not JSON: {error}") from None
        if not isinstance(record, dict):
            raise InputError(f"{place}: not an object")
        text = record.get("text")
        if not isinstance(text, str):
            raise InputError(f'{place}: "text" must be a text')
        licence = _field(record, "licence", place) or _field(record, "license", place)
        key = _field(record, "package", place) or path.name.split(".")[0], licence
        if key not in packages:
            packages[key] = Package(key[0], "", licences.from_field(licence), path.parent, ())
        yield packages[key], _field(record, "path", place), text


def _field(record: dict[str, object], name: str, place: str) -> str:
    value = record.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f'{place}: "{name}" must be a text')
    return value


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            packed = file.peek(2).startswith(_GZIP)
            yield from gzip.GzipFile(fileobj=file) if packed else file
    except (OSError, EOFError, zlib.error) as error:
        said = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot read {path}: {said}") from None
