import pytest

from bigcode_cli.hub.sizes import format_size


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (2_240_000_000, "2.2 GB"),
        (31_000_000_000, "31 GB"),
        (1_500_000_000_000, "1.5 TB"),
    ],
)
def test_sizes_are_decimal_with_two_digits(count: int, shown: str) -> None:
    assert format_size(count) == shown
