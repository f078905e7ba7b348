"""Requests over a real pipe to a real process; the engine in it is this file."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bigcode_cli.bench import cpu_pipe
from bigcode_cli.bench.cpu_pipe import Remote, Width, serve
from bigcode_cli.errors import BigcodeError


class Echo:
    """Tells what it is asked."""

    def open(self, folder: str, width: Width, threads: int, context: int) -> dict[str, Any]:
        print("what a library has to say")
        return {"name": f"{folder} {width}", "read_bytes": threads, "version": str(context)}

    def prompt(self, ids: Sequence[int]) -> int:
        return sum(ids)

    def decode(self, count: int) -> int:
        if count == 0:
            raise ValueError("nothing")
        if count < 0:
            sys.exit(3)
        return count

    def logits(self, ids: Sequence[int]) -> list[float]:
        return [id_ / 3 for id_ in ids]

    def score(self, ids: Sequence[int]) -> float:
        return len(ids) / 7


def remote(monkeypatch: pytest.MonkeyPatch) -> Remote:
    monkeypatch.setattr(cpu_pipe, "ROOT", Path(__file__).parents[2])
    return Remote(sys.executable, __name__)


def test_each_call_gives_what_it_gives_over_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with remote(monkeypatch) as engine:
        told = engine.open("Ordner/é", "int8", 2, 512)
        assert told == {"name": "Ordner/é int8", "read_bytes": 2, "version": "512"}
        assert engine.prompt([1, 2, 3]) == 6
        assert engine.decode(5) == 5
        assert engine.logits([1, 2]) == [1 / 3, 2 / 3]  # to the last bit
        assert engine.score((1, 2, 3)) == 3 / 7


def test_a_failure_is_told_and_the_next_call_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    with remote(monkeypatch) as engine:
        with pytest.raises(BigcodeError, match="ValueError: nothing"):
            engine.decode(0)
        assert engine.decode(1) == 1


def test_an_engine_that_ends_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with remote(monkeypatch) as engine:
        with pytest.raises(BigcodeError, match="has ended"):
            engine.decode(-1)
        with pytest.raises(BigcodeError, match="has ended"):
            engine.decode(1)


if __name__ == "__main__":
    serve(Echo())
