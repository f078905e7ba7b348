"""Running the program: within this process on streams of its own, or as a process."""

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from bigcode_cli.cli.app import run

ROOT = Path(__file__).parents[2]


class Stream(io.TextIOWrapper):
    """A text stream over bytes in memory, which may claim to be a terminal."""

    def __init__(self, data: bytes = b"", *, terminal: bool = False) -> None:
        self.bytes = io.BytesIO(data)
        self.terminal = terminal
        super().__init__(self.bytes, encoding="utf-8", newline="")

    def isatty(self) -> bool:
        return self.terminal


@dataclass(frozen=True)
class Result:
    """What came of a command line."""

    code: int
    stdout: bytes
    stderr: str


@dataclass(frozen=True)
class Program:
    """The program within this process. ``stdin=None`` is a terminal at which nobody types."""

    patch: pytest.MonkeyPatch

    def __call__(
        self,
        *args: object,
        stdin: bytes | None = b"",
        stdout_terminal: bool = False,
        stderr_terminal: bool = False,
    ) -> Result:
        out, err = Stream(terminal=stdout_terminal), Stream(terminal=stderr_terminal)
        with self.patch.context() as patch:
            patch.setattr(sys, "stdin", Stream(stdin or b"", terminal=stdin is None))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            code = run([str(arg) for arg in args])
            out.flush()
            err.flush()
        return Result(code, out.bytes.getvalue(), err.bytes.getvalue().decode())


def command(*args: object) -> list[str]:
    """The program as a process' command line."""
    return [sys.executable, "-m", "bigcode_cli", *map(str, args)]


def environment(**changes: str) -> dict[str, str]:
    """This process' environment, with the package importable from anywhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **changes}


def run_process(
    args: Sequence[object], stdout: IO[bytes] | int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    """Run the program as a process of its own."""
    return subprocess.run(
        command(*args),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=120,
        check=False,
    )
