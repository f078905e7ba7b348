"""How much threads read, and that all of it is looked at."""

import ctypes
from itertools import pairwise

import pytest

from bigcode_cli.bench import memory_speed
from bigcode_cli.bench.memory_speed import read_bandwidth


@pytest.mark.parametrize("threads", [1, 3])
def test_a_bandwidth_is_one_of_memory(threads: int) -> None:
    assert 1e8 < read_bandwidth(threads, size=2**24, rounds=2) < 1e13


@pytest.mark.parametrize(("threads", "size"), [(1, 2**20), (2, 2**20 + 12345), (3, 100)])
def test_each_byte_is_looked_at_once_a_round(
    threads: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = memory_speed._finder()
    seen: list[tuple[int, int]] = []

    def counted(place: int, byte: int, count: int) -> object:
        seen.append((place, count))
        assert ctypes.string_at(place, count) == b"\1" * count, "a page that nobody wrote"
        found = find(place, byte, count)
        assert found is None, "a search that ends early reads less"
        return found

    monkeypatch.setattr(memory_speed, "_finder", lambda: counted)
    read_bandwidth(threads, size=size, rounds=1)
    rounds = 2
    assert sum(count for _, count in seen) == rounds * size
    parts = sorted(set(seen))
    assert len(seen) == rounds * len(parts)
    assert all(place + count == after for (place, count), (after, _) in pairwise(parts))
