"""The names of the heads that come with the package; help texts have them, so imports are few."""

import json
from pathlib import Path

BUILTIN_FOLDER = Path(__file__).parents[1] / "builtin"

_CLASSES = ("ForSequenceClassification", "ForTokenClassification")


def list_tasks(folder: Path = BUILTIN_FOLDER) -> tuple[str, ...]:
    """The names of the folders in it whose configuration names a classifier, sorted."""
    return tuple(
        sorted(path.parent.name for path in folder.glob("*/config.json") if _is_head(path))
    )


def _is_head(path: Path) -> bool:
    try:
        classes = json.loads(path.read_bytes())["architectures"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(classes, list) and any(str(name).endswith(_CLASSES) for name in classes)
