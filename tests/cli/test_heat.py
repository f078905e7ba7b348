from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.cli.heat import BOUNDS, LEGEND, ON_DARK, ON_LIGHT, Piece, Pieces, label, level
from bigcode_cli.cli.html import Paint
from bigcode_cli.records import TokenScore
from tests.cli.scored import token

LEGIBLE = 4.5
"""Contrast that WCAG 2 asks of text."""


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def grounds(paints: tuple[Paint | None, ...]) -> list[float]:
    return [luminance(paint.ground) for paint in paints if paint]


class TestLevels:
    def test_more_bits_are_no_lower_level(self) -> None:
        assert [level(bound) for bound in BOUNDS] == [*range(1, len(LEGEND))]
        assert [level(bound - 1e-9) for bound in BOUNDS] == [*range(len(LEGEND) - 1)]
        assert level(1e9) == len(LEGEND) - 1

    def test_labels_tell_the_bounds(self) -> None:
        assert " ".join(swatch.label for swatch in LEGEND) == "<1 1–2 2–3 3–5 5–7 7–10 10–14 ≥14"
        assert [label(0, 1), label(2, 3), label(6, 7)] == ["<2", "2–5", "≥10"]

    @pytest.mark.parametrize("paints", [ON_LIGHT, ON_DARK])
    def test_text_is_legible_on_every_level(self, paints: tuple[Paint | None, ...]) -> None:
        assert paints[0] is None
        for paint in paints[1:]:
            assert paint
            bright, dark = sorted([luminance(paint.ground), luminance(paint.ink)], reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= LEGIBLE

    def test_lightness_alone_tells_the_order(self) -> None:
        assert all(before > after for before, after in pairwise(grounds(ON_LIGHT)))
        assert all(before < after for before, after in pairwise(grounds(ON_DARK)))


class TestPieces:
    def all(self, *tokens: TokenScore) -> list[Piece]:
        pieces = Pieces()
        return [*pieces.push(tokens), *pieces.flush()]

    def test_token_of_whole_characters_is_a_piece(self) -> None:
        tokens = [token("a"), token(" Ω\n", 3), token("中文", None)]
        assert self.all(*tokens) == [
            Piece("a", (tokens[0],)),
            Piece(" Ω\n", (tokens[1],)),
            Piece("中文", (tokens[2],)),
        ]

    def test_tokens_that_share_a_character_are_one(self) -> None:
        data = "x中文y".encode()
        tokens = [token(data[:2], 1), token(data[2:5], 9), token(data[5:7], 2), token("y", 3)]
        assert [piece.text for piece in self.all(*tokens)] == ["x中文", "y"]
        assert [piece.bits for piece in self.all(*tokens)] == [9, 3]

    def test_text_that_breaks_off_is_marked(self) -> None:
        assert [piece.text for piece in self.all(token("a"), token(b"\xf0\x9f"))] == ["a", "\ufffd"]

    def test_what_does_not_count_has_no_level(self) -> None:
        assert [piece.level for piece in self.all(token("a", None), token("b", 0))] == [None, 0]
        half = "é".encode()
        (piece,) = self.all(token(half[:1], None), token(half[1:], 4))
        assert (piece.bits, piece.level) == (4, 3)

    @given(text=st.text(), data=st.data())
    def test_any_text_in_any_tokens(self, text: str, data: st.DataObject) -> None:
        whole = text.encode()
        cuts = data.draw(st.lists(st.integers(0, len(whole))).map(sorted))
        ends = [0, *cuts, len(whole)]
        tokens = [token(whole[start:end], end) for start, end in pairwise(ends)]
        pieces = Pieces()
        at = data.draw(st.integers(0, len(tokens)))
        made = [*pieces.push(tokens[:at]), *pieces.push(tokens[at:]), *pieces.flush()]
        assert "".join(piece.text for piece in made) == text
        assert [part for piece in made for part in piece.tokens] == tokens
        for piece in made:
            assert b"".join(part.data for part in piece.tokens) == piece.text.encode()
