"""JSON Lines of labelled texts, and the digest that tells whether they were made again alike."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path


def write_jsonl(rows: Iterable[Mapping[str, object]], path: Path) -> str:
    """Write a line for each row, UTF-8; the file's SHA-256, in hexadecimal."""
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()
