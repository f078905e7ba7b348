"""Lines that hold personal data and secrets, or what looks like them, for each kind of place.

``{slot}`` is a value of ``values.Values``; those of ``SLOT_LABELS`` are marked. A template without
such a slot shows what is none. ``¶`` begins a new line. What stands after ``HELD_OUT`` serves the
test split alone.
"""

from bigcode_cli.training.heads.pii.lines_files import JSON, PROSE, SCRIPT, SETTINGS, SHELL, YAML
from bigcode_cli.training.heads.pii.lines_python import PYTHON
from bigcode_cli.training.heads.pii.lines_text import COMMENTS, DOCSTRINGS, HEADERS, LITERALS

SLOT_LABELS = {
    "name": "name",
    "given": "name",
    "handle": "name",
    "email": "email",
    "ip": "ip",
    "token": "key",
    "key": "key",
    "pem": "key",
    "pem_line": "key",
    "password": "password",
    "safe_password": "password",
}

HELD_OUT = "HELD OUT\n"

_TEXTS = {
    "comment": COMMENTS,
    "python": PYTHON,
    "docstring": DOCSTRINGS,
    "header": HEADERS,
    "literal": LITERALS,
    "yaml": YAML,
    "json": JSON,
    "shell": SHELL,
    "settings": SETTINGS,
    "script": SCRIPT,
    "prose": PROSE,
}


def templates(split: str) -> dict[str, list[str]]:
    """The templates of a split by the kind of place that they fit."""
    chosen = {}
    for kind, text in _TEXTS.items():
        common, held_out = text.split(HELD_OUT)
        lines = [*common.splitlines(), *(held_out.splitlines() if split == "test" else ())]
        chosen[kind] = [line.replace("¶", "\n") for line in lines]
    return chosen
