from collections.abc import Sequence

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.text.stream import StreamDecoder
from bigcode_cli.text.tokenizer import Tokenizer
from tests.tokenizers import starcoder_json, starcoder_tokenizer, tiny_tokenizer

LIBRARY = tokenizers.Tokenizer.from_str(starcoder_json())

# Most of StarCoder's tokens are ASCII: random ids alone would seldom break a character.
BROKEN = [
    id_
    for id_ in range(starcoder_tokenizer().vocab_size)
    if "\ufffd" in starcoder_tokenizer().decode([id_])
]
starcoder_ids = st.lists(st.integers(0, 49151) | st.sampled_from(BROKEN) | st.integers(0, 18))


def segments(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    decoder = StreamDecoder(tokenizer)
    return [*map(decoder.push, ids), decoder.flush()]


@settings(deadline=None)
@given(starcoder_ids)
def test_joined_segments_equal_the_full_decode_of_any_ids(ids: list[int]) -> None:
    check(ids)


def check(ids: Sequence[int]) -> None:
    joined = "".join(segments(starcoder_tokenizer(), ids))
    assert joined == starcoder_tokenizer().decode(ids)
    assert joined == LIBRARY.decode(ids, skip_special_tokens=False)


@settings(deadline=None)
@given(st.binary())
def test_joined_segments_equal_the_full_decode_of_any_bytes(data: bytes) -> None:
    tokenizer = tiny_tokenizer()
    ids = [tokenizer.ids_starting_with(bytes([byte]))[0] for byte in data]
    assert all(len(tokenizer.token_bytes(id_)) == 1 for id_ in ids)
    assert "".join(segments(tokenizer, ids)) == data.decode("utf-8", "replace")


@settings(deadline=None)
@given(st.text())
def test_no_segment_of_a_real_text_holds_half_a_character(text: str) -> None:
    tokenizer = tiny_tokenizer()
    text = text.encode("utf-8", "ignore").decode().replace("\ufffd", "")
    parts = segments(tokenizer, tokenizer.encode(text))
    assert "".join(parts) == text
    assert parts[-1] == ""


def test_a_character_comes_with_its_last_byte() -> None:
    tokenizer = tiny_tokenizer()
    ids = [tokenizer.ids_starting_with(bytes([byte]))[0] for byte in "aß🙂".encode()]
    assert segments(tokenizer, ids) == ["a", "", "ß", "", "", "", "🙂", ""]


def test_an_unfinished_character_is_shown_at_the_end() -> None:
    tokenizer = tiny_tokenizer()
    ids = [tokenizer.ids_starting_with(bytes([byte]))[0] for byte in b"a\xf0\x9f"]
    assert segments(tokenizer, ids) == ["a", "", "", "\ufffd"]


def test_control_tokens_are_spelled_out_between_half_characters() -> None:
    tokenizer = tiny_tokenizer()
    half = tokenizer.ids_starting_with(b"\xf0")[0]
    assert "".join(segments(tokenizer, [half, 2, half])) == "\ufffd<fim_middle>\ufffd"


@pytest.mark.parametrize("id_", [-1, 384])
def test_ids_beyond_the_vocabulary_raise(id_: int) -> None:
    with pytest.raises(ValueError, match="no token has the id"):
        StreamDecoder(tiny_tokenizer()).push(id_)


class LoneTokens(StreamDecoder):
    def push(self, id_: int) -> str:
        return self._tokenizer.decode([id_])


class NoFlush(StreamDecoder):
    def flush(self) -> str:
        return ""


class IgnoresBrokenBytes(StreamDecoder):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self._decoder.errors = "ignore"


@pytest.mark.parametrize("mutant", [LoneTokens, NoFlush, IgnoresBrokenBytes])
def test_mutants_break_the_law(
    mutant: type[StreamDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.text.test_stream.StreamDecoder", mutant)
    with pytest.raises(AssertionError):
        check_fixed_ids()


def test_what_mutants_fail_on_passes_unchanged() -> None:
    check_fixed_ids()


def check_fixed_ids() -> None:
    tokenizer = starcoder_tokenizer()
    for text in ("def f():", "été", "🙂 日本"):
        ids = [tokenizer.ids_starting_with(bytes([byte]))[0] for byte in text.encode()]
        for cut in range(len(ids) + 1):
            check(ids[:cut])
