"""Code with made-up personal data in it, for a token head.

Run as ``python -m bigcode_cli.training.heads.pii_data MANIFEST CHECKOUTS OUT``. A manifest names
projects at commits, and which of them are held out. Stretches of their files that hold nothing that
might be personal take up lines and literals with values of ``pii.values``, whose places are thus
known.

What counts:

- ``email``: every address but those of domains that are reserved (RFC 2606, RFC 6761).
- ``ip``: every address, private ones too, but loopback, unspecified and broadcast addresses,
  netmasks, and those kept for documentation (RFC 5737, RFC 3849). Of a network the address alone.
- ``key``: API keys, tokens, secret keys, private keys from BEGIN to END, hashes of passwords; no
  digests of files, ids of commits, UUIDs that are no key, certificates, public keys, stand-ins.
- ``password``: a literal that is given as one, weak or not, wherever it stands; no stand-in, and
  not the word ``password`` itself.
- ``name``: a person's full name wherever it stands; a given name or a login alone where it says
  whose work or duty something is. No groups, firms, stand-ins, and no names of methods.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
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
from bigcode_cli.training.heads.pii.places import MIN_CHARACTERS, Place, Stretch, stretches
from bigcode_cli.training.heads.pii.templates import SLOT_LABELS, templates
from bigcode_cli.training.heads.pii.values import Values

SPLITS = ("train", "test")
MAX_FILE_BYTES = 100_000
SHARE_WITHOUT = 1 / 3
"""Of the texts that hold none."""

_SLOT = re.compile(r"\{([a-z0-9_]+)\}")
_KINDS = {
    ".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".sh": "shell",
    ".toml": "settings", ".cfg": "settings", ".ini": "settings", ".js": "script", ".ts": "script",
    ".go": "code", ".java": "code", ".rs": "code", ".c": "code", ".md": "prose", ".rst": "prose",
}  # fmt: skip
_SHARES = {
    "python": 0.74, "yaml": 0.05, "json": 0.03, "shell": 0.04, "settings": 0.03, "script": 0.05,
    "code": 0.03, "prose": 0.03,
}  # fmt: skip
"""How the texts are divided among kinds of files."""


@dataclass(frozen=True, slots=True)
class Span:
    """A marked part of a text, in characters; the end is exclusive."""

    start: int
    end: int
    label: str


def fill(template: str, values: Values, place: Place) -> tuple[str, list[Span]]:
    """What is put into a place, and the marked parts of it."""
    parts, spans, length, at = [place.before], [], len(place.before), 0
    turn = "\n" + (place.before if place.before.strip() in ("#", "//") else " " * len(place.before))
    for slot in _SLOT.finditer(template):
        value = getattr(values, slot[1])().replace("\n", turn)
        literal = template[at : slot.start()].replace("\n", turn)
        at, start = slot.end(), length + len(literal)
        length = start + len(value)
        parts += [literal, value]
        if slot[1] in SLOT_LABELS:
            spans.append(Span(start, length, SLOT_LABELS[slot[1]]))
    parts += [template[at:].replace("\n", turn), place.after]
    return "".join(parts), spans


def put_in(
    stretch: Stretch, chosen: Sequence[tuple[Place, str]], values: Values
) -> tuple[str, list[Span]]:
    """The stretch with a template filled at each place, and where the marked parts are."""
    parts, spans, taken, length = [], [], 0, 0
    for place, template in sorted(chosen, key=lambda pair: pair[0].start):
        kept = stretch.text[taken : place.start]
        new, found = fill(template, values, place)
        length += len(kept)
        spans += [Span(length + span.start, length + span.end, span.label) for span in found]
        parts += [kept, new]
        length += len(new)
        taken = place.end
    return "".join((*parts, stretch.text[taken:])), spans


class Writer:
    """Chooses what goes where in the texts of a split."""

    def __init__(self, split: str, rng: random.Random) -> None:
        self._split, self._rng = split, rng
        self._marked: dict[str, dict[str, list[str]]] = {}
        self._plain: dict[str, list[str]] = {}
        for kind, lines in templates(split).items():
            labels = [{SLOT_LABELS.get(slot) for slot in _SLOT.findall(line)} for line in lines]
            self._plain[kind] = [
                line for line, found in zip(lines, labels, strict=True) if found <= {None}
            ]
            self._marked[kind] = {
                label: [line for line, found in zip(lines, labels, strict=True) if label in found]
                for label in sorted(set(SLOT_LABELS.values()))
            }

    def write(self, stretch: Stretch, *, without: bool) -> tuple[str, list[Span]]:
        """A text made of a stretch.

        Args:
            without: it holds nothing to be marked, though maybe what looks like it.
        """
        rng = self._rng
        places = rng.sample(stretch.places, len(stretch.places))
        wanted = rng.choice((0, 1, 1, 2, 3)) if without else rng.choice((0, 0, 1, 1, 2))
        chosen: list[tuple[Place, str]] = []
        marked = 0 if without else rng.choice((1, 1, 2, 2, 3, 4))
        for number in range(min(marked + wanted, len(places))):
            place = places[number]
            if number < marked:
                fit = self._marked[place.kind]
                label = rng.choice([label for label in fit if fit[label]])
                chosen.append((place, rng.choice(fit[label])))
            else:
                chosen.append((place, rng.choice(self._plain[place.kind])))
        chosen = [(place, self._quoted(template, place)) for place, template in chosen]
        return put_in(stretch, chosen, Values(self._split, rng))

    def _quoted(self, template: str, place: Place) -> str:
        """Single quotes do as well as double ones."""
        swap = place.kind in ("python", "docstring", "script") and self._rng.random() < 0.4
        return template.replace('"', "'") if swap and "'" not in template else template


Text = dict[str, object]
"""A record as ``train head`` reads it."""


def build(manifest: Manifest, folder: Path, report: Callable[[str], None]) -> dict[str, list[Text]]:
    """The texts of both splits, in an order of chance."""
    return {split: _build_split(manifest, split, folder, report) for split in SPLITS}


def _build_split(
    manifest: Manifest, split: str, folder: Path, report: Callable[[str], None]
) -> list[Text]:
    rng = random.Random(f"{manifest.seed} {split}")
    queues: dict[str, list[Iterator[Stretch]]] = {kind: [] for kind in _SHARES}
    for project in manifest.of(split):
        checkout = Checkout.find(folder, project.project, project.commit)
        for kind, entries in _entries(checkout, project).items():
            name = f"{manifest.seed} {project.project} {kind}"
            queues[kind].append(_drawn(checkout, entries, kind, random.Random(name)))
    writer, target = Writer(split, rng), manifest.targets[split]
    texts: list[Text] = []
    for kind, share in _SHARES.items():
        for stretch in _in_turn(queues[kind], round(target * share)):
            text, spans = writer.write(stretch, without=rng.random() < SHARE_WITHOUT)
            texts.append({"text": text, "spans": [asdict(span) for span in spans]})
        report(f"{split}: {len(texts):,} texts")
    rng.shuffle(texts)
    return texts


def _entries(checkout: Checkout, project: Project) -> dict[str, list[Entry]]:
    """The files of each kind that stretches are drawn from."""
    found: dict[str, list[Entry]] = {}
    for entry in checkout.entries():
        kind = _KINDS.get(Path(entry.path).suffix)
        if kind is None or is_foreign(entry.path) or entry.path.startswith(project.leave_out):
            continue
        if MIN_CHARACTERS <= entry.size <= MAX_FILE_BYTES:
            found.setdefault(kind, []).append(entry)
    return found


_FILES_AT_ONCE = 16


def _drawn(
    checkout: Checkout, entries: list[Entry], kind: str, rng: random.Random
) -> Iterator[Stretch]:
    rng.shuffle(entries)
    for at in range(0, len(entries), _FILES_AT_ONCE):
        for data in checkout.read(entries[at : at + _FILES_AT_ONCE]):
            text = filters.clean(data)
            if text is not None and not is_generated(text):
                yield from (found for found in stretches(text, kind, rng) if found.places)


def _in_turn(queues: Sequence[Iterator[Stretch]], target: int) -> Iterator[Stretch]:
    """Up to ``target`` stretches, one of each project after the other."""
    seen: set[bytes] = set()
    left = list(queues)
    while left and target:
        for queue in list(left):
            stretch = next(queue, None)
            if stretch is None:
                left.remove(queue)
                continue
            digest = filters.fingerprint(stretch.text)
            if target and digest not in seen:
                seen.add(digest)
                target -= 1
                yield stretch


def write(drawn: Mapping[str, Sequence[Text]], out: Path) -> dict[str, str]:
    """Write each split as JSONL; the SHA-256 of each file by its name."""
    paths = {split: out / f"pii-{split}.jsonl" for split in drawn}
    return {paths[split].name: write_jsonl(found, paths[split]) for split, found in drawn.items()}


def main(
    manifest: Annotated[Path, typer.Argument(help="JSON: seed, targets, projects.")],
    checkouts: Annotated[Path, typer.Argument(help="Folder of clones, each OWNER+NAME.")],
    out: Annotated[Path, typer.Argument(help="Folder to write pii-*.jsonl into.")],
) -> None:
    """Put made-up personal data into code of checkouts; print how much, and digests."""
    try:
        drawn = build(Manifest.read(manifest), checkouts, lambda note: typer.echo(note, err=True))
        digests = write(drawn, out)
    except BigcodeError as error:
        raise SystemExit(f"error: {error}") from None
    typer.echo(json.dumps({"counts": {s: count(t) for s, t in drawn.items()}, "sha256": digests}))


def count(texts: Sequence[Text]) -> dict[str, int]:
    """How many texts there are, how many hold nothing, and how many spans of each label."""
    spans = [text["spans"] for text in texts]
    labels = Counter(span["label"] for found in spans if isinstance(found, list) for span in found)
    return {"texts": len(texts), "without": spans.count([]), **dict(sorted(labels.items()))}


if __name__ == "__main__":
    typer.run(main)
