"""Which files are a folder's own."""

import os
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.folders import is_plain, list_files, matches
from tests.repositories import commit, git, put, repository, trap

ODD_NAMES = [
    "a b.py", "-x", "é.py", "new\nline.py", 'quo"te.py', "back\\slash.py", "esc\x1b[31m.py",
    "[ab].py", ":(top)x", "tab\t.py", " lead", "trail ", os.fsdecode(b"\xff.py"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


class TestInARepository:
    def test_git_says_which_files(self, tmp_path: Path) -> None:
        repository(tmp_path)
        put(tmp_path, "tracked.py", "kept.log", "gone.py")
        commit(tmp_path)
        put(tmp_path, "src/new.py", ".hidden/a.py", "a.log", "build/b.py")
        put(tmp_path, ".gitignore", data=b"*.log\n/build/\n")
        (tmp_path / "gone.py").unlink()
        listed = [".gitignore", ".hidden/a.py", "kept.log", "src/new.py", "tracked.py"]
        assert list_files(tmp_path) == listed
        assert list_files(tmp_path / "src") == ["new.py"]

    def test_a_folder_that_is_ignored_as_a_whole_is_listed_when_it_is_named(
        self, tmp_path: Path
    ) -> None:
        repository(tmp_path)
        put(tmp_path, ".gitignore", data=b"build/\n*.log\n")
        put(tmp_path, "build/a.py", "build/in/b.py", "build/.hidden", "logs/a.log")
        assert list_files(tmp_path) == [".gitignore"]
        assert list_files(tmp_path / "build") == ["a.py", "in/b.py"]
        assert list_files(tmp_path / "build/in") == ["b.py"]
        assert list_files(tmp_path / "logs") == []

    def test_repositories_within_are_listed_by_their_own_rules(self, tmp_path: Path) -> None:
        repository(tmp_path)
        repository(tmp_path / "module")
        put(tmp_path / "module", "a.py", "a.log")
        put(tmp_path / "module", ".gitignore", data=b"*.log\n")
        git(tmp_path / "module", "add", ".")
        git(tmp_path / "module", "commit", "-q", "--allow-empty", "-m", "a commit")
        commit(tmp_path)  # a submodule from now on
        put(repository(tmp_path / "other"), "b.py")
        assert list_files(tmp_path) == ["module/.gitignore", "module/a.py", "other/b.py"]

    def test_a_repository_behind_a_link_is_not_one_within(self, tmp_path: Path) -> None:
        outer = repository(tmp_path / "outer")
        put(repository(outer / "in/module"), "a.py")
        commit(outer / "in/module")
        commit(outer)
        (outer / "in").rename(tmp_path / "far")
        (outer / "in").symlink_to(tmp_path / "far")
        assert list_files(outer) == []

    def test_a_submodule_that_is_not_there_is_an_ordinary_folder(self, tmp_path: Path) -> None:
        repository(tmp_path)
        commit(repository(tmp_path / "module"))
        commit(tmp_path)
        (tmp_path / "module/.git").rename(tmp_path / "module/gone")
        put(tmp_path, "module/a.py")
        assert "module/a.py" in list_files(tmp_path)
        assert "a.py" in list_files(tmp_path / "module")

    @pytest.mark.parametrize("damage", ["HEAD", "config"])
    def test_one_that_git_refuses_is_listed_like_any_folder(
        self, tmp_path: Path, damage: str
    ) -> None:
        repository(tmp_path)
        put(tmp_path, "a.py", "a.log", ".hidden")
        put(tmp_path, ".gitignore", data=b"*.log\n")
        put(tmp_path, f".git/{damage}", data=b"[nonsense")
        assert list_files(tmp_path) == ["a.py"]

    def test_one_that_this_process_was_started_for_does_not_count(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(repository(tmp_path / "one"), "a.py")
        put(repository(tmp_path / "two"), "b.py")
        monkeypatch.setenv("GIT_DIR", str(tmp_path / "one/.git"))
        monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "one"))
        assert list_files(tmp_path / "two") == ["b.py"]

    def test_none_of_its_programs_is_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program, mark = trap(tmp_path)
        inner = repository(tmp_path / "repository")
        put(inner, "a.py")
        commit(inner)
        for name in ("core.fsmonitor", "core.pager", "filter.x.clean", "core.sshCommand"):
            git(inner, "config", name, str(program))
        put(inner, ".gitattributes", data=b"* filter=x\n")
        put(inner, "git", data=program.read_bytes())
        (inner / "git").chmod(0o755)
        monkeypatch.chdir(inner)
        monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")
        assert list_files(Path()) == [".gitattributes", "a.py", "git"]
        assert not mark.exists()


class TestElsewhere:
    def test_ignore_files_are_obeyed_and_hidden_files_and_caches_left_out(
        self, tmp_path: Path
    ) -> None:
        put(tmp_path, "a.py", "a.log", "src/b.py", "src/b.tmp", "b.tmp", ".hidden/c.py", ".env")
        put(tmp_path, "__pycache__/d.py", "src/__pycache__/e.py", "in/.git/config")
        put(tmp_path, ".gitignore", data=b"*.log\n")
        put(tmp_path, "src/.gitignore", data=b"*.tmp\n")
        assert list_files(tmp_path) == ["a.py", "b.tmp", "src/b.py"]

    def test_repositories_within_are_listed_by_their_own_rules(self, tmp_path: Path) -> None:
        put(repository(tmp_path / "one"), "a.py", "a.log", ".hidden")
        put(tmp_path / "one", ".gitignore", data=b"*.log\n")
        put(repository(tmp_path / "deep/two"), "b.log")
        put(tmp_path, "c.py")
        listed = ["c.py", "deep/two/b.log", "one/.gitignore", "one/.hidden", "one/a.py"]
        assert list_files(tmp_path) == listed

    def test_without_git_hidden_files_and_caches_are_left_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(repository(tmp_path), "a.py", "src/b.py", "-x/c.py", ".env", "in/__pycache__/d.py")
        monkeypatch.setenv("PATH", "")
        assert list_files(tmp_path) == ["-x/c.py", "a.py", "src/b.py"]

    def test_what_cannot_be_read_has_no_files(self, tmp_path: Path) -> None:
        put(tmp_path, "file")
        assert list_files(tmp_path / "missing") == []
        assert list_files(tmp_path / "file") == []


@pytest.mark.parametrize("kind", ["tracked", "untracked", "no repository", "no git"])
class TestEverywhere:
    @pytest.fixture
    def folder(self, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> Path:
        if kind in {"tracked", "untracked"}:
            repository(tmp_path / "in")
        if kind == "no git":
            monkeypatch.setenv("PATH", "")
        return tmp_path / "in"

    def finish(self, folder: Path, kind: str) -> None:
        if kind == "tracked":
            commit(folder)

    def test_names_may_be_anything(self, folder: Path, kind: str) -> None:
        put(folder, *ODD_NAMES, *(f"in/{name}/x" for name in ODD_NAMES))
        self.finish(folder, kind)
        assert list_files(folder) == sorted([*ODD_NAMES, *(f"in/{name}/x" for name in ODD_NAMES)])

    def test_links_and_what_is_no_file_are_left_out(
        self, folder: Path, kind: str, tmp_path: Path
    ) -> None:
        put(tmp_path, "far/a.py")
        put(folder, "a.py", "moved/b.py")
        (folder / "link.py").symlink_to("a.py")
        (folder / "broken").symlink_to("nothing")
        (folder / "links").symlink_to(tmp_path / "far")
        (folder / "around").symlink_to(".")
        os.mkfifo(folder / "pipe")
        self.finish(folder, kind)
        assert list_files(folder) == ["a.py", "moved/b.py"]
        (folder / "moved/b.py").unlink()
        (folder / "moved").rmdir()
        put(tmp_path, "far/b.py")
        (folder / "moved").symlink_to(tmp_path / "far")  # where git knows a file
        assert list_files(folder) == ["a.py"]

    def test_a_folder_named_by_a_link_or_from_here_is_the_folder(
        self, folder: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(folder, "a.py", "src/b.py")
        self.finish(folder, kind)
        (tmp_path / "link").symlink_to(folder)
        monkeypatch.chdir(folder)
        for name in (tmp_path / "link", Path(), Path("src/.."), Path("../in")):
            assert list_files(name) == ["a.py", "src/b.py"]


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a.py", "in/../a.py", "in//a.py", "a\0b"])
def test_names_that_lead_elsewhere_are_none(tmp_path: Path, name: str) -> None:
    put(tmp_path, "a.py", "in/a.py")
    assert not is_plain(tmp_path / "in", name)
    assert is_plain(tmp_path / "in", "a.py")


class TestMatches:
    @pytest.mark.parametrize(
        ("glob", "fitting"),
        [
            ("*.py", {"a.py", "src/b.py", "src/in/deep/c.py", "lib/src/d.py"}),
            ("src/*.py", {"src/b.py", "lib/src/d.py"}),
            ("src/**/*.py", {"src/b.py", "src/in/deep/c.py", "lib/src/d.py"}),
            ("src/**", {"src/b.py", "src/in/deep/c.py", "lib/src/d.py", "src/e.[js"}),
            ("**/deep/*", {"src/in/deep/c.py"}),
            ("?.py", {"a.py", "src/b.py", "src/in/deep/c.py", "lib/src/d.py"}),
            ("[ab].py", {"a.py", "src/b.py"}),
            ("*.[[]js", {"src/e.[js"}),
            ("*.PY", set()),
            ("py", set()),
        ],
    )
    def test_a_pattern_fits_from_the_right(self, glob: str, fitting: set[str]) -> None:
        names = {"a.py", "src/b.py", "src/in/deep/c.py", "lib/src/d.py", "src/e.[js"}
        assert {name for name in names if matches(name, glob)} == fitting

    @given(
        st.lists(st.sampled_from(["a", "b", "ab", "a.b"]), min_size=1, max_size=4),
        st.lists(st.sampled_from(["a", "*", "?", "a*", "[ab]", "*.b"]), min_size=1, max_size=4),
    )
    def test_without_two_stars_it_is_what_paths_match(
        self, name: list[str], glob: list[str]
    ) -> None:
        joined = "/".join(name), "/".join(glob)
        assert matches(*joined) == PurePath(joined[0]).match(joined[1])
