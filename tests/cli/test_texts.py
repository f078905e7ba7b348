"""Bytes in pieces are the text that the whole would be."""

import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bigcode_cli.cli import texts
from bigcode_cli.cli.inputs import decode
from bigcode_cli.cli.texts import KeptData, NotTextError, Text, decoded, open_data
from bigcode_cli.errors import InputError

ENCODINGS = [
    "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "utf-7",
    "latin-1", "cp1252", "ascii", "shift_jis", "euc_jis_2004", "shift_jisx0213", "gb18030", "big5",
    "big5hkscs", "iso2022_jp_2", "iso2022_kr", "hz", "unicode_escape", "cp037", "punycode",
]  # fmt: skip
CHARACTERS = st.characters(exclude_categories=["Cs"]) | st.sampled_from("\ufeff\r\n\n~é漢か゚🎈")


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def outcome(data: bytes, encoding: str, size: int | None) -> str:
    """The text, or the error's line."""
    try:
        if size is None:
            return decode(data, encoding, "x")
        return "".join(decoded(cut(data, size), encoding, "x"))
    except InputError as error:
        return f"{error.message} ({error.hint})"


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=st.text(CHARACTERS), size=st.integers(4, 9))
def test_pieces_joined_are_the_text(encoding: str, text: str, size: int) -> None:
    data = text.encode(encoding, "ignore")
    assert outcome(data, encoding, size) == outcome(data, encoding, None)


@pytest.mark.parametrize("encoding", sorted({*ENCODINGS} - {"punycode", "unicode_escape"}))
@given(data=st.binary(max_size=40) | st.text(CHARACTERS).map(str.encode), size=st.integers(4, 9))
@example(data=b"\xef\xbb", size=4)
@example(data=b"\xff\xfe", size=4)
@example(data=b"a\0b\0", size=4)
@example(data=b"\xff\xfe\xff\xfea\0", size=4)
@example(data=b"\n\xc3\n\n\xc3\n", size=4)
@example(data=b"\n\n\n\xe2\x82\n", size=5)
def test_any_bytes_in_pieces_give_what_the_whole_gives(
    encoding: str, data: bytes, size: int
) -> None:
    assert outcome(data, encoding, size) == outcome(data, encoding, None)


def text_of(data: bytes, encoding: str = "utf-8") -> Text:
    Path("file").write_bytes(data)
    return Text(open_data(Path("file")), encoding, "file")


class TestMeasure:
    @given(st.text(CHARACTERS.filter(lambda character: character != "\0")))
    def test_it_is_the_length_in_utf_8(self, text: str) -> None:
        assert text_of(text.encode("utf-16"), "utf-16").measure() == len(text.encode())

    @pytest.mark.parametrize(
        ("data", "encoding"),
        [(b"a\0", "utf-8"), (b"a" * 8191 + b"\0", "latin-1"), ("\0".encode("utf-16"), "utf-16")],
    )
    def test_a_nul_near_the_beginning_is_binary(self, data: bytes, encoding: str) -> None:
        with pytest.raises(NotTextError, match="file is binary, not text"):
            text_of(data, encoding).measure()

    def test_a_nul_further_on_is_text(self) -> None:
        assert text_of(b"a" * 8192 + b"\0").measure() == 8193
        assert text_of("a\n".encode("utf-16"), "utf-16").measure() == 2

    def test_a_nul_is_looked_for_in_several_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(texts, "PIECE", 100)
        with pytest.raises(NotTextError, match="binary"):
            text_of(b"a" * 8191 + b"\0").measure()
        assert text_of(b"a" * 8192 + b"\0").measure() == 8193

    def test_all_of_it_is_looked_at(self) -> None:
        with pytest.raises(NotTextError, match="file is not utf-8: byte 0xff in line 600001"):
            text_of(b"\n" * 600_000 + b"\xff").measure()

    def test_a_lone_surrogate_is_no_text(self) -> None:
        with pytest.raises(NotTextError, match="file holds a lone surrogate"):
            text_of(b"\\ud800", "unicode_escape").measure()


class TestFiles:
    def test_they_are_read_again_and_again_and_by_two_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(texts, "PIECE", 4)
        for text in (text_of(b"abcdefghi"), self.piped(b"abcdefghi")):
            assert list(zip(text.pieces(), text.pieces(), strict=True)) == [
                ("abcd", "abcd"), ("efgh", "efgh"), ("i", "i"),
            ]  # fmt: skip
            assert "".join(text.pieces()) == "abcdefghi"

    def piped(self, data: bytes) -> Text:
        """What comes through a named pipe."""
        Path("pipe").unlink(missing_ok=True)
        os.mkfifo("pipe")
        writer = threading.Thread(target=Path("pipe").write_bytes, args=(data,))
        writer.start()
        kept = open_data(Path("pipe"))
        writer.join()
        return Text(kept, "utf-8", "pipe")

    @pytest.mark.parametrize("size", [0, 1, texts.KEPT_IN_MEMORY + 1])
    def test_a_pipe_is_kept(self, size: int) -> None:
        text = self.piped(b"a" * size)
        assert text.measure() == size
        assert sum(map(len, text.pieces())) == size

    def test_one_that_claims_to_be_empty_is_read_all_the_same(self) -> None:
        text = Text(open_data(Path("/proc/self/status")), "utf-8", "status")
        assert "Name:" in "".join(text.pieces())

    @pytest.mark.parametrize(
        ("name", "error"),
        [
            ("missing", "no such file: missing"),
            (".", r"\. is a folder, not a file"),
            ("file/in", "cannot read file/in: Not a directory"),
            ("a" * 300, "cannot read a*: File name too long"),
            ("a\0b", "cannot read a\0b: embedded null byte"),
            ("/proc/self/mem", "cannot read /proc/self/mem: Input/output error"),
        ],
    )
    def test_what_cannot_be_read_is_an_error(self, name: str, error: str) -> None:
        Path("file").touch()
        with pytest.raises(InputError, match=f"^{error}$"):
            open_data(Path(name))

    def test_what_vanishes_is_an_error(self) -> None:
        text = text_of(b"abc")
        Path("file").unlink()
        with pytest.raises(InputError, match="no such file: file"):
            list(text.pieces())

    def test_what_changes_before_it_is_read_is_an_error(self) -> None:
        text = text_of(b"abc")
        made = Path("file").stat()
        for data, time in ((b"abcd", made.st_mtime_ns), (b"abd", made.st_mtime_ns + 1)):
            Path("file").write_bytes(data)
            os.utime("file", ns=(time, time))
            with pytest.raises(InputError, match="file changed while it was read"):
                list(text.pieces())
        os.utime("file", ns=(made.st_mtime_ns, made.st_mtime_ns))
        assert list(text.pieces()) == ["abd"]
        Path("other").write_bytes(b"abc")
        os.utime("other", ns=(made.st_mtime_ns, made.st_mtime_ns))
        Path("other").rename("file")
        with pytest.raises(InputError, match="file changed while it was read"):
            list(text.pieces())

    def test_what_changes_while_it_is_read_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(texts, "PIECE", 4)
        pieces = text_of(b"abcdefgh").pieces()
        assert next(pieces) == "abcd"
        with Path("file").open("ab") as file:
            file.write(b"ijkl")
        with pytest.raises(InputError, match="file changed while it was read"):
            list(pieces)

    def test_what_is_left_unread_is_closed(self) -> None:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        pieces = text_of(b"a" * 600_000).pieces()
        next(pieces)
        assert len(os.listdir("/proc/self/fd")) == before + 1  # noqa: PTH208
        del pieces
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize("kept", [False, True])
def test_memory_stays_flat(kept: bool) -> None:
    block = "é\n漢\n".encode() * (1 << 17) + b" " * (1 << 17)

    def peak(size: int) -> int:
        with Path("file").open("wb") as file:
            file.writelines(block for _ in range(size >> 20))
        tracemalloc.start()
        with Path("file").open("rb") as file:
            data = KeptData(file, "file") if kept else open_data(Path("file"))
            text = Text(data, "utf-8", "file")
            assert text.measure() == Path("file").stat().st_size
            for _ in text.pieces():
                pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(64 << 20) < peak(8 << 20) + (1 << 20)
