"""What a command goes through, and what of it cannot be used."""

import os
import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from bigcode_cli.cli import sources
from bigcode_cli.cli.sources import Found, Source, find_sources
from bigcode_cli.errors import InputError, UsageError
from tests.cli.running import Stream
from tests.repositories import put, repository

TEXT = "\ufeff  é\r\nb\rc\\n\t\n\n"


@pytest.fixture(autouse=True)
def _nobody_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Stream(terminal=True))


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Stream(TEXT.encode()))


def find(
    *files: str | Path,
    globs: Sequence[str] = (),
    jsonl: str | None = None,
    encoding: str = "utf-8",
) -> Found:
    return find_sources(
        [Path(name) for name in files],
        globs=globs,
        jsonl=None if jsonl is None else Path(jsonl),
        encoding=encoding,
        what="text",
    )


def paths(found: Found) -> list[str | None]:
    return [source.path for source in found.sources]


def text(source: Source) -> str:
    return "".join(source.pieces())


class TestFiles:
    def test_the_text_is_exact_each_time_it_is_read(self) -> None:
        put(Path(), "file", data=TEXT.encode())
        (source,) = find("file").sources
        assert (source.path, source.place, source.id, source.lines) == ("file", "file", None, None)
        assert source.size == len(TEXT.encode())
        assert [text(source), text(source)] == [TEXT, TEXT]

    def test_they_come_in_the_order_and_as_often_as_they_are_named(self) -> None:
        put(Path(), "b", "a", "in/c")
        assert paths(find("b", "in", "a", "b", "./a")) == ["b", "in/c", "a", "b", "a"]

    def test_their_encoding_is_that_of_all(self) -> None:
        put(Path(), "a", "b", data=TEXT.encode("utf-16-be"))
        found = find("a", "b", encoding="utf-16-be")
        assert [text(source) for source in found.sources] == [TEXT, TEXT]

    @pytest.mark.parametrize(
        ("name", "error"),
        [
            ("missing", "no such file: missing"),
            ("broken", "no such file: broken"),
            ("file/in", "cannot read file/in: Not a directory"),
            ("a" * 300, "cannot read a.*: File name too long"),
            ("binary", "binary is binary, not text"),
            ("latin", "latin is not utf-8: byte 0xe9 in line 2"),
            ("empty", "empty is empty"),
            ("folder", "no files in folder"),
            ("binaries", "no text in binaries, where 2 files are binary"),
        ],
    )
    def test_the_only_one_that_cannot_be_used_is_an_error_and_one_of_several_is_told(
        self, name: str, error: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        put(Path(), "file", data=b"text")
        put(Path(), "binary", "binaries/a", "binaries/b", data=b"\0")
        put(Path(), "latin", data=b"\n\xe9")
        put(Path(), "empty", data=b"")
        Path("folder").mkdir()
        Path("broken").symlink_to("nothing")
        with pytest.raises(InputError, match=f"^{error}$"):
            find(name)
        assert capsys.readouterr().err == ""
        found = find("file", name, "file")
        told = capsys.readouterr().err
        if name == "empty":
            assert (paths(found), found.failed, told) == (["file", "empty", "file"], 0, "")
        else:
            assert (paths(found), found.failed) == (["file", "file"], 1)
            assert re.match(f"error: {error}\n", told)
            assert told.count("error: ") == 1

    def test_several_that_all_fail_are_each_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert find("one", "two") == Found([], failed=2)
        told = "error: no such file: one\nerror: no such file: two\n"
        assert capsys.readouterr().err == told

    def test_a_link_that_is_named_is_followed(self) -> None:
        put(Path(), "in/file")
        Path("link").symlink_to("in/file")
        Path("links").symlink_to("in")
        assert paths(find("link", "links")) == ["link", "links/file"]

    def test_a_named_pipe_is_read_once(self) -> None:
        os.mkfifo("pipe")
        writer = threading.Thread(target=Path("pipe").write_bytes, args=(TEXT.encode(),))
        writer.start()
        (source,) = find("pipe").sources
        writer.join()
        assert source.path == "pipe"
        assert [text(source), text(source)] == [TEXT, TEXT]

    def test_names_may_be_anything(self) -> None:
        names = ["new\nline", 'quo"te', "-x", "esc\x1b[31m", os.fsdecode(b"\xff")]
        put(Path(), *names, *(f"in/{name}" for name in names))
        assert paths(find(*names)) == names
        assert paths(find("in")) == sorted(f"in/{name}" for name in names)

    def test_what_changes_after_the_look_is_an_error(self) -> None:
        put(Path(), "file", data=b"text")
        (source,) = find("file").sources
        put(Path(), "file", data=b"texts")
        with pytest.raises(InputError, match="file changed while it was read"):
            text(source)


class TestFolders:
    def test_they_give_what_is_text_in_order_and_count_what_is_not(self) -> None:
        put(Path(), "in/b.py", "in/a/c.py", "in/a.py")
        put(Path(), "in/empty.py", data=b"")
        put(Path(), "in/image.png", data=b"\x89PNG\0")
        put(Path(), "in/latin.py", data=b"# \xe9")
        found = find("in")
        assert paths(found) == ["in/a.py", "in/a/c.py", "in/b.py", "in/empty.py"]
        assert (found.failed, found.binary) == (0, 2)
        assert find("in", "in").binary == 4

    def test_ignore_files_are_obeyed_and_links_are_not_followed(self) -> None:
        put(repository(Path("in")), "a.py", "a.log")
        put(Path(), "in/.gitignore", data=b"*.log\n.gitignore\n")
        Path("in/link.py").symlink_to("a.py")
        assert paths(find("in")) == ["in/a.py"]
        assert paths(find("in/a.log")) == ["in/a.log"]

    def test_this_one_gives_plain_names(self) -> None:
        put(Path(), "in/a.py")
        assert paths(find(".")) == ["in/a.py"]
        assert paths(find(Path("in").absolute())) == [str(Path("in/a.py").absolute())]

    def test_patterns_choose_of_their_files_alone(self) -> None:
        put(Path(), "in/a.py", "in/src/b.js", "in/c.txt", "d.txt")
        found = find("in", "d.txt", globs=["*.py", "src/*"])
        assert paths(found) == ["in/a.py", "in/src/b.js", "d.txt"]
        with pytest.raises(InputError, match=r"^no files in in match \*\.c or \*\.h$"):
            find("in", globs=["*.c", "*.h"])

    def test_what_cannot_be_read_is_told_and_the_rest_is_done(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        put(Path(), "in/a.py", "in/c.py")
        monkeypatch.setattr(sources, "list_files", lambda _: ["a.py", "gone.py", "c.py"])
        found = find("in")
        assert (paths(found), found.failed) == (["in/a.py", "in/c.py"], 1)
        assert capsys.readouterr().err == "error: no such file: in/gone.py\n"
        monkeypatch.setattr(sources, "list_files", lambda _: ["gone.py"])
        assert find("in") == Found([], failed=1)


@pytest.mark.usefixtures("piped")
class TestStdin:
    @pytest.mark.parametrize("files", [[], ["-"]])
    def test_it_is_kept(self, files: list[str]) -> None:
        (source,) = find(*files).sources
        assert (source.path, source.place, source.size) == ("-", "stdin", len(TEXT.encode()))
        assert [text(source), text(source)] == [TEXT, TEXT]

    def test_it_may_be_one_of_several_and_named_twice(self) -> None:
        put(Path(), "a")
        found = find("-", "a", "-")
        assert paths(found) == ["-", "a", "-"]
        assert [text(source) for source in found.sources] == [TEXT, "x = 1\n", TEXT]

    @pytest.mark.parametrize(
        ("data", "error"),
        [
            (b"", "stdin is empty"),
            (b"a\0", "stdin is binary, not text"),
            (b"\n\xff", "stdin is not utf-8: byte 0xff in line 2"),
            (None, "stdin is closed"),
        ],
    )
    def test_it_must_be_text(
        self, data: bytes | None, error: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "stdin", None if data is None else Stream(data))
        with pytest.raises(InputError, match=f"^{error}$"):
            find("-")


class TestRecords:
    def test_they_keep_their_ids_and_texts(self, capsys: pytest.CaptureFixture[str]) -> None:
        lines = ['{"id": 7, "text": "\\ufeffé\\r\\n"}', "nonsense", '{"text": "b"}', '{"text": ""}']
        put(Path(), "records", data="\n".join(lines).encode())
        found = find(jsonl="records")
        first, second = found.sources
        assert (first.id, first.path, first.place, first.size) == (7, None, "records:1", 7)
        assert (second.id, second.place) == (None, "records:3")
        assert [text(first), text(first), text(second)] == ["\ufeffé\r\n", "\ufeffé\r\n", "b"]
        assert (found.failed, found.binary) == (2, 0)
        assert capsys.readouterr().err == (
            'error: records:2: not JSON: Expecting value\nerror: records:4: "text" is empty\n'
        )

    def test_a_long_one_comes_in_pieces(self) -> None:
        put(Path(), "records", data=b'{"text": "%s"}' % (b"a" * 600_000))
        (source,) = find(jsonl="records").sources
        assert [len(piece) for piece in source.pieces()] == [262_144, 262_144, 75_712]


@pytest.mark.parametrize(
    ("files", "options", "error"),
    [
        ([], {}, "no text"),
        (["a"], {"jsonl": "a"}, "--jsonl holds the texts: no FILES beside it"),
        ([], {"jsonl": "a", "globs": ["*"]}, "--glob chooses among the files of a folder"),
        (["-"], {"globs": ["*"]}, "--glob chooses among the files of a folder"),
        (["."], {"globs": ["*", ""]}, "--glob needs a pattern"),
        (["a"], {"encoding": "nonsense"}, "unknown encoding 'nonsense'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    files: list[str], options: dict[str, object], error: str
) -> None:
    with pytest.raises(UsageError, match=f"^{error}$"):
        find(*files, **options)  # type: ignore[arg-type]
