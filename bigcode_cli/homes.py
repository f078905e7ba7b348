"""Where this program keeps files of its own for a user.

``$BIGCODE_HOME`` holds all of them; without that variable, the folders of the XDG Base Directory
Specification do.
"""

import os
from pathlib import Path

HOME_VARIABLE = "BIGCODE_HOME"


def data_folder() -> Path:
    """What is the user's own: ``$XDG_DATA_HOME/bigcode``, by default ``~/.local/share/bigcode``."""
    return _folder("XDG_DATA_HOME", "~/.local/share")


def cache_folder() -> Path:
    """What can be made again: ``$XDG_CACHE_HOME/bigcode``, by default ``~/.cache/bigcode``."""
    return _folder("XDG_CACHE_HOME", "~/.cache")


def _folder(variable: str, default: str) -> Path:
    if own := os.environ.get(HOME_VARIABLE):
        return Path(own).expanduser()
    named = os.environ.get(variable, "")
    # The specification has relative paths ignored.
    return (Path(named) if Path(named).is_absolute() else Path(default).expanduser()) / "bigcode"
