import json
import random
from dataclasses import asdict
from pathlib import Path

import pytest

from bigcode_cli.training.data.checkouts import Checkout
from bigcode_cli.training.heads.examples import read_example
from bigcode_cli.training.heads.pii.places import Place, Stretch
from bigcode_cli.training.heads.pii.templates import SLOT_LABELS
from bigcode_cli.training.heads.pii.values import Values
from bigcode_cli.training.heads.pii_data import Span, Writer, fill, main, put_in
from tests.repositories import commit, put, repository
from tests.training.heads.pii.test_places import CODE

TEXT = "a = 1\nb = 2\nc = 3\n"
PLACES = (Place("python", 0, 0), Place("comment", 6, 6, "# "), Place("literal", 16, 17, "", ""))
STRETCH = Stretch(TEXT, PLACES)


class Fixed(Values):
    """Values that are always the same."""

    def name(self) -> str:
        return "Ann Lee"

    def email(self) -> str:
        return "a@b.cd"

    def pem(self) -> str:
        return "BEGIN\nEND"


FIXED = Fixed("train", random.Random(0))


def test_a_filled_template_marks_its_values() -> None:
    text, spans = fill("by {name} <{email}>", FIXED, Place("comment", 0, 0, "  # "))
    assert text == "  # by Ann Lee <a@b.cd>\n"
    assert spans == [Span(7, 14, "name"), Span(16, 22, "email")]


@pytest.mark.parametrize(("before", "turn"), [("  # ", "  # "), ("    ", "    ")])
def test_each_line_of_a_value_begins_like_the_first(before: str, turn: str) -> None:
    text, spans = fill("{pem}", FIXED, Place("comment", 0, 0, before))
    assert text == f"{before}BEGIN\n{turn}END\n"
    assert text[spans[0].start : spans[0].end] == f"BEGIN\n{turn}END"


def test_marks_move_with_what_is_put_in_before_them() -> None:
    chosen = [(PLACES[2], "{email}"), (PLACES[0], "by {name}"), (PLACES[1], "none")]
    text, spans = put_in(STRETCH, chosen, FIXED)
    assert text == "by Ann Lee\na = 1\n# none\nb = 2\nc = a@b.cd\n"
    assert [(text[span.start : span.end], span.label) for span in spans] == [
        ("Ann Lee", "name"),
        ("a@b.cd", "email"),
    ]


@pytest.mark.parametrize("split", ["train", "test"])
def test_texts_hold_what_they_should(split: str) -> None:
    writer = Writer(split, random.Random(1))
    for _ in range(300):
        assert writer.write(STRETCH, without=True)[1] == []
        text, spans = writer.write(STRETCH, without=False)
        assert spans
        record = {"text": text, "spans": [asdict(span) for span in spans]}
        marks = read_example(record, "here", "token", multi_label=False).marks
        assert [(mark.start, mark.end) for mark in marks] == [(s.start, s.end) for s in spans]
        assert {span.label for span in spans} <= set(SLOT_LABELS.values())


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rows = []
    for name, split in (("ann/one", "train"), ("bob/two", "test")):
        clone = repository(tmp_path / "clones" / name.replace("/", "+"))
        for number in range(8):
            code = CODE.replace("area", f"{name[:3]}_{number}") * 12
            put(clone, f"{number}.py", data=code.encode())
        commit(clone)
        at = Checkout.find(tmp_path / "clones", name).commit
        rows.append({"project": name, "commit": at, "licence": "mit", "split": split})
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"seed": 3, "targets": {"train": 16, "test": 8}, "projects": rows}))
    return path


def test_the_command_writes_the_same_twice(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = []
    for out in (tmp_path / "a", tmp_path / "b"):
        main(manifest, tmp_path / "clones", out)
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]
    counts = answers[0]["counts"]["train"]
    assert 0 < counts["without"] < counts["texts"] <= 16
    train = (tmp_path / "a" / "pii-train.jsonl").read_text("utf-8")
    assert "ann_" in train
    assert "bob_" not in train


def test_a_missing_checkout_is_one_line(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: no checkout of ann/one"):
        main(manifest, tmp_path / "none", tmp_path / "out")
