"""Rows' caches, and what the engine refuses before it touches anything."""

import ctypes
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from bigcode_cli.kernels.native.library import OUT_OF_MEMORY, REFUSED, library
from tests.kernels.native.models import SANITIZED, NativeModel, floats, ints, relative, sets_here
from tests.kernels.shapes import Numbers, geometry

INT_MAX = 2**31 - 1


@pytest.fixture(scope="module", params=[1, 6], ids=["one key head", "a key head each"])
def model(request: pytest.FixtureRequest) -> NativeModel:
    torch.manual_seed(0)
    shape = geometry(kv_heads=request.param)
    return NativeModel(Numbers(torch.float32, 16, torch.device("cpu")).weights(shape))


def text(count: int, seed: int = 0) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(151) for _ in range(count)]


def test_room_grows_and_what_is_held_stays(model: NativeModel) -> None:
    ids, growing, roomy = text(40), model.row(8), model.row()
    expected = roomy.feed(ids)
    parts = []
    for start in range(0, 40, 8):
        assert growing.reserve(start + 8) == 0
        parts.append(growing.feed(ids[start : start + 8]))
    assert relative(torch.cat(parts), expected) < 1e-5
    assert growing.reserve(41) == 0
    assert growing.reserve(2) == 0
    assert relative(growing.feed([7]), roomy.feed([7])) < 1e-5


def test_cut_it_is_a_row_that_never_knew_more(model: NativeModel) -> None:
    ids, row, fresh = text(20), model.row(), model.row()
    row.feed(ids)
    assert row.cut(9) == 0
    fresh.feed(ids[:9])
    other = text(6, 1)
    assert relative(row.feed(other), fresh.feed(other)) < 1e-5
    assert row.cut(0) == 0
    assert relative(row.feed(ids), model.row().feed(ids)) < 1e-5


@pytest.mark.parametrize("capacity", [10, 37, 128])
def test_a_copy_is_a_row_of_its_own(model: NativeModel, capacity: int) -> None:
    ids, row, copy = text(30), model.row(48), model.row(capacity)
    row.feed(ids)
    copy.feed(text(5, 2))
    assert copy.copy(row, 21) == 0
    assert copy.reserve(40) == 0
    expected = model.row()
    expected.feed(ids[:21])
    more = text(9, 3)
    assert relative(copy.feed(more), expected.feed(more)) < 1e-5
    # The one copied is as it was.
    assert relative(row.feed([4]), torch.stack([model.row().feed([*ids, 4])[-1]])) < 1e-5


def test_nothing_and_itself_can_be_copied(model: NativeModel) -> None:
    row, empty = model.row(), library().bigcode_cache(model.handle)
    ids = text(12)
    assert library().bigcode_cache_copy(empty, row.handle, 0) == 0
    row.feed(ids)
    assert row.copy(row, 7) == 0
    expected = model.row()
    expected.feed(ids[:7])
    assert relative(row.feed([1, 2]), expected.feed([1, 2])) < 1e-5
    assert library().bigcode_cache_copy(row.handle, empty, 0) == 0
    assert relative(row.feed([5]), model.row().feed([5])) < 1e-5
    library().bigcode_cache_free(empty)


def test_lengths_that_it_does_not_hold_are_refused(model: NativeModel) -> None:
    row, other = model.row(), model.row()
    row.feed(text(5))
    assert [row.cut(length) for length in (-1, 6, INT_MAX)] == [REFUSED] * 3
    assert [other.copy(row, length) for length in (-1, 6, INT_MAX)] == [REFUSED] * 3
    assert relative(row.feed([3]), model.row().feed([*text(5), 3])[-1:]) < 1e-5


@pytest.mark.skipif(SANITIZED, reason="a sanitizer ends a program that asks for too much")
def test_room_that_there_is_not_is_said_and_nothing_is_lost(model: NativeModel) -> None:
    row = model.row()
    row.feed(text(5))
    assert row.reserve(INT_MAX) in {OUT_OF_MEMORY, 0}
    assert relative(row.feed([3]), model.row().feed([*text(5), 3])[-1:]) < 1e-5


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        ([[151 + 9]], [0]),
        ([[-1]], [0]),
        ([[3, INT_MAX]], [0]),
        ([[3], []], [0]),
        ([[3], [4, 5]], [3]),
        ([[3], [4, 5]], [-1]),
        ([[3] * 129], [0]),
        ([[3], [1] * 21], [0]),
    ],
    ids=[
        *("an id beyond the table", "a negative id", "a huge id", "a row without tokens"),
        *("a place beyond the tokens", "a negative place", "more than positions", "no room"),
    ],
)
def test_a_pass_that_cannot_be_is_refused(
    model: NativeModel, ids: list[list[int]], wanted: list[int]
) -> None:
    rows = [model.row(128), model.row(20)][: len(ids)]
    done, states, logits = model.feed(rows, ids, wanted)
    assert done == REFUSED
    assert states.isnan().all()
    assert logits.isnan().all()
    # And the rows are as they were.
    for row in rows:
        assert relative(row.feed([7, 8]), model.row().feed([7, 8])) < 1e-5


def test_counts_are_refused_before_they_are_added_up(model: NativeModel) -> None:
    row = model.row()
    row.feed([1, 2])
    states = torch.zeros(1, 96)
    for count in (0, -1, -INT_MAX - 1, INT_MAX, INT_MAX - 1):
        caches = (ctypes.c_void_p * 1)(row.handle)
        done = library().bigcode_feed(
            *(model.handle, caches, ints([1]), ints([count]), 1),
            *(ints([0]), 1, floats(states), None),
        )
        assert done == REFUSED


def test_positions_are_counted_from_the_rows_first_token(model: NativeModel) -> None:
    row = model.row(400)
    row.feed(text(128))
    assert model.feed([row], [[3]], [0])[0] == REFUSED
    assert row.cut(127) == 0
    assert model.feed([row], [[3]], [0])[0] == 0


def test_a_row_is_fed_once_at_a_time(model: NativeModel) -> None:
    row, other = model.row(), model.row()
    assert model.feed([row, other, row], [[1], [2], [3]], [0])[0] == REFUSED


def test_targets_beyond_the_logits_are_refused(model: NativeModel) -> None:
    states = torch.randn(3, 96)
    told = torch.zeros(3, 3)
    for wrong in (-1, 151, INT_MAX):
        targets = ints([0, wrong, 1])
        done = library().bigcode_score(model.handle, floats(states), 3, targets, floats(told))
        assert done == REFUSED
        assert not told.any()


@pytest.mark.skipif(SANITIZED, reason="a sanitizer needs more memory than is left here")
def test_a_system_without_threads_gives_no_model_and_no_crash() -> None:
    program = """
import resource, torch
from tests.kernels.native.models import NativeModel, sets_here
from tests.kernels.shapes import Numbers, geometry
weights = Numbers(torch.float32, 16, torch.device("cpu")).weights(geometry())
NativeModel(weights, 1)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28,) * 2)
try:
    NativeModel(weights, 20_000)
except AssertionError:
    print("no model")
print(tuple(NativeModel(weights, 2).row(8).feed([1, 2]).shape))
"""
    call = [sys.executable, "-c", program]
    run = subprocess.run(call, check=False, capture_output=True, text=True)
    assert (run.stdout, run.returncode) == ("no model\n(2, 151)\n", 0), run.stderr


@pytest.mark.parametrize("name", sets_here())
def test_many_models_at_once_do_not_disturb_each_other(name: str) -> None:
    torch.manual_seed(1)
    weights = Numbers(torch.float32, 16, torch.device("cpu")).weights(geometry(layers=1))
    ids = text(30)
    expected = NativeModel(weights, 1, instructions=name).row().feed(ids)

    def run(threads: int) -> bool:
        row = NativeModel(weights, threads, instructions=name).row()
        parts = [row.feed([id_]) for id_ in ids[:20]] + [row.feed(ids[20:])]
        return relative(torch.cat(parts), expected) < 1e-5

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, [1, 2, 3, 4] * 3))
