import pytest

from bigcode_cli.errors import UsageError
from bigcode_cli.model.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5GB", 5 * 10**9),
        ("200MB", 2 * 10**8),
        ("7kb", 7000),
        (" 3 KiB ", 3072),
        ("1MiB", 2**20),
        ("2gib", 2 * 2**30),
        ("1TB", 10**12),
        ("1TiB", 2**40),
        (12_345, 12_345),
    ],
)
def test_sizes_are_decimal_unless_they_say_binary(text: int | str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "5", "GB", "5.5GB", "-1GB", "0GB", "5 gigabytes", "٥GB", 0, -3]
)
def test_what_is_no_size_is_refused(text: int | str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        parse_size(text)


def test_a_size_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(UsageError, match="is no size"):
        parse_size(True)
    with pytest.raises(UsageError, match="is no size"):
        parse_size(1.5)  # type: ignore[arg-type]
