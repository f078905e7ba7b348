"""Sizes of files, as they are written: ``5GB``, ``200MiB``."""

import re

from bigcode_cli.errors import UsageError

_UNITS = {
    f"{letter}{binary}B": base**power
    for binary, base in (("", 1000), ("I", 1024))
    for power, letter in enumerate("KMGT", start=1)
}


def parse_size(size: int | str) -> int:
    """Bytes of ``5GB`` (decimal), ``5GiB`` (binary), in either case, or of a number of them.

    Raises:
        UsageError: it is no such size, or none.
    """
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d{1,15})\s*([KMGT]I?B)\s*", size, re.IGNORECASE | re.ASCII)
        count = 0 if match is None else int(match[1]) * _UNITS[match[2].upper()]
    else:
        count = size
    if type(count) is not int or count < 1:
        raise UsageError(f"{size!r} is no size", "give a number of bytes, or 5GB, 200MB, 500KiB …")
    return count
