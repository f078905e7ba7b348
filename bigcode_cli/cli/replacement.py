"""New content for a file, which takes the old content's place at once or not at all."""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from bigcode_cli.errors import OutputError


class Replacement:
    """A file beside another, which takes its name when it is whole.

    Until then, and after an error or a crash, the old file is there as it was; a reader sees the
    old or the new one, never a mixture. Mode, owner, group and extended attributes stay those of
    the old file, and symbolic links go on leading to it; other hard links keep the old content.

    Args:
        path: of the file, which need not exist.

    Attributes:
        stream: takes the new content.

    Raises:
        OutputError: nothing can be written there, or not with the old file's owner and mode.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._target = Path(os.path.realpath(path))  # the file behind a link, not the link
        self._temporary = self._target.with_name(
            f".bigcode-{os.getpid()}-{os.urandom(4).hex()}.tmp"
        )
        if self._target.exists() and not os.access(self._target, os.W_OK):
            raise OutputError(f"cannot write {path}: Permission denied")
        mode = 0o600 if self._target.exists() else 0o666  # what is private is never seen by others
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            self.stream: IO[bytes] = open(os.open(self._temporary, flags, mode), "wb")  # noqa: SIM115, PTH123
        except OSError as error:
            raise _failed(path, error) from error
        try:
            self._take_attributes()
        except OutputError:
            self.discard()
            raise

    def commit(self, check: Callable[[], None] | None = None) -> None:
        """Put the new content in place, and on the disk.

        Args:
            check: called last before the old file goes; it keeps it by raising.

        Raises:
            OutputError: the old file is still there.
        """
        try:
            self.stream.flush()
            self._take_attributes()
            os.fsync(self.stream.fileno())
            self.stream.close()
            if check is not None:
                check()
            os.replace(self._temporary, self._target)  # noqa: PTH105
        except OSError as error:
            raise _failed(self._path, error) from error
        _sync_folder(self._target.parent)

    def discard(self) -> None:
        """Leave nothing behind; after ``commit`` nothing is left to do."""
        with suppress(OSError):
            self.stream.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _take_attributes(self) -> None:
        """Make the new file's owner, mode and extended attributes those of the old one."""
        try:
            old = self._target.stat()
        except OSError:  # there is none
            return
        try:
            new = self._temporary.stat()
            if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
                os.chown(self._temporary, old.st_uid, old.st_gid)
            _copy_extended(self._target, self._temporary)
            self._temporary.chmod(stat.S_IMODE(old.st_mode))  # last: chown takes bits away
        except OSError as error:
            raise OutputError(
                f"cannot write {self._path} and keep its owner and permissions: {error.strerror}",
                "write to another file, and copy",
            ) from error


def _copy_extended(source: Path, target: Path) -> None:
    """Copy extended attributes, access control lists among them, as far as they may be copied."""
    if not hasattr(os, "listxattr"):
        return
    with suppress(OSError):
        for name in os.listxattr(source):
            with suppress(OSError):
                os.setxattr(target, name, os.getxattr(source, name))


def _sync_folder(folder: Path) -> None:
    """Bring a new name to the disk. The file is in place by now, so that no error matters."""
    with suppress(OSError):
        entry = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)


def _failed(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror}")
