"""Texts of real files whose personal data and secrets people have marked, for a token head's test.

Run as ``python -m bigcode_cli.training.heads.pii_real MANIFEST CHECKOUTS OUT``. A manifest holds no
text: it names projects at commits, paths, and offsets in characters, those of a text in the file as
``filters.clean`` reads it, and those of its marked parts in the text. What counts is told in
``pii_data``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bigcode_cli.errors import BigcodeError, InputError
from bigcode_cli.training.data import filters
from bigcode_cli.training.data.checkouts import Checkout
from bigcode_cli.training.heads.jsonl import write_jsonl


def build(manifest: Mapping[str, Any], folder: Path) -> list[dict[str, object]]:
    """The records of a manifest, in its order.

    Raises:
        InputError: a checkout lacks a file, or the file ends before the text does.
    """
    files: dict[tuple[str, str, str], str] = {}
    for row in manifest["texts"]:
        files.setdefault((row["project"], row["commit"], row["path"]), "")
    for project, commit in sorted({key[:2] for key in files}):
        checkout = Checkout.find(folder, project, commit)
        wanted = {path for named, at, path in files if (named, at) == (project, commit)}
        entries = [entry for entry in checkout.entries() if entry.path in wanted]
        for entry, data in zip(entries, checkout.read(entries), strict=True):
            files[project, commit, entry.path] = filters.clean(data) or ""
    records: list[dict[str, object]] = []
    for row in manifest["texts"]:
        text = files[row["project"], row["commit"], row["path"]][row["start"] : row["end"]]
        if len(text) != row["end"] - row["start"]:
            raise InputError(f"{row['project']} has no such text in {row['path']}")
        records.append({"text": text, "spans": row["spans"]})
    return records


def main(
    manifest: Annotated[Path, typer.Argument(help="JSON: places of texts and of their parts.")],
    checkouts: Annotated[Path, typer.Argument(help="Folder of clones, each OWNER+NAME.")],
    out: Annotated[Path, typer.Argument(help="File to write the texts to, as JSONL.")],
) -> None:
    """Write marked texts from checkouts; print the file's SHA-256."""
    try:
        records = build(json.loads(manifest.read_text("utf-8")), checkouts)
    except BigcodeError as error:
        raise SystemExit(f"error: {error}") from None
    typer.echo(write_jsonl(records, out))


if __name__ == "__main__":
    typer.run(main)
