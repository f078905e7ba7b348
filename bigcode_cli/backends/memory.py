"""How much memory is free, asked before anything large is loaded."""

import os
from pathlib import Path

from bigcode_cli.errors import ModelTooLargeError

_CGROUP = Path("/sys/fs/cgroup")


def free_host_bytes() -> int | None:
    """Bytes that this process may still take on the host; ``None`` where it cannot be told."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return _free_pages()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    available = int(fields["MemAvailable"].split()[0]) * 1024
    limit = _cgroup_room()
    return available if limit is None else min(available, limit)


def _cgroup_room() -> int | None:
    """What the container's limit leaves, not counting the page cache, which gives way."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        stat = (_CGROUP / "memory.stat").read_text().split()
    except (OSError, ValueError):
        return None
    if limit == "max":
        return None
    cached = int(stat[stat.index("file") + 1]) if "file" in stat else 0
    return int(limit) - used + cached


def _free_pages() -> int | None:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def require_memory(needed: int, free: int | None, what: str, hint: str) -> None:
    """Refuse before loading what would not fit.

    Raises:
        ModelTooLargeError: "needs 31 GB in bfloat16, 22 GB free" with the hint.
    """
    if free is not None and needed > free:
        raise ModelTooLargeError(f"{what}, {gigabytes(free)} free", hint)


def gigabytes(count: int) -> str:
    """``31 GB``, or ``0.3 GB`` below ten."""
    size = count / 1e9
    return f"{size:.0f} GB" if size >= 10 else f"{size:.1f} GB"
