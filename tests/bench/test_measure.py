"""Turns, warm-up, failures and interrupts, on a clock that the sides themselves move."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from bigcode_cli.backends.plans import MIN_USES
from bigcode_cli.bench import measure as measuring
from bigcode_cli.bench.cases import Case
from bigcode_cli.bench.measure import DeviceMemory, Mark, Samples, device_clock, measure
from bigcode_cli.errors import BigcodeError
from bigcode_cli.records import Silence

PP, TG = Case(kind="pp", n_prompt=10), Case(kind="tg", n_gen=5)


@dataclass
class World:
    """Time, and what happened in it."""

    now: int = 0
    turns: list[str] = field(default_factory=list)

    def clock(self) -> int:
        return self.now

    def begin(self) -> None:
        self.turns.append("memory")

    def peak(self, weight_bytes: int) -> int | None:
        return weight_bytes + self.now


@dataclass
class TimedSide:
    """Takes ``cost`` more each time; fails or is interrupted at a turn, if that is set."""

    world: World
    name: str
    cost: int
    kinds: str = "pp tg"
    fails_at: int | None = None
    interrupted_at: int | None = None
    weight_bytes: int = 1000
    ids: list[list[int]] = field(default_factory=lambda: [[7]])
    nll: float | None = None
    turn: int = 0
    released: int = 0

    def can(self, case: Case) -> bool:
        return case.kind in self.kinds

    def tokens(self, case: Case) -> int:
        return case.tokens

    def release(self) -> None:
        self.released += 1

    def run(self, case: Case) -> Iterator[Mark]:
        self.turn += 1
        self.world.turns.append(f"{self.name} {case.label}")
        if self.turn == self.fails_at:
            raise BigcodeError("no room\nfor it")
        if self.turn == self.interrupted_at:
            raise KeyboardInterrupt
        self.world.now += 10_000  # prepares
        yield "begun"
        self.world.now += self.cost * self.turn
        yield "ended"
        if case.kind == "pp":
            self.world.now += 1
            yield "first"


def measured(world: World, *sides: TimedSide, repetitions: int = 2) -> list[Samples]:
    done: list[Samples] = []
    measure(
        [PP, TG], sides, repetitions=repetitions, clock=world.clock, memory=world,
        report=Silence(), done=done,
    )  # fmt: skip
    return done


def test_sides_take_turns_and_the_first_turn_warms_up() -> None:
    world = World()
    a, b = TimedSide(world, "a", 1), TimedSide(world, "b", 100)
    done = measured(world, a, b)
    runs = [turn for turn in world.turns if turn != "memory"]
    assert runs == ["a pp10", "b pp10"] * 3 + ["a tg5", "b tg5"] * 3
    assert [(one.side, one.case.label) for one in done] == [
        ("a", "pp10"), ("b", "pp10"), ("a", "tg5"), ("b", "tg5"),
    ]  # fmt: skip
    assert [one.samples_ns for one in done] == [[2, 3], [200, 300], [5, 6], [500, 600]]
    assert [one.first_token_ns for one in done] == [[3, 4], [201, 301], [], []]
    assert [one.tokens for one in done] == [10, 10, 5, 5]
    assert [one.ids for one in done] == [[], [], [[7]], [[7]]]
    assert a.released == b.released == 6


def test_preparation_is_not_timed_and_the_peak_is_the_highest() -> None:
    world = World()
    (pp, _) = measured(world, TimedSide(world, "a", 1))
    assert max(pp.samples_ns) < 10_000
    assert pp.peak_memory_bytes == 1000 + 3 * 10_000 + 1 + 2 + 3 + 3


def test_a_side_does_only_what_it_can() -> None:
    world = World()
    done = measured(world, TimedSide(world, "a", 1), TimedSide(world, "b", 1, kinds="tg"))
    assert [(one.side, one.case.kind) for one in done] == [("a", "pp"), ("a", "tg"), ("b", "tg")]


@pytest.mark.parametrize(("turn", "samples"), [(1, []), (2, []), (3, [2])])
def test_a_side_that_fails_leaves_its_case_and_the_others_go_on(
    turn: int, samples: list[int]
) -> None:
    world = World()
    done = measured(world, TimedSide(world, "a", 1, fails_at=turn), TimedSide(world, "b", 1))
    failed, other = done[:2]
    assert (failed.error, failed.samples_ns) == ("no room", samples)
    assert len(other.samples_ns) == 2
    assert [one.error for one in done[2:]] == [None, None]


def test_what_was_measured_before_an_interrupt_is_kept() -> None:
    world = World()
    done: list[Samples] = []
    side = TimedSide(world, "a", 1, interrupted_at=6)
    with pytest.raises(KeyboardInterrupt):
        measure(
            [PP, TG], [side], repetitions=2, clock=world.clock, memory=world,
            report=Silence(), done=done,
        )  # fmt: skip
    assert [one.samples_ns for one in done] == [[2, 3], [5]]
    assert side.released == 6


def test_scoring_warms_up_until_its_shape_is_planned() -> None:
    world, done = World(), list[Samples]()
    side = TimedSide(world, "a", 1, kinds="sc")
    case = Case(kind="sc", n_prompt=9)
    measure(
        [case], [side], repetitions=2, clock=world.clock, memory=world, report=Silence(), done=done
    )
    assert done[0].samples_ns == [MIN_USES + 1, MIN_USES + 2]


def test_the_clock_of_a_cpu_goes_forward() -> None:
    clock = device_clock("cpu")
    assert clock() <= clock()


def test_memory_of_a_process_is_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = DeviceMemory("cpu", is_shared=False)
    memory.begin()
    before = memory.peak(0)
    torch.ones(2**24).sum()  # 64 MiB
    after = memory.peak(0)
    assert before is not None
    assert after is not None
    assert after >= before > 2**25
    monkeypatch.setattr(measuring, "_STATUS", Path("/none"))
    since_begun = memory.peak(0)
    assert since_begun is not None
    assert since_begun > 2**25
    assert DeviceMemory("cpu", is_shared=True).peak(0) is None
