"""Splits a data folder into packages, each with its version, licence and source files.

Three layouts are known: installed packages (``NAME.dist-info`` beside the code), one package (the
folder itself holds a licence file or a ``SOURCE.json``), and a folder of such packages.
``SOURCE.json`` holds ``name`` (or ``repository``), ``licence`` (or ``license``; an SPDX expression)
and ``version`` (or ``commit``).
"""

import csv
import email.parser
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bigcode_cli.errors import InputError
from bigcode_cli.training import licences

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


def find_packages(folder: Path) -> Iterator[Package]:
    """All packages of a data folder, by name.

    Raises:
        InputError: the folder does not exist, or nothing in it tells of a package.
    """
    if not folder.is_dir():
        raise InputError(f"no data folder {folder}")
    installed = sorted(folder.glob("*.dist-info"))
    if installed:
        for info in installed:
            yield _installed(info)
        return
    if _describes_itself(folder):
        yield _folder(folder)
        return
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and _describes_itself(path)]
    if not inner:
        raise InputError(
            f"no package in {folder}",
            "each needs a licence file or SOURCE.json, or be installed with its *.dist-info",
        )
    for path in inner:
        yield _folder(path)


def _installed(info: Path) -> Package:
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
            files = [row[0] for row in csv.reader(lines) if row and row[0].endswith(".py")]
    inside = sorted(path for path in files if not path.startswith(("..", "/")))
    return Package(name, str(headers.get("Version") or ""), licence, info.parent, tuple(inside))


def _describes_itself(folder: Path) -> bool:
    return (folder / "SOURCE.json").is_file() or any(_licence_files(folder))


def _folder(folder: Path) -> Package:
    """A package by the ``SOURCE.json`` or the licence file at its top."""
    facts: dict[str, object] = {}
    description = folder / "SOURCE.json"
    if description.is_file():
        try:
            facts = json.loads(description.read_text("utf-8"))
        except ValueError as error:
            raise InputError(f"{description} is not JSON: {error}") from None
    said = str(facts.get("licence") or facts.get("license") or "")
    licence = licences.from_field(said) if said else _licence_of_files(folder)
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if path.is_file() and not path.is_symlink()
    )
    name = str(facts.get("name") or facts.get("repository") or folder.name)
    version = str(facts.get("version") or facts.get("commit") or "")
    return Package(name, version, licence, folder, tuple(files))


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
