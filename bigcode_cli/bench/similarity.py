"""How near a text is to another."""


def edit_similarity(first: str, second: str) -> float:
    """1 − d / n: d the Levenshtein distance of the characters, n the longer text's length.

    1 for equal texts, two empty ones too; 0 where no character could stay. As in RepoBench
    (Liu et al. 2023) and CrossCodeEval (Ding et al. 2023), in the range from 0 to 1.
    """
    longest = max(len(first), len(second))
    return 1 - levenshtein(first, second) / longest if longest else 1.0


def levenshtein(first: str, second: str) -> int:
    """The fewest insertions, deletions and replacements of characters from one to the other.

    Myers 1999, "A fast bit-vector algorithm for approximate string matching based on dynamic
    programming", in the form of Hyyrö 2003 for the distance: a column of the matrix is two
    numbers, whose bits say where it rises and falls by one from a row to the next.
    """
    if not first:
        return len(second)
    places: dict[str, int] = {}
    for row, character in enumerate(first):
        places[character] = places.get(character, 0) | 1 << row
    everything = (1 << len(first)) - 1
    last = 1 << (len(first) - 1)
    rises, falls, distance = everything, 0, len(first)
    for character in second:
        equal = places.get(character, 0)
        level = (((equal & rises) + rises) ^ rises) | equal | falls
        up, down = falls | ~(level | rises), rises & level
        distance += bool(up & last) - bool(down & last)
        up, down = up << 1 | 1, down << 1
        rises, falls = (down | ~(level | up)) & everything, up & level & everything
    return distance
