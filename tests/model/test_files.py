import json
import os
from pathlib import Path

import pytest

from bigcode_cli.errors import ModelCorruptError, ModelIncompleteError
from bigcode_cli.model import files
from bigcode_cli.model.files import folder_file, read_json, write_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a.json").write_text('{"a": 1}')
    (tmp_path / "outside.json").write_text("{}")
    return folder


def test_a_plain_name_is_found(folder: Path) -> None:
    assert folder_file(folder, "a.json") == folder / "a.json"
    assert read_json(folder, "a.json") == {"a": 1}


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../outside.json", "x/../a.json", "/etc/passwd", "C:a", "..\\a", "a\0", "./a"],
)
def test_a_name_that_is_no_file_name_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ModelCorruptError, match="not a plain file name"):
        folder_file(folder, name)


def test_what_is_not_there_is_incomplete(folder: Path) -> None:
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    for name in ("missing.json", "dangling", "loop", "a" * 300):
        with pytest.raises(ModelIncompleteError, match="missing or unreadable"):
            folder_file(folder, name)


def test_a_link_may_not_leave_the_folder(folder: Path) -> None:
    (folder / "inside.json").symlink_to("a.json")
    (folder / "outside.json").symlink_to("../outside.json")
    assert read_json(folder, "inside.json") == {"a": 1}
    with pytest.raises(ModelCorruptError, match="links to a file outside"):
        folder_file(folder, "outside.json")


def test_a_link_in_a_snapshot_may_lead_to_its_blobs(tmp_path: Path) -> None:
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    for place in (repository / "blobs", repository / "secrets"):
        place.mkdir()
        (place / "f00").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/f00")
    (snapshot / "other.json").symlink_to("../../secrets/f00")
    assert read_json(snapshot, "config.json") == {}
    with pytest.raises(ModelCorruptError, match="links to a file outside"):
        folder_file(snapshot, "other.json")


def test_a_folder_reached_through_a_link_is_a_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert read_json(tmp_path / "link", "a.json") == {"a": 1}


def test_a_pipe_or_a_folder_is_no_file(folder: Path) -> None:
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    for name in ("pipe.json", "folder.json"):
        with pytest.raises(ModelCorruptError, match="not a regular file"):
            read_json(folder, name)


def test_a_file_too_large_to_be_true_is_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_JSON_BYTES", 7)
    with pytest.raises(ModelCorruptError, match="larger than"):
        read_json(folder, "a.json")


def test_nesting_has_an_end(folder: Path) -> None:
    depth = files.MAX_JSON_DEPTH
    for text, fine in [
        ('{"a": ' * depth + "{}" + "}" * depth, False),
        ('{"a": ' * (depth - 1) + "{}" + "}" * (depth - 1), True),
        ('{"a": ' + "[" * (depth - 1) + "]" * (depth - 1) + "}", True),
        ('{"a": ' + "[" * 900 + "]" * 900 + "}", False),
        ('{"b": [1], "a": ' + "[" * depth + "1" + "]" * depth + "}", False),
    ]:
        (folder / "deep.json").write_text(text)
        if fine:
            assert read_json(folder, "deep.json") == json.loads(text)
        else:
            with pytest.raises(ModelCorruptError, match="nested deeper than 64"):
                read_json(folder, "deep.json")


def test_a_file_is_written_whole_or_not_at_all(folder: Path) -> None:
    write_json(folder / "b.json", {"b": ["ü"], "a": None})
    assert read_json(folder, "b.json") == {"a": None, "b": ["ü"]}
    before = (folder / "b.json").read_bytes()
    with pytest.raises(TypeError):
        write_json(folder / "b.json", {"c": object()})
    assert (folder / "b.json").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["a.json", "b.json"]
