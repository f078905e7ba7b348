"""Which lines git says were added since a revision."""

import os
import re
import stat
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from subprocess import PIPE, CompletedProcess
from tempfile import TemporaryFile
from typing import IO

from bigcode_cli.cli.inputs import STDIN, check_encoding
from bigcode_cli.cli.patches import read_patch
from bigcode_cli.cli.sources import Found, Gathering, Lines, check_globs, fits, is_folder
from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.folders import is_plain
from bigcode_cli.git import complaint, run_git

NOTHING: Lines = frozenset()

_DIFF = (
    "diff-index",
    "--find-renames",
    "--ignore-submodules=all",
    "--no-ext-diff",
    "--no-textconv",
)
_PATCH = ("-p", "--unified=0", "--inter-hunk-context=0", "--src-prefix=a/", "--dst-prefix=b/")
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def find_changed(
    rev: str, files: Sequence[Path], *, globs: Sequence[str], encoding: str, what: str
) -> Found:
    """What of the inputs was added since a revision, as ``find_sources`` finds it.

    Each source has the ``lines`` that were added; what has none is left out, so that there may be
    no source at all without anything having failed. A named file that is gone since the revision
    is left out too.

    Args:
        rev: the revision, in any form that git knows; what is compared is the working tree.
        files: files and folders; none at all is the current folder.
        globs: see ``find_sources``.
        what: an input's name in errors.

    Raises:
        UsageError: there is no git, repository or such revision; stdin is named; or git cannot
            count the lines of this encoding.
        InputError: the only input is missing, unreadable or no text.
    """
    check_encoding(encoding)
    if "\n".encode(encoding) != b"\n":
        raise UsageError(f"git cannot count the lines of {encoding}", "--diff needs another one")
    if any(str(name) == STDIN for name in files):
        raise UsageError(f"--diff needs files, not a {what} from stdin")
    inputs = files or (Path(),)
    check_globs(globs, inputs)
    changes = _Changes(rev)
    gathering = Gathering(encoding, alone=len(inputs) == 1)
    for name in inputs:
        with gathering.told():
            if is_folder(name):
                added = changes.within(name)
                gathering.take_inner(
                    (name / one, lines) for one, lines in added.items() if fits(one, globs)
                )
            elif (lines := changes.of(name)) != NOTHING:
                gathering.take_file(name, lines)
    return gathering.found()


def added_lines(rev: str, files: Sequence[Path]) -> dict[Path, Lines]:
    """The lines of files that were added or changed since a revision, counted from 1.

    The working tree is compared, whatever is staged. Renames are followed. A file that the
    revision does not know, tracked or not, is added as a whole: its lines are ``None``, which
    means all. What is deleted, empty, a link or binary to git has no lines.

    Args:
        files: a file is looked at even where git ignores it, and is among the keys even without an
            added line; of a folder those that git tracks or would and that have added lines, but
            not those of repositories within. None at all is the current folder.

    Returns:
        By the file's name, a folder's joined with the name from there.

    Raises:
        UsageError: there is no git, repository or such revision.
        InputError: a file is missing and was so, or is binary to git.
    """
    changes = _Changes(rev)
    found: dict[Path, Lines] = {}
    for name in files or (Path(),):
        if is_folder(name):
            found |= {name / one: lines for one, lines in changes.within(name).items()}
        else:
            found[name] = changes.of(name)
    return found


class _Changes:
    """What was added since a revision, in as many repositories as are asked about."""

    def __init__(self, rev: str) -> None:
        self._rev = rev
        self._roots: dict[Path, Path] = {}
        self._repositories: dict[Path, _Repository] = {}

    def within(self, folder: Path) -> dict[str, Lines]:
        """Of the files in a folder, by their names from there, sorted."""
        repository, place = self._find(folder)
        above = f"{place}/" if place else ""
        return {
            name.removeprefix(above): lines
            for name, lines in sorted(repository.added.items())
            if name.startswith(above)
        }

    def of(self, file: Path) -> Lines:
        """Of a file."""
        repository, place = self._find(file)
        if not os.path.exists(file):  # noqa: PTH110 — what cannot be looked at raises nothing
            if repository.knew(place):
                return NOTHING
            raise InputError(f"no such file: {file}")
        if place in repository.added:
            return repository.added[place]
        if place in repository.binary:
            raise InputError(f"{file} is binary to git, which knows no lines of it")
        return NOTHING if place in repository.tracked or _is_empty(file) else None

    def _find(self, name: Path) -> tuple["_Repository", str]:
        """The repository of a file or folder, and its name from there."""
        real = Path(os.path.realpath(name))
        start = next(place for place in (real, *real.parents) if is_folder(place))
        if start not in self._roots:
            top = _ask(start, "rev-parse", "--show-toplevel").removesuffix(b"\n")
            self._roots[start] = Path(os.fsdecode(top))
        root = self._roots[start]
        if root not in self._repositories:
            self._repositories[root] = _Repository(root, self._rev)
        if not real.is_relative_to(root):
            raise UsageError(f"{name} is not within its git repository, {root}")
        place = real.relative_to(root).as_posix()
        return self._repositories[root], "" if place == "." else place


class _Repository:
    """One repository and a revision of it.

    Raises:
        UsageError: it has no such revision.
    """

    def __init__(self, root: Path, rev: str) -> None:
        self._root = root
        self._tree = _resolve(root, rev)
        self._settings = _without_filters(root)

    @cached_property
    def added(self) -> dict[str, Lines]:
        """The lines of each file that has some."""
        with TemporaryFile() as patch:
            _ask(self._root, *_DIFF, *_PATCH, self._tree, settings=self._settings, stdout=patch)
            patch.seek(0)
            found = {os.fsdecode(name): lines for name, lines in read_patch(patch)}
        others = _ask(self._root, "ls-files", "--others", "--exclude-standard", "-z")
        found |= dict.fromkeys(_names(others))
        known: dict[str, bool] = {}
        return {
            name: lines
            for name, lines in found.items()
            if is_plain(self._root, name, known) and not _is_empty(self._root / name)
        }

    @cached_property
    def tracked(self) -> frozenset[str]:
        """The files that git tracks."""
        return frozenset(_names(_ask(self._root, "ls-files", "--cached", "-z")))

    @cached_property
    def binary(self) -> frozenset[str]:
        """The changed files of which git shows no lines."""
        counts = _ask(
            self._root, *_DIFF, "--no-renames", "--numstat", "-z", self._tree,
            settings=self._settings,
        )  # fmt: skip
        rows = (row.split("\t", 2) for row in _names(counts))
        return frozenset(name for added, _, name in rows if added == "-")

    def knew(self, name: str) -> bool:
        """Whether the revision has a file."""
        found = _ask(
            self._root, "--literal-pathspecs", "ls-tree", "--full-tree", "-r", "-z", "--name-only",
            self._tree, "--", name,
        )  # fmt: skip
        return name in _names(found)


def _ask(
    folder: Path,
    *words: str,
    settings: Sequence[tuple[str, str]] = (),
    stdout: IO[bytes] | int = PIPE,
) -> bytes:
    done = _run(folder, *words, settings=settings, stdout=stdout)
    if done.returncode:
        raise UsageError(f"--diff: git cannot tell of {folder}: {complaint(done)}")
    return done.stdout or b""


def _run(
    folder: Path,
    *words: str,
    settings: Sequence[tuple[str, str]] = (),
    stdout: IO[bytes] | int = PIPE,
) -> CompletedProcess[bytes]:
    done = run_git(folder, *words, settings=settings, stdout=stdout)
    if done is None:
        raise UsageError("--diff needs git, which is not to be found")
    return done


def _resolve(root: Path, rev: str) -> str:
    """The tree of a revision, by a name that is nothing else."""
    name = rev
    for suffix in ("", "^{tree}"):
        found = _run(root, "rev-parse", "--verify", "--quiet", "--end-of-options", name + suffix)
        name = found.stdout.decode("ascii", "replace").strip()
        if found.returncode or not _HASH.fullmatch(name):
            raise UsageError(
                f"git knows no revision {rev!r} in {root}", "name a commit, a branch or a tag"
            )
    return name


def _without_filters(root: Path) -> list[tuple[str, str]]:
    """Settings by which comparing files runs no program that makes another text of them."""
    done = _run(root, "config", "--null", "--name-only", "--get-regexp", r"^filter\.")
    filters = {name.rpartition(".")[0] for name in _names(done.stdout)}
    return [
        (f"{name}.{key}", value)
        for name in sorted(filters)
        for key, value in (("clean", ""), ("process", ""), ("required", "false"))
    ]


def _names(output: bytes) -> list[str]:
    return [os.fsdecode(name) for name in output.split(b"\0") if name]


def _is_empty(file: Path) -> bool:
    made = file.stat()
    return stat.S_ISREG(made.st_mode) and not made.st_size
