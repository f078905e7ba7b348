"""Bytes for people."""


def format_size(count: float) -> str:
    """Bytes in decimal units, as disks and download pages count: ``31 GB``, ``2.2 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if count >= 9.95 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
