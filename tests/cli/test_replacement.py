import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bigcode_cli.cli.replacement import Replacement
from bigcode_cli.errors import OutputError
from tests.cli.running import environment

OLD, NEW = b"old\r\n" * 3000, b"new" * 100_000

KILLED_AT_EACH_LINE = """
import os, signal, sys
from pathlib import Path
from bigcode_cli.cli import replacement
from bigcode_cli.cli.replacement import Replacement

old, new, file = {old!r}, {new!r}, Path("file")

def write():
    new_file = Replacement(file)
    try:
        for start in range(0, len(new), 100_000):
            new_file.stream.write(new[start : start + 100_000])
        new_file.commit()
    finally:
        new_file.discard()

def kill_at(line):
    left = line
    def trace(frame, event, _):
        nonlocal left
        if frame.f_code.co_filename in (replacement.__file__, __file__):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace
        return None
    sys.settrace(trace)
    write()
    sys.settrace(None)

seen = []
for line in range(1, 1000):
    file.write_bytes(old)
    child = os.fork()
    if child == 0:
        kill_at(line)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    content = file.read_bytes()
    assert content in (old, new), f"a mixture, killed at {{line}}"
    seen.append(content == new)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        break
first = seen.index(True)
assert all(seen[first:]) and 20 < first < len(seen) - 3, seen
"""


def write(path: Path, content: bytes = NEW) -> None:
    new = Replacement(path)
    try:
        new.stream.write(content)
        new.commit()
    finally:
        new.discard()


def fail(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def left_behind() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


@pytest.fixture
def file() -> Path:
    path = Path("file")
    path.write_bytes(OLD)
    return path


def test_killed_at_any_line_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(KILLED_AT_EACH_LINE.format(old=OLD, new=NEW))
    done = subprocess.run(
        [sys.executable, script], env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_failing_step_leaves_the_old_file_and_nothing_else(
    file: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OutputError, match="cannot write file: No space left on device"):
            write(file)
    assert file.read_bytes() == OLD
    assert left_behind() == ["file"]


def test_owner_that_cannot_be_kept_leaves_the_old_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, mine = Path.stat, file.stat()
    foreign = os.stat_result((*mine[:4], mine.st_uid + 1, *mine[5:]))
    with monkeypatch.context() as patch:
        patch.setattr(
            Path, "stat", lambda path, **how: foreign if path.name == "file" else real(path, **how)
        )
        patch.setattr(os, "chown", fail)
        with pytest.raises(OutputError, match="cannot write file and keep its owner"):
            write(file)
    assert file.read_bytes() == OLD
    assert left_behind() == ["file"]


def test_full_disk_at_any_write_leaves_the_old_file(file: Path) -> None:
    new = Replacement(file)
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
    os.dup2(full.fileno(), new.stream.fileno())
    full.close()
    with pytest.raises(OSError, match="No space"):
        new.stream.write(NEW)
    new.discard()
    assert file.read_bytes() == OLD
    assert left_behind() == ["file"]


def test_check_that_raises_keeps_the_old_file(file: Path) -> None:
    def refuse() -> None:
        raise OutputError("changed")

    new = Replacement(file)
    new.stream.write(NEW)
    with pytest.raises(OutputError, match="changed"):
        new.commit(refuse)
    new.discard()
    assert file.read_bytes() == OLD
    assert left_behind() == ["file"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o4750, 0o666])
def test_mode_is_kept(file: Path, mode: int) -> None:
    file.chmod(mode)
    write(file)
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert file.read_bytes() == NEW


def test_content_is_never_readable_by_more_than_the_old_file(file: Path) -> None:
    file.chmod(0o600)
    new = Replacement(file)
    (temporary,) = Path().glob(".bigcode-*.tmp")
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    new.discard()


def test_owner_is_kept_or_the_file_is(file: Path) -> None:
    if os.geteuid() != 0:
        assert file.stat().st_uid == os.geteuid()
        return
    os.chown(file, 12345, 54321)
    file.chmod(0o4750)
    write(file)
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 54321)
    assert stat.S_IMODE(file.stat().st_mode) == 0o4750


def test_extended_attributes_are_kept(file: Path) -> None:
    try:
        os.setxattr(file, "user.origin", b"here")
    except (OSError, AttributeError):  # not on this system
        write(file)
        return
    write(file)
    assert os.getxattr(file, "user.origin") == b"here"


def test_links_go_on_leading_to_the_file(file: Path) -> None:
    Path("folder").mkdir()
    Path("folder/link").symlink_to("../file")
    Path("second").symlink_to("folder/link")
    write(Path("second"))
    assert Path("second").is_symlink()
    assert Path("folder/link").is_symlink()
    assert file.read_bytes() == NEW
    assert not file.is_symlink()
