"""Turns, rounds, rows and the check that all do the same work; engines are numbers here."""

from collections.abc import Sequence
from typing import Any

import pytest

from bigcode_cli.bench.cases import Case
from bigcode_cli.bench.cpu_pipe import Width
from bigcode_cli.bench.cpu_turns import ROUNDS, Side, distances, results, take_turns
from bigcode_cli.errors import BigcodeError

PP, TG = Case(kind="pp", n_prompt=4), Case(kind="tg", n_gen=8)


class Fixed:
    """Takes so many nanoseconds a token and writes down whose turn it is."""

    def __init__(self, name: str, each: int, turns: list[str], logits: Sequence[float]) -> None:
        self.name, self.each, self.turns, self.found = name, each, turns, list(logits)

    def open(self, folder: str, width: Width, threads: int, context: int) -> dict[str, Any]:
        raise NotImplementedError

    def prompt(self, ids: Sequence[int]) -> int:
        self.turns.append(f"{self.name} prompt {len(ids)}")
        return self.each * len(ids)

    def decode(self, count: int) -> int:
        self.turns.append(f"{self.name} decode {count}")
        return self.each * count

    def logits(self, ids: Sequence[int]) -> list[float]:
        assert len(ids) == 4
        return self.found

    def score(self, ids: Sequence[int]) -> float:
        raise NotImplementedError


def sides(turns: list[str], their_logits: Sequence[float] = (3.0, 4.01)) -> list[Side]:
    return [
        Side("bigcode", Fixed("a", 100, turns, (3.0, 4.0)),
             {"name": "int8", "read_bytes": 500, "version": "1"}),
        Side("llama.cpp", Fixed("b", 150, turns, their_logits),
             {"name": "Q8_0", "read_bytes": 600, "version": "2"}),
    ]  # fmt: skip


def seconds_a_round(seconds: float) -> Any:
    ticks = iter([0.0, seconds])
    return lambda: next(ticks)


@pytest.mark.parametrize(
    ("each", "rounds"), [(100.0, ROUNDS[0]), (1.0, 5), (1e-3, ROUNDS[-1]), (0.0, ROUNDS[-1])]
)
def test_there_are_as_many_rounds_as_time_but_some(each: float, rounds: int) -> None:
    turns: list[str] = []
    rests: list[float] = []
    found = take_turns(
        sides(turns), PP, [1, 2, 3, 4], 5.0, clock=seconds_a_round(each), rest=rests.append
    )
    assert turns == ["a prompt 4", "b prompt 4"] * (1 + rounds), "by turns, a warm-up first"
    assert len(rests) == len(turns)
    assert [len(one.samples_ns) for one in found] == [rounds, rounds]
    assert [one.side for one in found] == ["bigcode", "llama.cpp"]


def test_rows_have_speed_ratio_and_the_share_of_what_memory_gives() -> None:
    turns: list[str] = []
    both = sides(turns)
    done = [
        one
        for case in (PP, TG)
        for one in take_turns(both, case, [1, 2, 3, 4], 0, rest=lambda _: None)
    ]
    assert turns[-2:] == ["a decode 8", "b decode 8"]
    rows = results(done, both, bandwidth=1e10)
    assert [(row["test"], row["engine"], row["weights"]) for row in rows] == [
        ("pp4", "bigcode", "int8"), ("pp4", "llama.cpp", "Q8_0"),
        ("tg8", "bigcode", "int8"), ("tg8", "llama.cpp", "Q8_0"),
    ]  # fmt: skip
    ours, theirs = rows[2:]
    assert ours["median_ts"] == pytest.approx(1e7)
    assert ours["bandwidth_fraction"] == pytest.approx(500 * 1e7 / 1e10)
    assert theirs["bandwidth_fraction"] == pytest.approx(600 * 1e7 / 1.5 / 1e10)
    assert theirs["ratio"] == {"median": 1.5, "interval": [1.5, 1.5]}
    assert "ratio" not in ours
    assert "bandwidth_fraction" not in rows[0]


def test_another_models_logits_are_no_comparison() -> None:
    assert distances(sides([]), "f16", [1, 2, 3, 4]) == {"llama.cpp": pytest.approx(0.01 / 5)}
    with pytest.raises(BigcodeError, match=r"llama\.cpp are 0\.2 apart"):
        distances(sides([], (3.0, 5.0)), "f16", [1, 2, 3, 4])
    assert distances(sides([], (3.0, 5.0)), "int4", [1, 2, 3, 4])
    with pytest.raises(BigcodeError, match="nan apart"):
        distances(sides([], (3.0, float("nan"))), "int4", [1, 2, 3, 4])
