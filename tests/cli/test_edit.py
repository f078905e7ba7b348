import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bigcode_cli.cli.edit import (
    Edit,
    check_can_replace,
    patch_name,
    replace_content,
    unified_diff,
)
from bigcode_cli.errors import OutputError

PIECES = (
    "\n", "\n", "\r\n", "a", "a", "a\n", "\n\n\n\n", "    ", "\t", "-", "+", " ", "é", "日本",
    "\x0c", "\r", "\u2028", "\x85", "\x00", "\ufeff", "@@ -1 +1 @@", "--- a/x\n",
    "diff --git a/x b/x\n", "\\ No newline at end of file",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
NAMES = (
    "plain.py", "with space.py", "two  spaces .py", "été.py", "日本語.py", 'quo"te.py',
    "back\\slash", "tab\there", "new\nline", "-dash", "a/b/c.py", "a b/c d.py", "\x7fdel", "b/x",
    "it's.py", "é t.py",
)  # fmt: skip


@st.composite
def edited(draw: st.DrawFn) -> tuple[str, list[Edit]]:
    """A text and edits of it."""
    old = draw(TEXTS.filter(bool))
    places = draw(st.lists(st.integers(0, len(old)), min_size=2, max_size=6).map(sorted))
    ends = zip(places[::2], places[1::2], strict=False)
    insert = draw(st.booleans())
    return old, [Edit(start, start if insert else end, draw(TEXTS)) for start, end in ends]


def applied(old: str, edits: list[Edit]) -> str:
    for edit in reversed(edits):
        old = old[: edit.start] + edit.text + old[edit.end :]
    return old


def git(*args: object, data: bytes = b"", folder: Path | None = None) -> bytes:
    done = subprocess.run(
        ["git", "-c", "core.autocrlf=false", *map(str, args)],
        input=data, capture_output=True, cwd=folder, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode() + data.decode()
    return done.stdout


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


@pytest.fixture
def repository() -> Path:
    git("init", "-q", ".")
    return Path.cwd()


class TestDiff:
    @settings(max_examples=5)
    @given(st.lists(edited().filter(lambda e: applied(*e) not in ("", e[0])), min_size=40))
    @example([("a", [Edit(1, 1, "\n")]), ("a\n", [Edit(2, 2, "b")]), ("\n", [Edit(0, 0, "b")])])
    def test_git_applies_it_to_any_text(
        self, tmp_path_factory: pytest.TempPathFactory, cases: list[tuple[str, list[Edit]]]
    ) -> None:
        root = tmp_path_factory.mktemp("texts")
        git("init", "-q", ".", folder=root)
        patch = ""
        for number, (old, edits) in enumerate(cases):
            put(root / str(number), old)
            patch += unified_diff(old, edits, str(number))
        git("apply", data=patch.encode(), folder=root)
        for number, (old, edits) in enumerate(cases):
            assert (root / str(number)).read_bytes() == applied(old, edits).encode()
        git("apply", "-R", data=patch.encode(), folder=root)
        for number, (old, _) in enumerate(cases):
            assert (root / str(number)).read_bytes() == old.encode()
        shutil.rmtree(root)

    @given(edited())
    def test_it_is_empty_where_nothing_changes(self, case: tuple[str, list[Edit]]) -> None:
        old, edits = case
        assert (unified_diff(old, edits, "x") == "") == (applied(old, edits) == old)

    @pytest.mark.parametrize("name", NAMES)
    def test_git_applies_it_to_any_name(self, repository: Path, name: str) -> None:
        put(repository / name, "a\nb")
        patch = unified_diff("a\nb", [Edit(1, 1, "!")], patch_name(Path(name)))
        assert patch.isascii()
        git("apply", data=patch.encode())
        assert (repository / name).read_bytes() == b"a!\nb"

    def test_git_applies_it_to_a_name_that_is_no_text(self, repository: Path) -> None:
        name = os.fsdecode(b"\xe9t\xe9.py")
        put(repository / name, "a\n")
        git("apply", data=unified_diff("a\n", [Edit(1, 1, "!")], patch_name(Path(name))).encode())
        assert (repository / name).read_bytes() == b"a!\n"

    def test_patch_takes_it_too(self) -> None:
        put(Path("with space.py"), "a\r\nb")
        diff = unified_diff("a\r\nb", [Edit(4, 4, "\r\nc")], "with space.py")
        if patch := shutil.which("patch"):
            subprocess.run([patch, "-p1", "--binary", "-s"], input=diff.encode(), check=True)
            assert Path("with space.py").read_bytes() == b"a\r\nb\r\nc"

    def test_it_is_what_git_diff_prints(self, repository: Path) -> None:
        lines = [f"line {number}\n" for number in range(40)]
        old = "".join(lines)
        put(repository / "x y", old)
        git("add", "x y")
        edits = [Edit(at, at, text) for at, text in ((0, "new\n"), (70, "?"), (72, "!"), (260, ""))]
        edits.append(Edit(len(old), len(old), "end"))
        put(repository / "x y", applied(old, edits))
        expected = git("-c", "core.abbrev=7", "diff", "--no-indent-heuristic").decode()
        ours = unified_diff(old, edits, "x y")
        hunks = [line.partition(" @@ ") for line in expected.splitlines(keepends=True)]
        theirs = "".join(
            f"{head} @@\n" if head.startswith("@@") and mark else head + mark + tail
            for head, mark, tail in hunks
            if not head.startswith("index ")
        )
        assert ours == theirs

    def test_it_takes_time_in_proportion_to_the_file(self) -> None:
        old = "same\n" * 300_000
        diff = unified_diff(old, [Edit(0, 0, "a\n"), Edit(len(old) // 2, len(old) // 2, "b")], "x")
        assert diff.count("\n") < 20


class TestName:
    @pytest.mark.parametrize("here", [".", "inner", "inner/most"])
    def test_git_applies_it_from_any_folder_above_the_file(
        self, repository: Path, monkeypatch: pytest.MonkeyPatch, here: str
    ) -> None:
        file = repository / "inner" / "most" / "x.py"
        put(file, "a\n")
        monkeypatch.chdir(here)
        relative = Path(os.path.relpath(file))
        git("apply", data=unified_diff("a\n", [Edit(0, 1, "b")], patch_name(relative)).encode())
        assert file.read_text() == "b\n"

    def test_git_applies_it_outside_a_repository(self) -> None:
        put(Path("inner/x.py"), "a\n")
        assert patch_name(Path("inner/x.py")) == "inner/x.py"
        git("apply", data=unified_diff("a\n", [Edit(0, 1, "b")], "inner/x.py").encode())
        assert Path("inner/x.py").read_text() == "b\n"

    def test_a_link_is_named_by_what_it_leads_to(self, repository: Path) -> None:
        put(repository / "real" / "x.py", "a\n")
        Path("link.py").symlink_to("real/x.py")
        Path("folder").symlink_to("real")
        assert patch_name(Path("link.py")) == patch_name(Path("folder/x.py")) == "real/x.py"

    def test_a_file_elsewhere_is_named_from_its_own_folder(self, tmp_path: Path) -> None:
        put(tmp_path / "elsewhere" / "x.py", "a\n")
        assert patch_name(Path("../elsewhere/x.py")) == "x.py"


class TestReplace:
    def test_new_content_takes_the_place_of_the_old(self) -> None:
        put(Path("x"), "old")
        replace_content(Path("x"), b"old", b"new\r\n")
        assert Path("x").read_bytes() == b"new\r\n"
        assert [path.name for path in Path().iterdir()] == ["x"]

    @pytest.mark.parametrize("now", ["changed", None])
    def test_a_file_that_was_changed_meanwhile_is_left(self, now: str | None) -> None:
        if now is not None:
            put(Path("x"), now)
        with pytest.raises(OutputError, match="x was changed meanwhile"):
            replace_content(Path("x"), b"old", b"new")
        assert [(path.name, path.read_text()) for path in Path().iterdir()] == (
            [] if now is None else [("x", now)]
        )

    def test_a_file_with_several_names_is_refused(self) -> None:
        put(Path("x"), "old")
        Path("y").hardlink_to("x")
        with pytest.raises(OutputError, match="x has 2 names"):
            check_can_replace(Path("x"))
        with pytest.raises(OutputError, match="x has 2 names"):
            replace_content(Path("x"), b"old", b"new")
        assert Path("y").read_text() == "old"

    def test_what_is_no_plain_file_is_refused(self) -> None:
        for path in (Path("/dev/null"), Path()):
            with pytest.raises(OutputError, match="is no plain file"):
                check_can_replace(path)
