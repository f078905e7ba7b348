from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.cli.inputs import BadRecord, Record, check_encoding, decode, read_records
from bigcode_cli.errors import InputError, UsageError
from tests.cli.running import Program


def records(data: bytes, encoding: str = "utf-8") -> list[Record | BadRecord]:
    Path("records.jsonl").write_bytes(data)
    return list(read_records(Path("records.jsonl"), ("prompt",), encoding=encoding))


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_decoding_changes_nothing(text: str) -> None:
    assert decode(text.encode(), "utf-8", "x") == text


@pytest.mark.parametrize("encoding", ["base64", "rot13", "nonsense", "a\0b"])
def test_only_text_encodings_are_known(encoding: str) -> None:
    with pytest.raises(UsageError, match="unknown encoding"):
        check_encoding(encoding)


class TestOneInput:
    @pytest.mark.parametrize(
        ("args", "stdin", "code", "error"),
        [
            ([""], b"", 2, "the prompt is empty"),
            ([], b"", 2, "the prompt is empty"),
            (["-"], b"", 2, "the prompt is empty"),
            (["-f", "empty"], b"", 2, "the prompt is empty"),
            ([], None, 2, "no prompt"),
            (["-f", "missing"], b"", 2, "no such file: missing"),
            (["-f", "."], b"", 2, ". is a folder, not a file"),
            (["-f", "latin"], b"", 2, "latin is not utf-8: byte 0xe9 in line 2"),
            ([], b"\xff", 2, "stdin is not utf-8: byte 0xff in line 1"),
            (["x", "-f", "empty"], b"", 2, "the prompt is given twice"),
            (["x", "--jsonl", "empty"], b"", 2, "--jsonl holds the prompts"),
            (["--jsonl", "empty"], b"", 2, "empty has no records"),
            (["--jsonl", "missing"], b"", 2, "no such file: missing"),
            (["x", "--encoding", "nonsense"], b"", 2, "unknown encoding 'nonsense'"),
            (["\udce9t\udce9"], b"", 2, "the prompt is not valid text"),
        ],
    )
    def test_bad_input_is_one_clear_line(
        self, program: Program, args: list[str], stdin: bytes | None, code: int, error: str
    ) -> None:
        Path("empty").write_bytes(b"")
        Path("latin").write_bytes(b"\n\xe9t\xe9")
        result = program("generate", *args, stdin=stdin)
        lines = result.stderr.splitlines()
        assert (result.code, result.stdout) == (code, b"")
        assert lines[0].startswith(f"error: {error}")
        assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: "))

    @pytest.mark.parametrize("way", ["argument", "file", "stdin", "dash", "file dash"])
    def test_every_way_in_keeps_the_text(
        self, program: Program, model_folder: Path, way: str
    ) -> None:
        text = "\ufeff  a\r\nb\rc\\n\t\n\n"
        Path("file").write_bytes(text.encode())
        args = {"argument": [text], "file": ["-f", "file"], "stdin": [], "dash": ["-"]}
        result = program(
            "generate", "-m", model_folder, "-n", 1, "--echo",
            *args.get(way, ["-f", "-"]), stdin=text.encode(),
        )  # fmt: skip
        assert result.code == 0
        assert result.stdout.startswith(text.encode())

    def test_encoding_is_that_of_input_and_output(
        self, program: Program, model_folder: Path
    ) -> None:
        Path("latin").write_bytes("été".encode("latin-1"))
        result = program(
            "generate", "-m", model_folder, "-n", 1, "--echo", "-f", "latin",
            "--encoding", "latin-1",
        )  # fmt: skip
        assert result.code == 0
        assert result.stdout.startswith("été".encode("latin-1"))


class TestRecords:
    def test_lines_are_read_whatever_their_ends_and_blank_ones_passed_over(self) -> None:
        found = records(b'\xef\xbb\xbf{"id": 7, "prompt": "a"}\r\n\n{"prompt": "b", "more": 1}')
        assert found == [
            Record(place="records.jsonl:1", id=7, texts={"prompt": "a"}),
            Record(place="records.jsonl:3", id=None, texts={"prompt": "b"}),
        ]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-32-be"])
    def test_any_encoding_will_do(self, encoding: str) -> None:
        (found,) = records('{"prompt": "été"}\n'.encode(encoding), encoding)
        assert isinstance(found, Record)
        assert found.texts == {"prompt": "été"}

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            (b"nonsense", "not JSON: Expecting value"),
            (b"[" * 100_000, "not JSON: nested too deeply"),
            (b"[1]", "not a JSON object"),
            (b'{"id": 1}', 'no "prompt"'),
            (b'{"prompt": ""}', '"prompt" is empty'),
            (b'{"prompt": 3}', '"prompt" must be a text'),
            (b'{"prompt": "\\ud800"}', '"prompt" holds a lone surrogate'),
            (b'{"prompt": "a", "id": [1]}', '"id" must be a text or a whole number'),
            (b'{"prompt": "\xff"}', "not utf-8: byte 0xff"),
        ],
    )
    def test_bad_line_is_named_and_spoils_no_other(self, line: bytes, error: str) -> None:
        good = b'{"prompt": "a"}'
        before, bad, after = records(b"\n".join([good, line, good]))
        assert isinstance(before, Record)
        assert isinstance(after, Record)
        assert isinstance(bad, BadRecord)
        assert bad.error.message == f"records.jsonl:2: {error}"

    def test_file_without_lines_is_no_input(self) -> None:
        with pytest.raises(InputError, match="has no records"):
            records(b"\n \n")
