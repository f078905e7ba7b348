import codecs
import json
import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bigcode_cli.cli.drafts import check_return, read_drafts
from bigcode_cli.cli.fillings import Filling
from bigcode_cli.cli.infill_flags import HoleFlags
from bigcode_cli.engine.session import Session
from bigcode_cli.errors import InputError
from bigcode_cli.text.holes import MARKER, hole_at
from tests.cli.infilling import (
    CRLF,
    TEXT,
    Infill,
    best,
    infilled,
    parsed,
    refusal,
    text_filled_with,
)
from tests.cli.running import Program

pytestmark = pytest.mark.usefixtures("app")

PIECES = (
    "\n", "\n", "\r\n", "\r\n", "\r", "a", "def f(x):", "    ", "\t", "é", "\x0c", "\x85", "\x1a",
    "\xa0", "(", "#", "<", "FILL_HERE>",
)  # fmt: skip
WIDE = ("日本", "🙂", "\u2028", "\u202e", "\ufeff", "e\u0301")
ENCODINGS = {
    "utf-8": ("utf-8", b""),
    "utf-8-sig": ("utf-8", codecs.BOM_UTF8),
    "utf-16": ("utf-16-le", codecs.BOM_UTF16_LE),
    "UTF-16": ("utf-16-be", codecs.BOM_UTF16_BE),
    "utf-32": ("utf-32-be", codecs.BOM_UTF32_BE),
    "latin-1": ("latin-1", b""),
    "cp037": ("cp037", b""),
}
"""Each with its exact form and the mark that stands before the text."""


def _filled(data: bytes, argument: str, encoding: str, middles: list[str]) -> bytes:
    """What becomes of a file."""
    Path("x").write_bytes(data)
    (draft,), _ = read_drafts(argument, HoleFlags(), encoding=encoding)
    check_return(draft)
    return Filling(draft, list(map(infilled, middles))).text.encode(draft.encoding)


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, str]:
    """An encoding, and a text that it can write."""
    encoding = draw(st.sampled_from(sorted(ENCODINGS)))
    pieces = PIECES if encoding in ("latin-1", "cp037") else (*PIECES, *WIDE)
    text = draw(st.lists(st.sampled_from(pieces), min_size=1, max_size=30).map("".join))
    if ENCODINGS[encoding][1]:
        text = text.lstrip("\ufeff")  # which the encoding puts there itself
    return encoding, text


class TestOutsideTheHole:
    @settings(max_examples=300)
    @given(texts(), st.integers(0, 80), st.sampled_from(["", "x", "y\n\tz", "\n", "\r\r\nq\r"]))
    def test_nothing_changes_by_a_byte(
        self, case: tuple[str, str], place: int, middle: str
    ) -> None:
        encoding, text = case
        place = min(place, len(text))
        assume(text[max(0, place - 1) : place + 1] != "\r\n")
        assume(not (place == 0 and text.startswith("\ufeff")))
        assume(text.removeprefix("\ufeff"))
        line = text.count("\n", 0, place) + 1
        column = place - (text.rfind("\n", 0, place) + 1) + 1
        if line == 1 and text.startswith("\ufeff"):
            column -= 1
        exact, mark = ENCODINGS[encoding]
        before, after = mark + text[:place].encode(exact), text[place:].encode(exact)

        filled = _filled(before + after, f"x:{line}:{column}", encoding, [middle])
        assert filled.startswith(before)
        assert filled.endswith(after)
        inside = filled[len(before) : len(filled) - len(after)].decode(exact)
        assert inside.replace("\r", "") == middle.replace("\r", "")

    @settings(max_examples=100)
    @given(texts(), st.lists(st.integers(0, 80), min_size=1, max_size=4))
    def test_nothing_changes_by_a_byte_around_markers(
        self, case: tuple[str, str], places: list[int]
    ) -> None:
        encoding, text = case
        assume(text.removeprefix("\ufeff"))
        ends = [0, *sorted(min(place, len(text)) for place in places), len(text)]
        parts = [text[start:end] for start, end in pairwise(ends)]
        assume(MARKER.join(parts).split(MARKER) == parts)
        middles = [f"<{number}>" for number in range(len(parts) - 1)]
        whole = parts[0] + "".join(m + p for m, p in zip(middles, parts[1:], strict=True))
        exact, mark = ENCODINGS[encoding]
        filled = _filled(mark + MARKER.join(parts).encode(exact), "x", encoding, middles)
        assert filled == mark + whole.encode(exact)

    def test_an_encoding_that_cannot_give_the_bytes_back_is_refused(self) -> None:
        Path("x").write_bytes(b"a\n+AGE-")
        (draft,), _ = read_drafts("x:1", HoleFlags(), encoding="utf-7")
        with pytest.raises(InputError, match="would not be written as it was read"):
            check_return(draft)


class TestPrint:
    @pytest.mark.parametrize("ends", ["\n", "\r\n"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_file_is_the_whole_text(
        self, infill: Infill, session: Session, ends: str, mark: str
    ) -> None:
        text = mark + text_filled_with(session, lambda middle: "\n" in middle, ends=ends)
        Path("x.py").write_bytes(text.encode())
        hole = hole_at(text, 2)
        middle = best(session, hole.prefix, hole.suffix).replace("\n", ends)
        result = infill("x.py:2", "--print", "file")
        assert result.stdout == f"{hole.before}{middle}{hole.after}".encode()

    def test_file_is_the_whole_of_stdin(self, infill: Infill, session: Session) -> None:
        data = f"a\r\n{MARKER}\r\nb".encode("utf-16")
        result = infill("-", "--print", "file", "--encoding", "utf-16", stdin=data)
        middle = best(session, "a\n", "\nb").replace("\n", "\r\n")
        assert result.stdout == f"a\r\n{middle}\r\nb".encode("utf-16")

    def test_output_takes_what_is_printed(self, infill: Infill) -> None:
        for what in ("middle", "file", "diff"):
            assert infill("app.py:2", "--print", what, "-o", "out").stdout == b""
            assert Path("out").read_bytes() == infill("app.py:2", "--print", what).stdout

    @pytest.mark.parametrize("text", [TEXT, CRLF, TEXT[:-1], CRLF[:-2], f"\ufeff{CRLF}", "x"])
    @pytest.mark.parametrize("name", ["x.py", "with space.py", "été 日本.py", "in/ner.py"])
    def test_git_applies_the_diff(self, infill: Infill, text: str, name: str) -> None:
        subprocess.run(["git", "init", "-q", "."], check=True)
        Path("in").mkdir()
        Path(name).write_bytes(text.encode())
        place = f"{name}:{text.count(chr(10)) // 2 + 1}"
        whole = infill(place, "--print", "file").stdout
        diff = infill(place, "--print", "diff").stdout
        done = subprocess.run(["git", "apply"], input=diff, capture_output=True, check=False)
        assert (done.returncode, Path(name).read_bytes()) == (0, whole), done.stderr

    def test_git_applies_the_diff_of_several_holes_in_latin_1(self, infill: Infill) -> None:
        subprocess.run(["git", "init", "-q", "."], check=True)
        text = f"é = {MARKER}\r\n" + "é\r\n" * 20 + f"x{MARKER}{MARKER}\r\né{MARKER}"
        Path("é.py").write_bytes(text.encode("latin-1"))
        # A stop text keeps out what the encoding lacks.
        args = ("é.py", "--encoding", "latin-1", "--stop", "\ufffd", "-n", 2)
        whole = infill(*args, "--print", "file")
        diff = infill(*args, "--print", "diff")
        assert (whole.code, diff.code) == (0, 0)
        assert diff.stdout.count(b"\n@@ ") == 2
        subprocess.run(["git", "apply"], input=diff.stdout, check=True)
        assert Path("é.py").read_bytes() == whole.stdout

    @pytest.mark.parametrize(
        ("args", "error"),
        [
            (["--prefix", "x", "--print", "diff"], "a patch is of a file"),
            (["--jsonl", "r", "--print", "diff"], "a patch is of a file"),
            (["-", "--print", "diff"], "a patch is of a file"),
            (["x:1", "--print", "diff", "--encoding", "utf-16"], "a patch holds no utf-16-le text"),
            (["--prefix", "x", "-w"], "--write fills a file in place"),
            (["--jsonl", "r", "-w"], "--write fills a file in place"),
            (["-", "-w"], "--write fills a file in place"),
        ],
    )
    def test_what_needs_a_file_says_so(self, program: Program, args: list[str], error: str) -> None:
        Path("r").write_text('{"prefix": "x", "suffix": ""}')
        Path("x").write_text("x", encoding="utf-16")
        result = program("infill", "-m", "./missing", *args, stdin=f"x{MARKER}".encode())
        assert refusal(result).startswith(error)


class TestWrite:
    @pytest.mark.parametrize("text", [TEXT, CRLF, TEXT[:-1], f"\ufeff{CRLF}"])
    def test_file_is_what_would_be_printed(self, infill: Infill, text: str) -> None:
        Path("x.py").write_bytes(text.encode())
        Path("x.py").chmod(0o750)
        Path("link.py").symlink_to("x.py")
        whole = infill("x.py:2", "--print", "file").stdout
        result = infill("link.py:2", "-w")
        assert (result.code, result.stdout) == (0, b"")
        assert result.stderr.startswith("note: filled link.py at line 2")
        assert Path("x.py").read_bytes() == whole
        assert Path("link.py").is_symlink()
        assert os.stat("x.py").st_mode & 0o777 == 0o750  # noqa: PTH116

    def test_several_holes_are_told_with_what_their_budget_cut(self, infill: Infill) -> None:
        Path("x").write_text(f"a{MARKER}\n\nb{MARKER}\n")
        holes = parsed(infill("x", "-n", 1, "--json").stdout)["holes"]
        cut = [" (ended by --max-new-tokens)" * (h["finish_reason"] == "length") for h in holes]
        assert any(cut)
        result = infill("x", "-w", "-n", 1)
        assert result.stderr == f"note: filled x at lines 1{cut[0]} and 3{cut[1]}\n"
        assert infill("app.py:2", "-w", "--quiet").stderr == ""

    @pytest.mark.parametrize("what", ["middle", "file", "diff", "json"])
    def test_prints_what_is_asked_for_besides(self, infill: Infill, what: str) -> None:
        flags = ["--json"] if what == "json" else ["--print", what]
        expected = infill("app.py:2", *flags).stdout
        whole = infill("app.py:2", "--print", "file").stdout
        printed = infill("app.py:2", *flags, "-w").stdout
        if what == "json":
            expected, printed = (
                json.dumps({**parsed(out), "timing": 0}).encode() for out in (expected, printed)
            )
        assert printed == expected
        assert Path("app.py").read_bytes() == whole

    def test_nothing_to_fill_in_leaves_the_file_alone(self, infill: Infill) -> None:
        middle = infill("app.py:2").stdout.decode()
        before = Path("app.py").stat()
        result = infill("app.py:2", "-w", "--stop", middle[0])
        assert result.stderr == "note: nothing belongs there: app.py is as it was\n"
        assert Path("app.py").stat() == before
        diff = infill("app.py:2", "--print", "diff", "--stop", middle[0])
        assert (diff.stdout, diff.stderr) == (
            b"", "note: nothing belongs there: the patch is empty\n",
        )  # fmt: skip

    def test_file_that_was_changed_meanwhile_is_left_and_the_middle_is_printed(
        self, infill: Infill, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        middle = infill("app.py:2").stdout
        real = Session.infill

        def change_and_infill(*args: object, **named: object) -> object:
            Path("app.py").write_text("changed")
            return real(*args, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(Session, "infill", change_and_infill)
        result = infill("app.py:2", "-w")
        assert (result.code, result.stdout) == (1, middle)
        assert result.stderr == "error: app.py was changed meanwhile, and is left as it is\n"
        assert Path("app.py").read_text() == "changed"
        Path("app.py").write_text(TEXT)
        asked = infill("app.py:2", "-w", "--print", "middle", "-o", "out")
        assert (asked.code, asked.stdout, Path("out").read_bytes()) == (1, b"", middle)

    def test_character_that_the_encoding_lacks_leaves_the_file(
        self, infill: Infill, session: Session
    ) -> None:
        text = text_filled_with(session, lambda middle: not middle.isascii())
        Path("x.py").write_text(text)
        result = infill("x.py:2", "-w", "--encoding", "ascii")
        assert result.code == 1
        assert "ascii cannot write U+" in result.stderr
        assert Path("x.py").read_text() == text

    def test_what_cannot_be_written_fails_before_any_work(self, program: Program) -> None:
        Path("other.py").hardlink_to("app.py")
        result = program("infill", "-m", "./missing", "app.py:2", "-w")
        assert refusal(result, 1).startswith("app.py has 2 names (hard links)")
        assert "--print file" in result.stderr


class TestExamples:
    """What the help page shows, with the built-in model."""

    def test_pipe(self, program: Program) -> None:
        data = b"def add(a, b):\n    <FILL_HERE>\n"
        result = program("infill", "-", "--offline", stdin=data)
        assert (result.code, result.stderr) == (0, "")
        compile(data.replace(b"<FILL_HERE>", result.stdout), "filled", "exec")

    def test_patch(self, program: Program) -> None:
        subprocess.run(["git", "init", "-q", "."], check=True)
        lines = ["import json", "", "", "def read_json(path):", "    return json.load(", ""]
        Path("app.py").write_text("\n".join([*lines, "", "", "", "def main():", "    x = "]))
        before = Path("app.py").read_bytes()
        result = program("infill", "app.py:5", "--print", "diff", "--offline")
        assert (result.code, result.stderr) == (0, "")
        subprocess.run(["git", "apply"], input=result.stdout, check=True)
        after = Path("app.py").read_bytes()
        assert after != before
        assert after.startswith(b"\n".join(line.encode() for line in lines[:5]))
