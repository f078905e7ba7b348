from pathlib import Path

import pytest

from bigcode_cli.hub.card import choose_licence, find_licence, read_licence


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n# Model", "apache-2.0"),
        ("---\r\ntags:\r\n- code\r\nlicense: 'mit'\r\n---\r\n", "mit"),
        ("---\nlicense: mit # as is\n---\n", "mit"),
        ("---\nlicense: other\nlicense_name: bigcode-openrail-m\n---\n", "bigcode-openrail-m"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlicense:\n---\n", None),
        ("---\ntags: [code]\n---\nlicense: mit\n", None),
        ("license: mit\n", None),
        ("", None),
    ],
)
def test_the_header_of_a_card_names_the_licence(card: str, licence: str | None) -> None:
    assert find_licence(card) == licence


def test_the_own_card_comes_before_the_readme(tmp_path: Path) -> None:
    assert read_licence(tmp_path) is None
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert read_licence(tmp_path) == "mit"
    (tmp_path / "MODEL_CARD.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert read_licence(tmp_path) == "apache-2.0"


def test_a_licence_from_the_network_is_one_short_line() -> None:
    assert choose_licence("a\nb\x1b[31m", None) == "a b [31m"
    assert choose_licence(["mit", "apache-2.0"], None) == "mit, apache-2.0"
    assert choose_licence({"x": 1}, None) is None
    assert len(str(choose_licence("x" * 1000, None))) == 100
