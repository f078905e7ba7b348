"""The model card: what a model's authors say of its licence."""

from pathlib import Path

CARDS = ("MODEL_CARD.md", "README.md")
_HEADER_LIMIT = 1 << 16


def read_licence(folder: Path) -> str | None:
    """The licence's name from the YAML header of a folder's model card; ``None`` where none is.

    Only the plain ``license: NAME`` and, for a licence of its own, ``license_name: NAME`` are
    read, which is how the Hub writes them.
    """
    for card in CARDS:
        try:
            with (folder / card).open("rb") as file:
                text = file.read(_HEADER_LIMIT).decode("utf-8", errors="replace")
        except OSError:
            continue
        if (licence := find_licence(text)) is not None:
            return licence
    return None


def find_licence(card: str) -> str | None:
    """The licence that the text of a model card names in its YAML header."""
    lines = card.splitlines()
    if not lines or lines[0].rstrip() != "---":
        return None
    found: dict[str, str] = {}
    for line in lines[1:]:
        if line.rstrip() == "---":
            break
        key, colon, value = line.partition(":")
        if colon and key in {"license", "license_name"}:
            found[key] = value.split(" #")[0].strip().strip("'\"")
    return choose_licence(found.get("license"), found.get("license_name"))


def choose_licence(licence: object, own_name: object) -> str | None:
    """One name from a card's ``license`` and ``license_name``, which goes with ``other``."""
    name = own_name if licence == "other" and own_name else licence
    if isinstance(name, list):
        name = ", ".join(str(part) for part in name)
    return _one_line(name) if isinstance(name, str) and name else None


def _one_line(text: str) -> str:
    """Text from the network, fit for one line of a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)[:100]
