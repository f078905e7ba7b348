"""Cuts against a twin that tries every one."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bigcode_cli.text.budget import End, fit, split_lines
from tests.tokenizers import tiny_tokenizer

PIECES = ["a", "\n", "\n\n", " ", "    ", "x = 1\n", "return value\n", "é", "🙂", "\r\n", "\u2028"]
texts = st.lists(st.sampled_from(PIECES), max_size=25).map("".join)
ends = st.sampled_from(["left", "right"])


def size(text: str) -> int:
    return len(tiny_tokenizer().encode(text))


@settings(max_examples=500)
@given(texts, st.integers(0, 40), ends)
def test_the_most_whole_lines_that_fit_are_kept(text: str, room: int, drop: End) -> None:
    cut = fit(tiny_tokenizer(), text, room, drop=drop, whole_lines=True)
    lines = split_lines(text)
    choices = [lines[i:] if drop == "left" else lines[: len(lines) - i] for i in range(len(lines))]
    fitting = ["".join(choice) for choice in choices if size("".join(choice)) <= room]
    assert cut.text == (fitting[0] if fitting else "")
    assert cut.ids == tuple(tiny_tokenizer().encode(cut.text))
    assert cut.dropped_lines == len(lines) - len(split_lines(cut.text))
    assert (cut.dropped_tokens > 0) == (cut.text != text)


@example("\n\naa", 1, "right")
@settings(max_examples=500)
@given(texts, st.integers(0, 40), ends)
def test_a_line_is_cut_only_if_it_is_longer_than_the_room(text: str, room: int, drop: End) -> None:
    whole = fit(tiny_tokenizer(), text, room, drop=drop, whole_lines=True)
    cut = fit(tiny_tokenizer(), text, room, drop=drop)
    assert len(cut.ids) <= room
    assert tiny_tokenizer().decode(cut.ids) == cut.text
    assert text.endswith(cut.text) if drop == "left" else text.startswith(cut.text)
    assert len(cut.text) >= len(whole.text)
    if cut.text != whole.text:
        kept, lines = len(split_lines(whole.text)), split_lines(text)
        assert size(lines[-kept - 1] if drop == "left" else lines[kept]) > room


def test_known_ids_change_nothing() -> None:
    text = "x = 1\n" * 20
    ids = tiny_tokenizer().encode(text)
    for room in (0, 7, 1000):
        assert fit(tiny_tokenizer(), text, room, drop="left", ids=ids) == fit(
            tiny_tokenizer(), text, room, drop="left"
        )


def test_only_newlines_end_lines() -> None:
    assert split_lines("a\n\nb\r\nc\rd\u2028e\x0cf") == ["a\n", "\n", "b\r\n", "c\rd\u2028e\x0cf"]
    assert split_lines("a\n") == ["a\n"]
    assert split_lines("") == []
