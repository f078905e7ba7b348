"""A checkpoint's folder as numpy arrays, without torch: what the peers' interpreters read."""

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.tensor_index import read_header

WEIGHTS = "model.safetensors"


class Checkpoint:
    """``config.json`` and one file of float16 and float32 tensors, mapped.

    Raises:
        ModelCorruptError: the file is no such one.
    """

    def __init__(self, folder: Path) -> None:
        self.config = GPTBigCodeConfig.from_file(folder)
        self._entries = read_header(folder / WEIGHTS)
        with (folder / WEIGHTS).open("rb") as file:
            self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def names(self) -> Sequence[str]:
        """Of its tensors."""
        return list(self._entries)

    def array(self, name: str) -> Any:  # noqa: ANN401
        """One of them, not copied."""
        import numpy as np

        entry = self._entries[name]
        kind = np.dtype({"F16": "float16", "F32": "float32"}[entry.dtype])
        count = (entry.stop - entry.start) // kind.itemsize
        return np.frombuffer(self._memory, kind, count, entry.start).reshape(entry.shape)
