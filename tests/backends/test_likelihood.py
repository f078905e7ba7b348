"""How logits are cut into parts; what is read from them stands in ``test_torch``."""

from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.backends.likelihood import TILE_ROWS, equal_part


@given(st.integers(1, 40_000), st.integers(1, 4_000))
def test_parts_are_whole_tiles_and_no_more_than_there_must_be(rows: int, most: int) -> None:
    size = equal_part(rows, most)
    assert size % TILE_ROWS == 0
    assert size < most + TILE_ROWS
    assert -(-rows // size) <= -(-rows // most)


def test_no_part_is_left_over_that_is_nearly_empty() -> None:
    """SantaCoder's logits of eight texts of 2,048 tokens: 12 parts of 1,361 and one of 44 else."""
    rows, most = 8 * 2047, 2**28 // (4 * 49280)
    size = equal_part(rows, most)
    assert rows % most < 50
    assert rows % size > size / 2
