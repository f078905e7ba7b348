"""What a corpus was made of: ``manifest.json``, and a table for the model card."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bigcode_cli.training.data.packages import Package

UNKNOWN = "unknown"
"""The licence of what is taken without one that is known to be permissive."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One line of the manifest."""

    package: str
    version: str
    licence: str
    files: int
    bytes: int


def count(documents: Iterable[tuple[Package, int]]) -> list[Taken]:
    """The lines of some documents, by package and size in bytes; sorted."""
    files: Counter[tuple[str, str, str]] = Counter()
    sizes: Counter[tuple[str, str, str]] = Counter()
    for package, size in documents:
        key = package.name, package.version, package.licence or UNKNOWN
        files[key] += 1
        sizes[key] += size
    rows = (Taken(*key, files[key], sizes[key]) for key in files)
    return sorted(rows, key=lambda row: (row.package.lower(), row.version, row.licence))


def write(
    out: Path,
    rows: list[Taken],
    *,
    dropped: Mapping[str, int],
    refused: list[dict[str, str]],
    held_out: list[Taken],
    facts: Mapping[str, Any],
) -> None:
    """Write ``manifest.json`` and ``manifest.md``.

    Args:
        dropped: how many files were left out for which reason.
        refused: packages that were left out as a whole.
        held_out: what was put aside.
        facts: how the data were chosen.
    """
    total = _total(rows)
    manifest = {
        **facts,
        "packages": [asdict(row) for row in rows],
        "total": total,
        "files_left_out": dict(sorted(dropped.items())),
        "packages_left_out": sorted(refused, key=lambda row: row["package"].lower()),
    }
    if held_out:
        manifest["held_out"] = {
            "packages": [asdict(row) for row in held_out],
            "total": _total(held_out),
        }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    lines = ["| package | version | licence | files | bytes |", "|---|---|---|---:|---:|"]
    lines += [
        f"| {row.package} | {row.version} | {row.licence} | {row.files:,} | {row.bytes:,} |"
        for row in rows
    ]
    lines.append(f"| **{len(rows)} packages** | | | {total['files']:,} | {total['bytes']:,} |")
    (out / "manifest.md").write_text("\n".join(lines) + "\n", "utf-8")


def _total(rows: list[Taken]) -> dict[str, int]:
    return {"files": sum(row.files for row in rows), "bytes": sum(row.bytes for row in rows)}
