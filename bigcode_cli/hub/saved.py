"""Where models of the user's own are kept, each under a plain name.

The folder ``models`` in ``homes.data_folder``.
"""

import re
from pathlib import Path

from bigcode_cli.homes import data_folder

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_])?")


def saved_folder() -> Path:
    """The folder that holds a folder for each saved model; it need not exist."""
    return data_folder() / "models"


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
