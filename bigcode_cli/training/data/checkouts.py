"""Files of git checkouts at the commits that a manifest names, read without a work tree."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bigcode_cli.errors import InputError
from bigcode_cli.git import complaint, run_git
from bigcode_cli.training.data import licences

_LICENCE_NAME = re.compile(r"([a-z]+[-_])?(un)?licen[cs]e|copying", re.IGNORECASE)
_README = re.compile(r"readme", re.IGNORECASE)
_FOREIGN_FOLDERS = frozenset(
    (
        *("vendor", "vendored", "_vendor", "third_party", "thirdparty", "third-party", "extern"),
        *("node_modules", "bower_components", "dist", "build", "external", "externals", "libs"),
        *("site-packages", "generated", "gen", "locale", "locales", "cextern", "cassettes"),
    )
)
_GENERATED = re.compile(
    r"auto-?generated|automatically generated|do not edit|don't edit|generated (?:by|from|with)"
    r"|@generated|created by jazzy|sourcemappingurl",
    re.IGNORECASE,
)
_HEAD_CHARACTERS = 2_000
_POINTER_CHARACTERS = 1_000
"""A licence file as short as this is no licence: it tells of one, or of who holds the rights."""


@dataclass(frozen=True, slots=True)
class Project:
    """A line of the manifest.

    Attributes:
        project: ``owner/name``.
        commit: its full id.
        split: ``train``, or ``test`` where it is held out.
        leave_out: beginnings of paths, of what is under another licence, say.
    """

    project: str
    commit: str
    licence: str
    split: str
    leave_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What texts are drawn from.

    Attributes:
        targets: how many texts each split has, as far as there are so many.
    """

    seed: int
    targets: Mapping[str, int]
    projects: tuple[Project, ...]

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """A manifest from its file.

        Raises:
            InputError: it is none.
        """
        try:
            facts = json.loads(path.read_text("utf-8"))
            rows = [
                {**row, "leave_out": tuple(row.get("leave_out", ()))} for row in facts["projects"]
            ]
            kept = tuple(Project(**{name: row[name] for name in Project.__slots__}) for row in rows)
            return cls(facts["seed"], facts["targets"], kept)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is no manifest: {error!r}") from None

    def of(self, split: str) -> list[Project]:
        """The projects of a split."""
        return [project for project in self.projects if project.split == split]


def is_foreign(path: str) -> bool:
    """Whether a file lies where other people's code, or a program's, is kept."""
    return bool(_FOREIGN_FOLDERS & set(PurePosixPath(path.lower()).parts[:-1]))


def is_generated(text: str) -> bool:
    """Whether a file says that a program wrote it."""
    return bool(_GENERATED.search(text[:_HEAD_CHARACTERS]))


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file of a commit: its path, the id of its content, and its size in bytes."""

    path: str
    blob: str
    size: int


@dataclass(frozen=True, slots=True)
class Checkout:
    """A repository at a commit.

    Attributes:
        git_dir: of a bare repository or a clone.
        commit: its full id.
    """

    git_dir: Path
    commit: str

    @classmethod
    def find(cls, folder: Path, project: str, commit: str = "HEAD") -> "Checkout":
        """The checkout of ``owner/name`` in ``folder/owner+name``, its ``repo`` or its ``.git``.

        Raises:
            InputError: there is none, or it lacks the commit.
        """
        top = folder / project.replace("/", "+")
        for place in (top / "repo", top / "repo" / ".git", top / ".git", top):
            if (place / "HEAD").is_file():
                wanted = f"{commit}^{{commit}}"
                found = _git(place, "rev-parse", "--verify", "--quiet", wanted, missing=commit)
                return cls(place, found.decode().strip())
        raise InputError(f"no checkout of {project} in {folder}", f"clone it as {top}")

    def entries(self) -> list[Entry]:
        """Its regular files whose content is there, by path."""
        listed = _git(self.git_dir, "ls-tree", "-r", "-l", "-z", "--full-tree", self.commit)
        entries = []
        for line in listed.decode("utf-8", "surrogateescape").split("\0")[:-1]:
            facts, path = line.split("\t", 1)
            mode, kind, blob, size = facts.split()
            if kind == "blob" and mode != "120000" and size.isdigit() and path.isprintable():
                entries.append(Entry(path, blob, int(size)))
        return sorted(entries, key=lambda entry: entry.path)

    def read(self, entries: Iterable[Entry]) -> list[bytes]:
        """The contents of some files, in their order."""
        wanted = [entry.blob for entry in entries]
        said = _git(self.git_dir, "cat-file", "--batch", data="\n".join([*wanted, ""]).encode())
        contents, at = [], 0
        for blob in wanted:
            end = said.index(b"\n", at)
            words = said[at:end].split()
            if len(words) != 3:
                raise InputError(f"{self.git_dir} lacks {blob}")
            at = end + 1 + int(words[2])
            contents.append(said[end + 1 : at])
            at += 1
        return contents

    def licence(self) -> str | None:
        """Its licence by the files at its top, or where none tells by its read-me."""
        top = [entry for entry in self.entries() if "/" not in entry.path]
        for name in (_LICENCE_NAME, _README):
            files = [entry for entry in top if name.match(entry.path)]
            texts = [data.decode("utf-8", "replace") for data in self.read(files)]
            found = [(licences.from_text(text), len(text)) for text in texts]
            known = [licence for licence, _ in found if licence]
            if known:
                told = all(
                    licence or length <= _POINTER_CHARACTERS or name is _README
                    for licence, length in found
                )
                return " AND ".join(dict.fromkeys(known)) if told else None
        return None


def _git(git_dir: Path, *words: str, data: bytes = b"", missing: str = "") -> bytes:
    # The owner of a read-only store of repositories is often another user.
    settings = (("safe.directory", "*"),)
    done = run_git(git_dir, f"--git-dir={git_dir.absolute()}", *words, settings=settings, data=data)
    if done is None:
        raise InputError("no git", "install git to read checkouts")
    if done.returncode:
        raise InputError(f"{git_dir} has no commit {missing}" if missing else complaint(done))
    return bytes(done.stdout)
