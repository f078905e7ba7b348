"""Texts labelled with their language, for a sequence head.

Run as ``python -m bigcode_cli.training.heads.language_data MANIFEST CHECKOUTS OUT``. A manifest
names projects at commits, and which of them are held out. A file's name tells its language; its
texts are its beginning and parts from its middle, since people pipe fragments as well. Projects
take turns, so that none rules a language. Nothing that is learned from resembles what is held out.
"""

import hashlib
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from bigcode_cli.errors import BigcodeError
from bigcode_cli.training.data import filters
from bigcode_cli.training.data.checkouts import (
    Checkout,
    Entry,
    Manifest,
    Project,
    is_foreign,
    is_generated,
)
from bigcode_cli.training.heads.jsonl import write_jsonl

SPLITS = ("test", "train")
"""Held-out texts are drawn first: what resembles one of them is not learned from."""

NAMES = {
    "c": ".c", "cpp": ".cc .cpp .cxx .hpp", "csharp": ".cs", "css": ".css", "dart": ".dart",
    "dockerfile": "dockerfile", "elixir": ".ex .exs", "go": ".go", "haskell": ".hs",
    "html": ".html .htm", "java": ".java", "javascript": ".js .mjs .cjs .jsx", "json": ".json",
    "julia": ".jl", "kotlin": ".kt .kts", "lua": ".lua", "makefile": "makefile gnumakefile",
    "markdown": ".md", "perl": ".pl .pm .t", "php": ".php", "python": ".py", "r": ".r",
    "rst": ".rst", "ruby": ".rb", "rust": ".rs", "scala": ".scala", "shell": ".sh .bash .bats",
    "sql": ".sql", "swift": ".swift", "toml": ".toml", "typescript": ".ts .tsx",
    "xml": ".xml", "yaml": ".yaml .yml",
}  # fmt: skip
"""Suffixes and whole names, in lower case. A header ``.h`` is left out: it may be C or C++."""

LABELS = tuple(NAMES)

_LABELS = {name: label for label, names in NAMES.items() for name in names.split()}

_SIGNS = {
    "cpp": re.compile(
        r"::|\b(?:template|class|namespace|nullptr|auto|using|virtual|constexpr|new|delete)\b"
    ),
    "html": re.compile(r"(?:<\w[^>]*>.*?){3}", re.DOTALL),
    "markdown": re.compile(r"(?m)^#{1,6} |^\s*[-*] |\]\(|`|\*\*"),
    "perl": re.compile(r"(?m)^\s*(?:use|my|sub|our|package)\s"),
    "php": re.compile(r"<\?php|[$]\w+\s*(?:=|->)|\bfunction\s"),
    "r": re.compile(r"<-|\bfunction\(|\blibrary\("),
    "rst": re.compile(r"(?m)^\s*\.\. |::$|:[\w:]+:`|``|`_|^[=~^*#\"-]{4,}\s*$"),
    "shell": re.compile(r"[$]\w|[$]\{|\b(?:echo|fi|done|esac|set|export)\b"),
    "sql": re.compile(r"(?i)\b(?:select|insert|create|alter|drop|update|with|delete|grant)\b"),
    "typescript": re.compile(
        r":\s*(?:string|number|boolean|void|any|unknown|never|[A-Z]\w*)\b|<[A-Z]\w*[,>\[]"
        r"|\b(?:interface|type|enum|declare|readonly|private|implements|keyof)\s+\w"
        r"|\bimport type\b|\bas (?:const|any|[A-Z]\w*)"
    ),
    "xml": re.compile(r"(?:<[\w/!?][^>]*>.*?){3}", re.DOTALL),
}
"""What a text must hold: suffixes are shared, files hold stretches of other languages, and some
languages are also others."""

_TEMPLATE = re.compile(r"\{\{|\{%")

_NO_TYPESCRIPT = re.compile(r"\s*<\?xml|\s*<!DOCTYPE")
_COMMENT = re.compile(r"#|//|/\*|\*|--|;|%|<!--|\"\"\"|'")

MIN_FILE_BYTES, MAX_FILE_BYTES = 200, 100_000
MIN_CHARACTERS, SIZES = 200, (700, 1_500, 2_500, 4_000)
MAX_PARTS = 4
MAX_LINE = 500
MAX_COMMENTS = 0.7
"""Share of lines that begin like a comment: what is prose alone is in no language."""
MAX_SHARED = 0.4
"""Share of pairs of lines that another text of the language holds too."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A text as ``train head`` reads it."""

    text: str
    label: str
    path: str
    project: str


def label_of(path: str) -> str | None:
    """The language that a file's name tells; ``None`` where it tells none that can be trusted."""
    place = PurePosixPath(path.lower())
    if is_foreign(path) or ".min." in place.name:
        return None
    return _LABELS.get(place.name) or _LABELS.get(place.suffix)


def is_fit(text: str, label: str) -> bool:
    """Whether a file's text is one of its language that people have written."""
    if "\0" in text or is_generated(text):
        return False
    if max(map(len, text.splitlines()), default=0) > MAX_LINE:
        return False
    if label == "typescript" and _NO_TYPESCRIPT.match(text):
        return False
    if label == "sql" and _TEMPLATE.search(text):
        return False
    if label == "json":
        try:
            json.loads(text)
        except ValueError:
            return False
    return True


def cut(text: str, label: str, rng: random.Random) -> list[str]:
    """Parts of a file, of whole lines and some sizes; every second file's beginning comes first."""
    parts, part, size = [], "", rng.choice(SIZES)
    for line in text.splitlines(keepends=True):
        if part and len(part) + len(line) > size:
            parts.append(part)
            part, size = "", rng.choice(SIZES)
        part += line
    parts.append(part)
    first = parts[:1] if rng.random() < 0.5 else []
    others = parts[len(first) :]
    rng.shuffle(others)
    trimmed = [piece.strip("\n") + "\n" for piece in first + others]
    fit = (piece for piece in trimmed if len(piece) >= MIN_CHARACTERS and _shows(piece, label))
    return list(islice(fit, MAX_PARTS))


def _shows(piece: str, label: str) -> bool:
    """Whether the language can be told from a part at all."""
    sign = _SIGNS.get(label)
    if sign is not None and not sign.search(piece):
        return False
    if label in ("markdown", "rst", "html", "xml"):
        return True
    lines = [line.strip() for line in piece.splitlines() if line.strip()]
    return sum(1 for line in lines if _COMMENT.match(line)) <= MAX_COMMENTS * len(lines)


def pieces(
    project: Project, folder: Path, quotas: Mapping[str, int], seed: int
) -> dict[str, list[Piece]]:
    """The parts of a project's files by language: one of each file, then a second of each.

    Args:
        quotas: how many files of each language are looked at, at most.
    """
    checkout = Checkout.find(folder, project.project, project.commit)
    found: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in checkout.entries():
        label = label_of(entry.path)
        if label is None or label not in quotas or entry.path.startswith(project.leave_out):
            continue
        if MIN_FILE_BYTES <= entry.size <= MAX_FILE_BYTES:
            found[label].append(entry)
    drawn = {}
    for label, entries in found.items():
        rng = random.Random(f"{seed} {project.project} {label}")
        rng.shuffle(entries)
        chosen = entries[: quotas[label]]
        rounds: list[list[Piece]] = [[] for _ in range(MAX_PARTS)]
        for entry, data in zip(chosen, checkout.read(chosen), strict=True):
            text = filters.clean(data)
            if text is not None and is_fit(text, label):
                for later, part in zip(rounds, cut(text, label, rng), strict=False):
                    later.append(Piece(part, label, entry.path, project.project))
        drawn[label] = [piece for later in rounds for piece in later]
    return drawn


class Novelty:
    """Tells texts that resemble an earlier one of the same language."""

    def __init__(self) -> None:
        self._known: defaultdict[str, set[int]] = defaultdict(set)

    def admits(self, piece: Piece) -> bool:
        """Whether a text is new; it is known from then on."""
        lines = [" ".join(line.split()) for line in piece.text.splitlines() if line.strip()]
        pairs = {
            int.from_bytes(hashlib.blake2b(f"{a}\n{b}".encode(), digest_size=8).digest())
            for a, b in pairwise(lines)
        }
        known = self._known[piece.label]
        if len(pairs & known) > MAX_SHARED * len(pairs):
            return False
        known |= pairs
        return True


def in_turn(groups: Sequence[Sequence[Piece]], target: int, novelty: Novelty) -> list[Piece]:
    """Up to ``target`` new texts, one of each group after the other."""
    taken: list[Piece] = []
    queues = [iter(group) for group in groups]
    while queues and len(taken) < target:
        for queue in list(queues):
            piece = next((piece for piece in queue if novelty.admits(piece)), None)
            if piece is None:
                queues.remove(queue)
            elif len(taken) < target:
                taken.append(piece)
    return taken


def build(manifest: Manifest, folder: Path) -> dict[str, list[Piece]]:
    """The texts of both splits, by language and then in turns of the projects."""
    novelty, drawn = Novelty(), {}
    for split in SPLITS:
        projects = manifest.of(split)
        target = manifest.targets[split]
        # A few files of a language that many projects have, more of one that few have.
        shares = _shares(projects, folder)
        quotas = {label: 8 + 12 * target // count for label, count in shares.items()}
        groups: defaultdict[str, list[list[Piece]]] = defaultdict(list)
        for project in projects:
            for label, group in pieces(project, folder, quotas, manifest.seed).items():
                groups[label].append(group)
        drawn[split] = [
            piece for label in LABELS for piece in in_turn(groups[label], target, novelty)
        ]
    return drawn


def _shares(projects: Iterable[Project], folder: Path) -> Counter[str]:
    """How many projects have files of each language."""
    shares: Counter[str] = Counter()
    for project in projects:
        entries = Checkout.find(folder, project.project, project.commit).entries()
        shares.update({label for entry in entries if (label := label_of(entry.path))})
    return shares


def write(drawn: Mapping[str, Sequence[Piece]], out: Path) -> dict[str, str]:
    """Write each split as JSONL; the SHA-256 of each file by its name."""
    paths = {split: out / f"language-{split}.jsonl" for split in drawn}
    return {
        paths[split].name: write_jsonl(map(asdict, found), paths[split])
        for split, found in drawn.items()
    }


def main(
    manifest: Annotated[Path, typer.Argument(help="JSON: seed, labels, targets, projects.")],
    checkouts: Annotated[Path, typer.Argument(help="Folder of clones, each OWNER+NAME.")],
    out: Annotated[Path, typer.Argument(help="Folder to write language-*.jsonl into.")],
) -> None:
    """Draw texts of known languages from checkouts; print how many, and their digests."""
    try:
        drawn = build(Manifest.read(manifest), checkouts)
        digests = write(drawn, out)
    except BigcodeError as error:
        raise SystemExit(f"error: {error}") from None
    counts = {split: dict(Counter(piece.label for piece in drawn[split])) for split in SPLITS}
    typer.echo(json.dumps({"texts": counts, "sha256": digests}, indent=1))


if __name__ == "__main__":
    typer.run(main)
