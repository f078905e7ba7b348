"""The files in a folder that someone would call its own."""

import os
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

from bigcode_cli.git import run_git

CACHES = frozenset({"__pycache__"})

_ALL = ("ls-files", "--cached", "--others", "--exclude-standard", "-z")
_OTHERS = ("ls-files", "--others", "--exclude-standard", "-z")


def list_files(folder: Path) -> list[str]:
    """The files in a folder, sorted, by their names from there, with slashes.

    In a git repository those that it tracks or would. Elsewhere, in a folder that git ignores as
    a whole, and in a repository that git refuses, all but what a ``.gitignore`` within the folder
    leaves out, hidden ones and Python's caches; without git the same, whatever a ``.gitignore``
    says. Repositories within the folder, submodules too, are listed by their own rules.

    Links are not followed, and only plain files are listed. A folder that cannot be read has none.
    """
    names: set[str] = set()
    known: dict[str, bool] = {}
    for name in _listed(folder):
        if name.endswith("/") or _is_folder(folder / name):
            inner = name.rstrip("/")
            if _within(inner) and is_unlinked(folder, inner, known) and _is_folder(folder / inner):
                names.update(f"{inner}/{one}" for one in list_files(folder / inner))
        elif is_plain(folder, name, known):
            names.add(name)
    return sorted(names)


def is_plain(folder: Path, name: str, known: dict[str, bool] | None = None) -> bool:
    """Whether a name leads from the folder to a file, neither out of it nor over a link.

    Args:
        known: what is found out about folders on the way, for the next call with this folder.
    """
    if not _within(name) or not is_unlinked(folder, name, known):
        return False
    try:
        return stat.S_ISREG((folder / name).lstat().st_mode)
    except (OSError, ValueError):
        return False


def is_unlinked(folder: Path, name: str, known: dict[str, bool] | None = None) -> bool:
    """Whether all that lies between the folder and what is named are folders, not links."""
    known = {} if known is None else known
    above = name.rpartition("/")[0]
    if not above:
        return True
    if above not in known:
        known[above] = _is_folder(folder / above) and is_unlinked(folder, above, known)
    return known[above]


def matches(name: str, glob: str) -> bool:
    """Whether a file's name from its folder fits a pattern, beginning at any folder.

    ``*``, ``?`` and ``[…]`` stand for parts of one name, ``**`` for any number of folders:
    ``*.py`` fits anywhere, ``src/*.py`` directly within any ``src``, ``src/**/*.py`` below one.
    """
    return _fits(name.split("/"), ["**", *PurePath(glob).parts])


def _fits(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_fits(parts[start:], wanted[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], wanted[0]) and _fits(parts[1:], wanted[1:])


def _listed(folder: Path) -> Iterator[str]:
    """Names of what may be files; those of repositories end with a slash."""
    done = run_git(folder, *_ALL)
    if done is None:
        yield from _walked(folder)
        return
    names = _names(done.stdout)
    if done.returncode == 0 and names and names != ["./"]:  # as of a submodule that is not there
        yield from names
    elif done.returncode or names or _is_ignored(folder):
        yield from (name for name in _without_repository(folder) if _is_shown(name))


def _is_ignored(folder: Path) -> bool:
    done = run_git(folder, "check-ignore", "--quiet", ".")
    return done is not None and done.returncode == 0


def _without_repository(folder: Path) -> list[str]:
    """What git would list if a repository began at this folder."""
    with TemporaryDirectory() as made:
        empty = Path(made)
        (empty / "HEAD").write_text("ref: refs/heads/none\n")
        (empty / "objects").mkdir()
        (empty / "refs").mkdir()
        work_tree = folder.absolute()
        done = run_git(folder, f"--git-dir={empty}", f"--work-tree={work_tree}", *_OTHERS)
    return _names(done.stdout) if done is not None else []


def _names(output: bytes) -> list[str]:
    return [os.fsdecode(name) for name in output.split(b"\0") if name]


def _walked(folder: Path) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if _is_shown(name)]
        for name in files:
            if _is_shown(name):
                yield Path(where, name).relative_to(folder).as_posix()


def _is_shown(name: str) -> bool:
    parts = name.rstrip("/").split("/")
    return not any(part.startswith(".") or part in CACHES for part in parts)


def _within(name: str) -> bool:
    return bool(name) and not {"", ".", ".."} & set(name.split("/"))


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (OSError, ValueError):
        return False
