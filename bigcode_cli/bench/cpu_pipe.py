"""An engine in a process of its own, driven over a pipe: one line of JSON a request and an answer.

So no engine needs what another imports, each keeps its model between turns, and times are taken
inside, around the work alone. Standard library only: the peers' interpreters run this file too.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from bigcode_cli.errors import BigcodeError

Width = Literal["f32", "f16", "int8", "int4"]
"""How a weight is stored; what an engine calls it is its own business."""

WIDTHS: tuple[Width, ...] = ("f16", "int8", "int4")
"""That engines are compared at."""

ROOT = Path(__file__).parents[2]
_PATIENCE_S = 20


class Engine(Protocol):
    """One model in memory. Ids and lengths are the caller's to keep within the model's."""

    def open(self, folder: str, width: Width, threads: int, context: int) -> dict[str, Any]:
        """Load a checkpoint's folder, ``config.json`` and ``model.safetensors`` in float16.

        Returns:
            ``name`` of the format, ``read_bytes`` of weights that a step reads, ``version``.
        """

    def prompt(self, ids: Sequence[int]) -> int:
        """Nanoseconds that a prompt takes from an empty cache to its last token's logits."""

    def decode(self, count: int) -> int:
        """Nanoseconds that so many tokens take from an empty cache, one after the other."""

    def logits(self, ids: Sequence[int]) -> list[float]:
        """Behind the last of them, from an empty cache."""

    def score(self, ids: Sequence[int]) -> float:
        """Nats of all but the first, each given those before it."""


def serve(engine: Engine) -> None:
    """Answer requests until there are no more. What the engine prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer = {"answer": getattr(engine, name)(*arguments)}
        except Exception as error:  # whatever a peer raises is the other side's to report
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


class Remote:
    """The other end: an engine in a process, as ``Engine`` has it.

    Args:
        python: the interpreter that has what the module imports.
        module: that calls ``serve``.
    """

    def __init__(self, python: str, module: str) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [python, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._requests.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def open(self, folder: str, width: Width, threads: int, context: int) -> dict[str, Any]:
        """See ``Engine``."""
        told: dict[str, Any] = self._ask("open", folder, width, threads, context)
        return told

    def prompt(self, ids: Sequence[int]) -> int:
        """See ``Engine``."""
        return int(self._ask("prompt", list(ids)))

    def decode(self, count: int) -> int:
        """See ``Engine``."""
        return int(self._ask("decode", count))

    def logits(self, ids: Sequence[int]) -> list[float]:
        """See ``Engine``."""
        found: list[float] = self._ask("logits", list(ids))
        return found

    def score(self, ids: Sequence[int]) -> float:
        """See ``Engine``."""
        return float(self._ask("score", list(ids)))

    def _ask(self, name: str, *arguments: object) -> Any:  # noqa: ANN401
        """What a call gives.

        Raises:
            BigcodeError: it fails, or the process has ended.
        """
        try:
            self._requests.write(json.dumps([name, arguments]) + "\n")
            self._requests.flush()
            line = self._answers.readline()
        except OSError:
            line = ""
        if not line:
            raise BigcodeError(f"{self._module} has ended, with status {self._process.poll()}")
        reply = json.loads(line)
        if "error" in reply:
            raise BigcodeError(f"{self._module}: {reply['error']}")
        return reply["answer"]
