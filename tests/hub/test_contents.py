import json
from pathlib import Path

import pytest

from bigcode_cli.errors import ModelCorruptError
from bigcode_cli.hub.contents import WEIGHTS, find_weights, missing_files, read_shards
from tests.hub.contents import tiny_files, write_folder

INDEX = "model.safetensors.index.json"


def test_safetensors_come_before_bin_and_one_file_before_shards() -> None:
    for position, name in enumerate(WEIGHTS):
        assert find_weights(WEIGHTS[position:]) == name
    assert find_weights(["tf_model.h5", "other.safetensors"]) is None


def test_shards_are_sorted_and_named_once(tmp_path: Path) -> None:
    weight_map = {"b": "2.safetensors", "a": "1.safetensors", "c": "2.safetensors"}
    write_folder(tmp_path / "model", {INDEX: json.dumps({"weight_map": weight_map}).encode()})
    assert read_shards(tmp_path / "model", INDEX) == ("1.safetensors", "2.safetensors")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"weight_map": []}', b"\xff", b"[" * 9999]
)
def test_what_is_no_index_is_corrupt(tmp_path: Path, content: bytes) -> None:
    write_folder(tmp_path / "model", {INDEX: content})
    with pytest.raises(ModelCorruptError, match=INDEX):
        read_shards(tmp_path / "model", INDEX)


def test_missing_shards_are_told(tmp_path: Path) -> None:
    weight_map = {"a": "1.safetensors", "b": "2.safetensors"}
    files = {name: tiny_files()[name] for name in ("config.json", "tokenizer.json")}
    files |= {INDEX: json.dumps({"weight_map": weight_map}).encode(), "1.safetensors": b""}
    folder = write_folder(tmp_path / "model", files)
    assert missing_files(folder) == ("2.safetensors",)


def test_a_link_to_weights_that_are_gone_is_missing(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", tiny_files())
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("gone")
    assert missing_files(folder) == ("model.safetensors",)
