import ast
import random

import pytest

from bigcode_cli.training.heads.pii.places import MIN_CHARACTERS, Stretch, stretches

CODE = '''def area(width: int, height: int) -> int:
    """The area of a sheet.

    Both sides count in millimetres.
    """
    label = "a wide sheet"
    if width > height:
        print(label)
    return width * height


'''


def drawn(text: str, kind: str, seeds: int = 20) -> list[Stretch]:
    return [part for seed in range(seeds) for part in stretches(text, kind, random.Random(seed))]


def test_stretches_are_parts_of_the_file_with_places_that_do_not_touch() -> None:
    text = CODE * 20
    found = drawn(text, "python")
    assert found
    for stretch in found:
        assert stretch.text in text
        assert len(stretch.text) >= MIN_CHARACTERS
        ends = [-1]
        for place in stretch.places:
            assert ends[-1] < place.start <= place.end <= len(stretch.text)
            ends.append(place.end)


def test_lines_put_before_statements_leave_python_that_parses() -> None:
    text = CODE * 20
    for stretch in drawn(text, "python"):
        at = text.index(stretch.text)
        for place in stretch.places:
            if place.kind in ("python", "comment"):
                line = place.before + "x = 1" * (place.kind == "python") + place.after
                whole = text[: at + place.start] + line + text[at + place.end :]
                ast.parse(whole)


def test_stretches_with_anything_personal_are_refused() -> None:
    assert not drawn((CODE + "# Author: Maria Schmidt\n") * 20, "python")


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("yaml", "name: value\n"),
        ("json", '  "name": "value",\n'),
        ("shell", "echo one\n"),
        ("settings", "name = value\n"),
        ("script", "  const one = 'a short text';\n"),
        ("code", "\treturn one\n"),
        ("prose", "One sentence.\n\n"),
    ],
)
def test_every_kind_of_file_has_places(kind: str, line: str) -> None:
    found = drawn(line * 200, kind)
    assert found
    assert all(stretch.places for stretch in found)
