"""Where models of the user's own are kept, each under a plain name.

``$BIGCODE_HOME/models``; without that variable ``bigcode/models`` in the folder for users' data
(``$XDG_DATA_HOME``, by default ``~/.local/share``: the XDG Base Directory Specification).
"""

import os
import re
from pathlib import Path

HOME_VARIABLE = "BIGCODE_HOME"

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_])?")


def saved_folder() -> Path:
    """The folder that holds a folder for each saved model; it need not exist."""
    if own := os.environ.get(HOME_VARIABLE):
        return Path(own).expanduser() / "models"
    data = os.environ.get("XDG_DATA_HOME", "")
    # The specification has relative paths ignored.
    above = Path(data) if Path(data).is_absolute() else Path("~/.local/share").expanduser()
    return above / "bigcode" / "models"


def is_plain_name(name: str) -> bool:
    """Whether a model can be saved under this name: letters, digits, ``.``, ``_`` and ``-``."""
    return _NAME.fullmatch(name) is not None


def find_saved(name: str) -> Path | None:
    """The folder of the model that is saved under this name."""
    if not is_plain_name(name):
        return None
    folder = saved_folder() / name
    try:
        return folder if folder.is_dir() else None
    except OSError:
        return None


def list_saved() -> list[str]:
    """The names of all saved models, sorted."""
    try:
        names = [path.name for path in saved_folder().iterdir()]
    except OSError:
        return []
    return sorted(name for name in names if find_saved(name) is not None)
