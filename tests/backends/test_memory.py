"""Free memory as the system tells it, and the refusal that it leads to."""

from pathlib import Path

import pytest

from bigcode_cli.backends import memory
from bigcode_cli.errors import ModelTooLargeError


def test_this_machine_has_some_memory_but_not_without_end() -> None:
    free = memory.free_host_bytes()
    assert free is None or 2**20 < free < 2**50


@pytest.mark.parametrize(
    ("limit", "used", "cached", "room"),
    [("8000", 5000, 1000, 4000), ("max", 5000, 1000, None), (None, 0, 0, None)],
)
def test_a_containers_limit_counts_without_its_page_cache(
    limit: str | None,
    used: int,
    cached: int,
    room: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")
        (tmp_path / "memory.stat").write_text(f"anon 3\nfile {cached}\nkernel 4\n")
    assert memory._cgroup_room() == room
    if room is not None:
        assert memory.free_host_bytes() == room


def test_what_does_not_fit_is_refused_with_both_sizes() -> None:
    with pytest.raises(ModelTooLargeError) as caught:
        memory.require_memory(31 * 10**9, 22 * 10**9, "m needs 31 GB in bfloat16", "try less")
    assert caught.value.message == "m needs 31 GB in bfloat16, 22 GB free"
    assert caught.value.hint == "try less"
    memory.require_memory(31 * 10**9, 31 * 10**9, "m", "")
    memory.require_memory(31 * 10**9, None, "m", "")


def test_sizes_read_as_people_write_them() -> None:
    assert memory.gigabytes(31_000_000_000) == "31 GB"
    assert memory.gigabytes(320_000_000) == "0.3 GB"
