import codecs
import os
import resource
import stat
from io import BytesIO
from pathlib import Path

import pytest

from bigcode_cli.cli.output import FileAnswer, PipeAnswer, open_answer
from bigcode_cli.errors import OutputError
from tests.cli.running import Program

SMALL = 8


def left_behind() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


class TestFile:
    def test_appears_whole_or_not_at_all(self) -> None:
        with FileAnswer(Path("answer"), "utf-8") as answer:
            answer.write("a\r\n")
            assert not Path("answer").exists()
            answer.write("b")
        assert Path("answer").read_bytes() == b"a\r\nb"
        assert left_behind() == ["answer"]

    def test_error_leaves_the_old_file(self) -> None:
        Path("answer").write_text("old")
        answer = FileAnswer(Path("answer"), "utf-8")
        answer.write("new")
        answer.__exit__(RuntimeError, RuntimeError(), None)
        assert Path("answer").read_text() == "old"
        assert left_behind() == ["answer"]

    def test_interrupt_keeps_what_is_there(self) -> None:
        answer = FileAnswer(Path("answer"), "utf-8")
        answer.write("so far")
        answer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert Path("answer").read_text() == "so far"
        assert left_behind() == ["answer"]

    def test_interrupt_before_anything_came_leaves_the_old_file(self) -> None:
        Path("answer").write_text("old")
        FileAnswer(Path("answer"), "utf-8").__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert Path("answer").read_text() == "old"
        assert left_behind() == ["answer"]

    def test_nothing_to_try_leaves_the_old_file(self, program: Program) -> None:
        Path("answer").write_text("old")
        assert program("generate", "--jsonl", "-", "-o", "answer", stdin=b"nonsense").code == 1
        assert Path("answer").read_text() == "old"

    def test_permissions_and_links_are_kept(self) -> None:
        Path("real").write_text("old")
        Path("real").chmod(0o640)
        Path("link").symlink_to("real")
        with FileAnswer(Path("link"), "utf-8") as answer:
            answer.write("new")
        assert Path("link").is_symlink()
        assert Path("real").read_text() == "new"
        assert stat.S_IMODE(Path("real").stat().st_mode) == 0o640

    def test_new_file_obeys_the_umask(self) -> None:
        old = os.umask(0o027)
        try:
            with FileAnswer(Path("answer"), "utf-8"):
                pass
        finally:
            os.umask(old)
        assert stat.S_IMODE(Path("answer").stat().st_mode) == 0o640

    @pytest.mark.parametrize(
        ("name", "error"),
        [
            (".", ". is a folder, not a file"),
            ("no/answer", "cannot write no/answer: No such file or directory"),
        ],
    )
    def test_what_cannot_be_written_fails_before_any_work(
        self, program: Program, name: str, error: str
    ) -> None:
        result = program("generate", "x", "-m", "no/such/model", "-o", name)
        assert (result.code, result.stderr) == (1, f"error: {error}\n")

    def test_full_disk_leaves_the_old_file(self, program: Program, model_folder: Path) -> None:
        Path("answer").write_text("old")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, hard))
        try:
            result = program("generate", "x", "-m", model_folder, "-n", 50, "-o", "answer")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (result.code, result.stdout) == (1, b"")
        assert result.stderr == "error: cannot write answer: File too large\n"
        assert Path("answer").read_text() == "old"
        assert left_behind() == ["answer"]

    def test_device_is_written_to_as_it_is(self, program: Program, model_folder: Path) -> None:
        args = ("generate", "x", "-m", model_folder, "-n", 2, "-o")
        assert program(*args, "/dev/null").code == 0
        assert Path("/dev/null").is_char_device()
        result = program(*args, "/dev/full")
        assert result.code == 1
        assert result.stderr == "error: cannot write /dev/full: No space left on device\n"

    def test_dash_is_stdout(self, program: Program, model_folder: Path) -> None:
        args = ("generate", "x", "-m", model_folder, "-n", 9)
        assert program(*args, "-o", "-").stdout == program(*args).stdout != b""
        assert left_behind() == []


class TestPipe:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig", "latin-1"])
    def test_pieces_joined_are_the_whole(self, encoding: str) -> None:
        stream = BytesIO()
        answer = PipeAnswer(stream, encoding)
        for piece in ("é", "", "\r\n", "b"):
            answer.write(piece)
        assert stream.getvalue() == "é\r\nb".encode(encoding)

    def test_character_that_the_encoding_lacks_is_told(self) -> None:
        with pytest.raises(OutputError, match="ascii cannot write U\\+00E9"):
            PipeAnswer(BytesIO(), "ascii").write("é")

    def test_json_is_ascii_in_any_encoding(self) -> None:
        stream = BytesIO()
        PipeAnswer(stream, "utf-16").write_json("{}")
        assert stream.getvalue() == b"{}\n"
        assert not stream.getvalue().startswith(codecs.BOM_UTF16)


def test_closed_stdout_is_an_error_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(OutputError, match="stdout is closed"):
        open_answer(None, "utf-8")
