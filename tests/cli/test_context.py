import hashlib
import os
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from bigcode_cli.cli.context import read_context, told_name
from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.records import ContextFile

KIND = "RSA PRIVATE KEY"
BODY = b64encode(hashlib.sha512(b"key").digest()).decode()
KEY = f"-----BEGIN {KIND}-----\n{BODY}\n-----END {KIND}-----\n"


def read(
    *names: str, encoding: str = "utf-8", hole: str | None = None, force: bool = False
) -> tuple[ContextFile, ...]:
    return read_context(
        [Path(name) for name in names],
        encoding=encoding, hole=None if hole is None else Path(hole), force=force,
    )  # fmt: skip


def put(name: str, text: str = "x = 1\n") -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


@pytest.fixture
def repository() -> None:
    subprocess.run(["git", "init", "-q", "."], check=True)
    put(".gitignore", "*.log\nbuild/\n!keep.log\n")


class TestText:
    def test_order_is_kept_and_line_ends_are_the_models(self) -> None:
        Path("b").write_bytes(b"\xef\xbb\xbfb\r\nb")
        put("a", "a\n")
        assert read("b", "a") == (ContextFile("b", "b\nb"), ContextFile("a", "a\n"))

    def test_encoding_is_that_of_all_files(self) -> None:
        Path("a").write_bytes("é".encode("latin-1"))
        assert read("a", encoding="latin-1")[0].text == "é"
        with pytest.raises(InputError, match="a is not utf-8: byte 0xe9"):
            read("a")

    @pytest.mark.parametrize(
        ("name", "error"),
        [("binary", "binary is binary"), ("no", "no such file: no"), (".", ". is a folder")],
    )
    def test_what_is_no_text_is_an_error_even_if_forced(self, name: str, error: str) -> None:
        Path("binary").write_bytes(b"\x7fELF\0\0")
        for force in (False, True):
            with pytest.raises(InputError, match=error):
                read(name, force=force)

    def test_file_with_the_hole_is_no_context_of_itself(self) -> None:
        put("a")
        Path("b").symlink_to("a")
        with pytest.raises(UsageError, match="b is the file with the hole"):
            read("b", hole="a")

    def test_names_are_told_from_the_current_folder(self) -> None:
        put("in/a.py")
        assert read(str(Path("in/a.py").absolute()))[0].name == "in/a.py"
        os.chdir("in")
        assert told_name(Path("../b.py")) == "../b.py"


@pytest.mark.usefixtures("repository")
class TestIgnored:
    @pytest.mark.parametrize("name", ["a.log", "in/a.log", "build/a.py", "build/in/a.py"])
    def test_what_git_ignores_is_refused_unless_forced(self, name: str) -> None:
        put(name)
        with pytest.raises(UsageError, match=f"{name} is not shown .*: git ignores it") as error:
            read(name)
        assert error.value.hint is not None
        assert "--force" in error.value.hint
        assert read(name, force=True)[0].name == name

    @pytest.mark.parametrize("name", ["a.py", "keep.log", "in/build.py", "-x", "a b.py", "é.py"])
    def test_what_git_does_not_ignore_is_taken(self, name: str) -> None:
        put(name)
        assert read(name)[0].name == name

    def test_tracked_file_is_not_ignored(self) -> None:
        put("a.log")
        subprocess.run(["git", "add", "-f", "a.log"], check=True)
        assert read("a.log")

    def test_a_link_to_an_ignored_file_is_refused_and_so_is_one_from_elsewhere(
        self, tmp_path: Path
    ) -> None:
        put("a.log")
        Path("link.py").symlink_to("a.log")
        (tmp_path / "far.py").symlink_to(Path("a.log").absolute())
        for name in ("link.py", "../far.py"):
            with pytest.raises(UsageError, match="git ignores it"):
                read(name)

    def test_each_file_is_asked_of_its_own_repository(self, tmp_path: Path) -> None:
        other = tmp_path / "other"
        subprocess.run(["git", "init", "-q", other], check=True)
        put(str(other / "a.log"))
        assert read("../other/a.log")
        (other / ".gitignore").write_text("a.*")
        with pytest.raises(UsageError, match="git ignores it"):
            read("../other/a.log")

    def test_git_that_cannot_say_is_a_refusal(self) -> None:
        put("a.py")
        Path(".git/HEAD").write_text("nonsense")
        with pytest.raises(UsageError, match="git cannot say whether it is ignored"):
            read("a.py")
        assert read("a.py", force=True)

    def test_without_git_nothing_is_ignored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        put("a.log")
        monkeypatch.setenv("PATH", "")
        assert read("a.log")


def test_outside_a_repository_nothing_is_ignored() -> None:
    put(".gitignore", "*")
    put("a.log")
    assert read("a.log")


class TestSecret:
    @pytest.mark.parametrize(("name", "text"), [(".env", "A=1\n"), ("a.py", KEY)])
    def test_what_looks_like_one_is_refused_unless_forced(self, name: str, text: str) -> None:
        put(name, text)
        with pytest.raises(UsageError, match=f"{name} is not shown to the model: ") as error:
            read(name)
        assert error.value.hint is not None
        assert "--force" in error.value.hint
        assert read(name, force=True)[0].text == text

    def test_a_link_shows_no_secret(self) -> None:
        put(".env", "A=1\n")
        Path("plain.txt").symlink_to(".env")
        with pytest.raises(UsageError, match=r"plain\.txt is not shown"):
            read("plain.txt")
