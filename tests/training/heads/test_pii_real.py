import json
from pathlib import Path

import pytest

from bigcode_cli.errors import InputError
from bigcode_cli.training.data.checkouts import Checkout
from bigcode_cli.training.heads.pii_real import build, main
from tests.repositories import commit, put, repository

FILE = "\ufeffone = 'ä'\r\nmail = 'a@b.cd'\r\n".encode()


@pytest.fixture
def row(tmp_path: Path) -> dict[str, object]:
    clone = repository(tmp_path / "ann+one")
    put(clone, "a.py", data=FILE)
    commit(clone)
    at = Checkout.find(tmp_path, "ann/one").commit
    spans = [{"start": 8, "end": 14, "label": "email"}]
    return {
        "project": "ann/one", "commit": at, "path": "a.py", "start": 10, "end": 26, "spans": spans,
    }  # fmt: skip


def test_offsets_are_those_of_the_clean_text(row: dict[str, object], tmp_path: Path) -> None:
    (record,) = build({"texts": [row]}, tmp_path)
    assert record == {"text": "mail = 'a@b.cd'\n", "spans": row["spans"]}


@pytest.mark.parametrize("wrong", [{"path": "none.py"}, {"end": 27}])
def test_a_text_that_is_not_there_is_named(
    row: dict[str, object], tmp_path: Path, wrong: dict[str, object]
) -> None:
    with pytest.raises(InputError, match="ann/one has no such text"):
        build({"texts": [{**row, **wrong}]}, tmp_path)


def test_the_command_writes_records(
    row: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"texts": [row]}))
    main(tmp_path / "manifest.json", tmp_path, tmp_path / "out.jsonl")
    assert len(capsys.readouterr().out.strip()) == 64
    assert json.loads((tmp_path / "out.jsonl").read_text("utf-8"))["spans"] == row["spans"]
