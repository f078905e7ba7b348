"""The lines that git says were added, in real repositories."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigcode_cli.cli.changes import added_lines, find_changed
from bigcode_cli.cli.sources import Found, Lines
from bigcode_cli.errors import InputError, UsageError
from tests.repositories import commit, git, put, repository, trap

ODD_NAMES = [
    "a b", "-x", "é", "new\nline", 'quo"te', "back\\slash", "esc\x1b[31m", "tab\there", "lead\t",
    'both "\n b/c', "+++ b/a", ":(top)x", "[ab]*", os.fsdecode(b"\xff"), "b/b", '"',
]  # fmt: skip
SIX = b"1\n2\n3\n4\n5\n6\n"

TEXTS = st.builds(
    lambda lines, end: "\n".join(lines) + end,
    st.lists(st.sampled_from(["a", "++ b/x", "-- /dev/null", "@@ -1 +9 @@", "\\ No", ""])),
    st.sampled_from(["", "\n"]),
)


@pytest.fixture(autouse=True)
def _own_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    repository(Path())


def added(*names: str | Path, rev: str = "HEAD") -> dict[str, object]:
    return {str(name): lines for name, lines in added_lines(rev, [Path(n) for n in names]).items()}


def find(
    *names: str, rev: str = "HEAD", globs: Sequence[str] = (), encoding: str = "utf-8"
) -> Found:
    return find_changed(
        rev, [Path(name) for name in names], globs=globs, encoding=encoding, what="text"
    )


def paths(found: Found) -> list[tuple[str | None, Lines]]:
    return [(source.path, source.lines) for source in found.sources]


class TestLines:
    def test_they_are_those_added_and_changed_in_the_working_tree(self) -> None:
        put(Path(), "a", "b", "same", "less", data=SIX)
        commit(Path())
        put(Path(), "a", data=b"0\n1\n2\nthree\n4\n5\n6\n7")
        put(Path(), "b", data=b"new\n" + SIX)
        put(Path(), "less", data=b"1\n6\n")
        git(Path(), "add", "b")
        assert added() == {"a": {1, 4, 8}, "b": {1}}
        assert added("a", "same", "less") == {
            "a": {1, 4, 8},
            "same": frozenset(),
            "less": frozenset(),
        }
        commit(Path())
        assert added() == {}
        assert added(rev="HEAD~1") == {"a": {1, 4, 8}, "b": {1}}

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
    @given(old=TEXTS, new=TEXTS)
    def test_without_them_the_text_is_part_of_the_old_one(self, old: str, new: str) -> None:
        put(Path(), "a", data=old.encode())
        put(Path(), "b", data=b"")
        commit(Path())
        put(Path(), "a", data=new.encode())
        put(Path(), "b", data=b"b\n")
        found = added_lines("HEAD", [Path("a"), Path("b")])
        assert found[Path("b")] == frozenset({1})
        numbers = found[Path("a")]
        assert numbers is not None
        lines = new.splitlines(keepends=True)
        assert numbers <= {*range(1, len(lines) + 1)}
        rest = iter(old.splitlines(keepends=True))
        kept = [line for number, line in enumerate(lines, 1) if number not in numbers]
        assert all(line in rest for line in kept)  # in this order
        assert old != new or not numbers

    def test_a_new_file_is_added_as_a_whole_tracked_or_not(self) -> None:
        put(Path(), ".gitignore", data=b"*.log\n")
        commit(Path())
        put(Path(), "in/tracked", "in/untracked", "in/ignored.log", "out")
        git(Path(), "add", "in/tracked")
        assert added("in") == {"in/tracked": None, "in/untracked": None}
        assert added("in/untracked", "in/ignored.log") == {
            "in/untracked": None, "in/ignored.log": None,
        }  # fmt: skip
        assert added() == {"in/tracked": None, "in/untracked": None, "out": None}

    def test_a_renamed_file_has_the_lines_that_changed(self) -> None:
        put(Path(), "old", "older", data=SIX * 3)
        put(Path(), "older", data=b"x" + SIX * 3)
        commit(Path())
        git(Path(), "mv", "old", "new")
        git(Path(), "mv", "older", "newer")
        put(Path(), "new", data=SIX * 3 + b"more\n")
        assert added() == {"new": {19}}
        assert added("new", "newer") == {"new": {19}, "newer": frozenset()}
        Path("in").mkdir()
        git(Path(), "mv", "new", "in/new")
        assert added("in") == {"in/new": {19}}

    def test_what_is_deleted_empty_or_a_link_has_none(self) -> None:
        put(Path(), "gone", "folder/gone", "target")
        commit(Path())
        Path("gone").unlink()
        git(Path(), "rm", "-q", "folder/gone")
        put(Path(), "empty", "tracked empty", data=b"")
        git(Path(), "add", "tracked empty")
        Path("link").symlink_to("target")
        Path("staged link").symlink_to("target")
        git(Path(), "add", "staged link")
        assert added() == {}
        assert added("gone", "folder/gone", "empty", "link") == {
            name: frozenset() for name in ("gone", "folder/gone", "empty", "link")
        }
        with pytest.raises(InputError, match="no such file: never"):
            added("never")

    def test_a_named_link_is_what_it_leads_to(self, tmp_path: Path) -> None:
        put(Path(), "a", data=SIX)
        commit(Path())
        put(Path(), "a", data=SIX + SIX)
        (tmp_path / "link").symlink_to(Path("a").absolute())
        (tmp_path / "links").symlink_to(Path().absolute())
        assert added(tmp_path / "link") == {str(tmp_path / "link"): {*range(7, 13)}}
        assert added(tmp_path / "links") == {str(tmp_path / "links/a"): {*range(7, 13)}}

    def test_line_ends_that_git_converts_are_no_change(self) -> None:
        put(Path(), ".gitattributes", data=b"* text eol=crlf\n")
        put(Path(), "a", data=SIX.replace(b"\n", b"\r\n"))
        commit(Path())
        put(Path(), "a", data=SIX.replace(b"\n", b"\r\n") + b"7\r\n")
        assert added("a") == {"a": {7}}

    def test_a_line_of_any_length_is_one(self) -> None:
        put(Path(), "a", data=b"1\n" + b"2" * 300_000 + b"\n3\n")
        commit(Path())
        put(Path(), "a", data=b"1\n" + b"+" * 300_000 + b"\n3\n4\n")
        put(Path(), "b", data=SIX)
        assert added() == {"a": {2, 4}, "b": None}


class TestNames:
    def test_they_may_be_anything(self) -> None:
        names = [*ODD_NAMES, *(f"in/{name}/x" for name in ODD_NAMES)]
        put(Path(), *(name for name in names if name != "b/b"), data=SIX)
        put(Path(), "b/b", data=SIX)
        commit(Path())
        put(Path(), *names, data=SIX + b"7\n")
        assert added() == dict.fromkeys(sorted(names), frozenset({7}))
        assert added(*names) == dict.fromkeys(names, frozenset({7}))
        assert list(added("in")) == sorted(name for name in names if name.startswith("in/"))

    def test_those_that_are_gone_may_be_anything(self) -> None:
        put(Path(), *ODD_NAMES)
        commit(Path())
        git(Path(), "rm", "-q", "-r", ".")
        assert added(*ODD_NAMES) == dict.fromkeys(ODD_NAMES, frozenset())

    def test_untracked_ones_may_be_anything(self) -> None:
        commit(Path())
        put(Path(), *ODD_NAMES)
        assert added() == dict.fromkeys(sorted(ODD_NAMES))

    def test_they_are_the_users(self, monkeypatch: pytest.MonkeyPatch) -> None:
        put(Path(), "in/a", "in/deep/b", "out", "inner")
        git(Path(), "commit", "-q", "--allow-empty", "-m", "nothing")
        absolute = Path("in").absolute()
        assert list(added("in")) == ["in/a", "in/deep/b"]
        assert list(added(absolute)) == [str(absolute / "a"), str(absolute / "deep/b")]
        monkeypatch.chdir("in")
        assert list(added()) == ["a", "deep/b"]
        assert list(added("../out", "deep")) == ["../out", "deep/b"]

    def test_each_is_asked_of_its_own_repository(self, tmp_path: Path) -> None:
        commit(Path())
        other = repository(tmp_path / "other")
        put(other, "a")
        commit(other)
        put(other, "b")
        put(Path(), "c")
        commit(repository(Path("within")))
        put(Path("within"), "d")
        assert added("../other", ".") == {"../other/b": None, "c": None}
        assert added("within") == {"within/d": None}


class TestSafety:
    def test_none_of_the_repositorys_programs_is_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program, mark = trap(tmp_path)
        repository(Path("module"))
        put(Path(), "a", "module/b", data=SIX)
        put(Path(), ".gitattributes", data=b"* filter=x diff=x\n")
        put(Path(), "module/.gitattributes", data=b"* filter=inner\n")
        commit(Path("module"))
        commit(Path())
        put(Path(), "a", data=SIX + b"7\n")
        put(Path(), "module/b", data=SIX.replace(b"6", b"7"))  # of the same size: it must be read
        for folder in (Path(), Path("module")):
            for name in (
                "core.fsmonitor", "core.pager", "filter.x.clean", "filter.x.process",
                "filter.y=z.clean", "diff.external", "diff.x.command", "diff.x.textconv",
            ):  # fmt: skip
                git(folder, "config", name, str(program))
            git(folder, "config", "filter.x.required", "true")
        git(Path("module"), "config", "filter.inner.clean", str(program))
        hook = Path(".git/hooks/post-index-change")
        hook.parent.mkdir(exist_ok=True)
        hook.symlink_to(program)
        monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(program))
        assert added() == {"a": {7}}
        assert not mark.exists()

    @pytest.mark.parametrize("rev", ["--output=x", "-", "--all", "HEAD --output=x", "^HEAD"])
    def test_a_revision_is_no_option(self, rev: str) -> None:
        commit(Path())
        with pytest.raises(UsageError, match="git knows no revision"):
            added(rev=rev)
        assert os.listdir() == [".git"]  # noqa: PTH208


class TestErrors:
    @pytest.mark.parametrize("rev", ["nonsense", "", "HEAD:a", "HEAD..HEAD", "HEAD~1", "f" * 40])
    def test_a_revision_that_is_none(self, rev: str) -> None:
        put(Path(), "a")
        commit(Path())
        with pytest.raises(UsageError, match="git knows no revision"):
            added(rev=rev)

    @pytest.mark.parametrize("rev", ["HEAD", "main", "tag", "@{0}", ":/a commit", "HEAD^{tree}"])
    def test_a_revision_has_many_names(self, rev: str) -> None:
        commit(Path())
        git(Path(), "tag", "-a", "-m", "a tag", "tag")
        put(Path(), "a")
        assert added(rev=rev) == {"a": None}

    def test_a_branch_is_not_a_file_of_that_name(self) -> None:
        put(Path(), "main", data=SIX)
        commit(Path())
        put(Path(), "main", data=SIX + SIX)
        assert added("main", rev="main") == {"main": {*range(7, 13)}}

    def test_no_repository(self, tmp_path: Path) -> None:
        put(tmp_path, "a")
        for name in (tmp_path, tmp_path / "a"):
            with pytest.raises(UsageError, match=r"--diff: git cannot tell of .*: not a git rep"):
                added(name)

    def test_no_git(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        with pytest.raises(UsageError, match="--diff needs git, which is not to be found"):
            added()

    def test_a_damaged_repository(self) -> None:
        put(Path(), "a")
        commit(Path())
        Path(".git/index").write_bytes(b"nonsense")
        with pytest.raises(UsageError, match=r"--diff: git cannot tell of .*: .*index"):
            added()

    def test_a_named_file_that_is_binary_to_git(self) -> None:
        put(Path(), "a", data=b"\0" + SIX)
        put(Path(), "same", data=b"\0")
        put(Path(), "marked", data=SIX)
        put(Path(), ".gitattributes", data=b"marked binary\n")
        commit(Path())
        put(Path(), "a", data=b"\0" + SIX + SIX)
        put(Path(), "marked", data=SIX + SIX)
        assert added() == {}
        assert added("same") == {"same": frozenset()}
        for name in ("a", "marked"):
            with pytest.raises(InputError, match=f"{name} is binary to git"):
                added(name)


class TestFindChanged:
    def test_sources_have_the_lines_that_were_added(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        put(Path(), "a.py", "b.js", "same.py", "gone.py", data=SIX)
        commit(Path())
        put(Path(), "a.py", "b.js", data=SIX + "é\r\n".encode())
        put(Path(), "new.py")
        put(Path(), "image.py", data=b"\x89PNG\0")
        Path("gone.py").unlink()
        found = find()
        assert paths(found) == [("a.py", {7}), ("b.js", {7}), ("new.py", None)]
        assert (found.failed, found.binary) == (0, 1)
        assert "".join(found.sources[0].pieces()) == SIX.decode() + "é\r\n"
        assert paths(find(globs=["*.py"])) == [("a.py", {7}), ("new.py", None)]
        found = find("new.py", "same.py", "gone.py", "missing.py", ".", globs=["*.js"])
        assert paths(found) == [("new.py", None), ("b.js", {7})]
        assert found.failed == 1
        assert capsys.readouterr().err == "error: no such file: missing.py\n"

    def test_nothing_added_is_nothing_found(self) -> None:
        put(Path(), "a.py", data=SIX)
        commit(Path())
        put(Path(), "a.py", data=b"1\n")
        put(Path(), "empty.py", data=b"")
        for names in ([], ["."], ["a.py"], ["empty.py"]):
            assert find(*names) == Found([])
        put(Path(), "image.png", data=b"\0")
        assert find() == Found([], binary=1)
        assert find(globs=["*.c"]) == Found([])

    def test_the_only_input_that_cannot_be_used_is_an_error(self) -> None:
        commit(Path())
        put(Path(), "binary", data=b"\0")
        for name, error in (("missing", "no such file"), ("binary", "binary is binary, not text")):
            with pytest.raises(InputError, match=error):
                find(name)

    def test_what_makes_no_sense_is_refused(self) -> None:
        commit(Path())
        with pytest.raises(UsageError, match="git cannot count the lines of utf-16"):
            find(encoding="utf-16")
        with pytest.raises(UsageError, match="--diff needs files, not a text from stdin"):
            find("-")
        with pytest.raises(UsageError, match="--glob needs a pattern"):
            find(globs=[""])
