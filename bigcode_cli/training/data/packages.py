"""Splits a data folder into packages, each with its version, licence and source files.

Three layouts are known: installed packages (``NAME.dist-info`` beside the code), one package (the
folder itself holds a licence file or a ``SOURCE.json``), and a folder of such packages.
``SOURCE.json`` holds ``name`` (or ``repository``), ``licence`` (or ``license``; an SPDX expression)
and ``version`` (or ``commit``).
"""

import csv
import email.parser
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bigcode_cli.errors import InputError
from bigcode_cli.folders import list_files, matches
from bigcode_cli.training.data import licences

GLOBS = ("*.py",)

_LICENCE_FILE = re.compile(r"(un)?licen[cs]e|copying", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Package:
    """A package found in a data folder.

    Attributes:
        version: a release or a commit, empty where neither is told.
        licence: its permissive licence, ``None`` where it has none that is known.
        root: the folder that ``files`` (sorted, relative) lie in.
    """

    name: str
    version: str
    licence: str | None
    root: Path
    files: tuple[str, ...]


def normal_name(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def find_packages(
    folder: Path, *, globs: Sequence[str] = GLOBS, any_licence: bool = False
) -> Iterator[Package]:
    """All packages of a data folder, by name.

    Args:
        globs: patterns of which a file must fit one, see ``folders.matches``.
        any_licence: what belongs to no package is one too, of the folder's name and without a
            licence that is known.

    Raises:
        InputError: the folder does not exist, or nothing in it tells of a package.
    """
    if not folder.is_dir():
        raise InputError(f"no data folder {folder}")
    installed = sorted(folder.glob("*.dist-info"))
    if installed:
        for info in installed:
            yield _installed(info, globs)
        return
    if describes_itself(folder):
        yield whole_package(folder, _files(folder, globs))
        return
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and describes_itself(path)]
    if not inner and not any_licence:
        raise InputError(
            f"no package in {folder}",
            "each needs a licence file or SOURCE.json, or be installed with its *.dist-info;"
            " --any-licence takes your own code without",
        )
    for path in inner:
        yield whole_package(path, _files(path, globs))
    if any_licence:
        taken = {path.name for path in inner}
        names = (name for name in list_files(folder) if name.split("/")[0] not in taken)
        yield whole_package(folder, fitting(names, globs))


def fitting(names: Iterable[str], globs: Sequence[str]) -> list[str]:
    """Those of some files' names that fit one of the patterns."""
    return [name for name in names if any(matches(name, glob) for glob in globs)]


def _files(folder: Path, globs: Sequence[str]) -> list[str]:
    """The files of a package: of a repository those that git would list, else all."""
    if (folder / ".git").exists():
        return fitting(list_files(folder), globs)
    names = [
        Path(where, name).relative_to(folder).as_posix()
        for where, _, files in os.walk(folder)
        for name in files
        if not (path := Path(where, name)).is_symlink() and path.is_file()
    ]
    return fitting(names, globs)


def _installed(info: Path, globs: Sequence[str]) -> Package:
    """A package by its ``*.dist-info`` (core metadata and RECORD, PEP 376 and PEP 639)."""
    metadata = info / "METADATA"
    headers = email.parser.Parser().parsestr(
        metadata.read_text("utf-8", "replace") if metadata.is_file() else "", headersonly=True
    )
    name = str(headers.get("Name") or info.name.split("-")[0])
    expression = headers.get("License-Expression")
    classifiers = [str(line) for line in headers.get_all("Classifier", [])]
    field = str(headers.get("License") or "")
    if expression:
        licence = licences.from_spdx(str(expression))
    elif any(line.startswith("License :: ") for line in classifiers):
        licence = licences.from_classifiers(classifiers)
    elif len(field) > 200:
        licence = licences.from_text(field)
    else:
        licence = licences.from_field(field) or _licence_of_files(info)
    record = info / "RECORD"
    files: list[str] = []
    if record.is_file():
        with record.open(encoding="utf-8", newline="") as lines:
            files = [row[0] for row in csv.reader(lines) if row]
    # What a package brought, but not the facts about it.
    inside = (
        path for path in files if not path.startswith(("..", "/")) and ".dist-info/" not in path
    )
    return Package(
        name,
        str(headers.get("Version") or ""),
        licence,
        info.parent,
        tuple(sorted(fitting(inside, globs))),
    )


def describes_itself(folder: Path) -> bool:
    """Whether a folder is a package: it has a licence file or a ``SOURCE.json`` at its top."""
    return (folder / "SOURCE.json").is_file() or any(_licence_files(folder))


def whole_package(folder: Path, files: Iterable[str]) -> Package:
    """A package by the ``SOURCE.json`` or the licence file at its top.

    Args:
        files: of its files, those to take, by their names from the folder.
    """
    facts: dict[str, object] = {}
    description = folder / "SOURCE.json"
    if description.is_file():
        try:
            facts = json.loads(description.read_text("utf-8"))
        except ValueError as error:
            raise InputError(f"{description} is not JSON: {error}") from None
    said = str(facts.get("licence") or facts.get("license") or "")
    licence = licences.from_field(said) if said else _licence_of_files(folder)
    name = str(facts.get("name") or facts.get("repository") or folder.absolute().name)
    version = str(facts.get("version") or facts.get("commit") or "")
    return Package(name, version, licence, folder, tuple(sorted(files)))


def _licence_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_file() and _LICENCE_FILE.match(path.name) and path.suffix != ".py":
            yield path


def _licence_of_files(folder: Path) -> str | None:
    """The licence of the licence files in a folder (or its ``licenses``); all must agree."""
    places = [place for place in (folder, folder / "licenses") if place.is_dir()]
    found = [
        licences.from_text(path.read_text("utf-8", "replace"))
        for place in places
        for path in _licence_files(place)
    ]
    known = [name for name in found if name]
    if not known or len(known) < len(found):
        return None
    return " AND ".join(dict.fromkeys(known))
