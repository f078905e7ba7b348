from pathlib import Path

import pytest
import torch

from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.hub.saved import is_plain_name
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model
from bigcode_cli.records import ModelFolder, Silence
from bigcode_cli.training.adapt import Adapter, AdaptSettings
from bigcode_cli.training.here import (
    MEASURED_BYTES,
    Split,
    check_base,
    default_name,
    load_whole,
    save_tuned,
    split_folder,
)
from bigcode_cli.training.low_rank import merge_low_rank
from tests.tokenizers import tiny_tokenizer
from tests.training.adapting import WINDOW, code, save_small, vocabulary, write_code

PYTHON = ["*.py"]


def names(split: Split) -> tuple[list[str], list[str]]:
    return [file.name for file in split.learned], [file.name for file in split.held_out]


@pytest.mark.parametrize("count", [5, 20, 21, 64])
def test_a_tenth_of_the_files_is_held_out_and_all_others_are_learned(
    tmp_path: Path, count: int
) -> None:
    split = split_folder(write_code(tmp_path, count), PYTHON, seed=0)
    learned, held_out = names(split)
    assert len(held_out) == max(2, -(-count // 10))
    assert sorted(learned + held_out) == sorted(path.name for path in tmp_path.iterdir())
    assert split.left_out == 0


def test_the_same_seed_holds_the_same_files_out(tmp_path: Path) -> None:
    write_code(tmp_path)
    first, again, other = (split_folder(tmp_path, PYTHON, seed=seed) for seed in (3, 3, 4))
    assert names(first) == names(again)
    assert set(names(first)[1]) != set(names(other)[1])


@pytest.mark.parametrize("seed", range(5))
def test_near_duplicates_are_on_one_side(tmp_path: Path, seed: int) -> None:
    write_code(tmp_path, 12)
    for at in range(6):
        near = code(at) + "    total = count + 1\n"
        (tmp_path / f"copy_{at}.py").write_text(near)
    held_out = set(names(split_folder(tmp_path, PYTHON, seed=seed))[1])
    for at in range(6):
        assert (f"copy_{at}.py" in held_out) == (f"module_{at:02}.py" in held_out)


def test_what_is_no_code_of_a_person_is_left_out(tmp_path: Path) -> None:
    write_code(tmp_path, 6)
    (tmp_path / "empty.py").write_text(" \n")
    (tmp_path / "binary.py").write_bytes(b"a = '\0'\n")
    (tmp_path / "latin.py").write_bytes("é = 1\n".encode("latin-1"))
    (tmp_path / "minified.py").write_text("a = 1;" * 400)
    (tmp_path / "large.py").write_text("a = 1\n" * 100_000)
    (tmp_path / "same.py").write_text(code(0))
    (tmp_path / "key.py").write_text(f"KEY = 'AKIA{'Z3MGQ2TBK7LWXV4R'}'\n")
    (tmp_path / "notes.txt").write_text("not asked for\n")
    (tmp_path / "link.py").symlink_to(tmp_path / "module_00.py")
    split = split_folder(tmp_path, PYTHON, seed=0)
    used = {name for side in names(split) for name in side}
    assert {"module_01.py", "module_02.py"} <= used
    assert len(used) == 6
    assert split.left_out == 7


def test_line_ends_and_marks_are_taken_out_of_what_is_learned_alone(tmp_path: Path) -> None:
    write_code(tmp_path, 6)
    for path in tmp_path.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    split = split_folder(tmp_path, PYTHON, seed=0)
    assert not any("\r" in text or "\ufeff" in text for text in split.texts)
    assert all(file.text.startswith("\ufeff") for file in split.measured)
    assert all("\r\n" in file.text for file in split.measured)


def test_of_many_held_out_files_the_first_are_measured(tmp_path: Path) -> None:
    write_code(tmp_path, 40, lines=4000)
    split = split_folder(tmp_path, PYTHON, seed=0)
    assert len(split.held_out) == 4
    assert split.measured == list(split.held_out[: len(split.measured)])
    assert 2 <= len(split.measured) < 4
    assert sum(len(file.text) for file in split.held_out) > MEASURED_BYTES


def test_too_few_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        split_folder(tmp_path / "none", PYTHON, seed=0)
    with pytest.raises(InputError, match="no files"):
        split_folder(tmp_path, PYTHON, seed=0)
    write_code(tmp_path, 4)
    with pytest.raises(InputError, match="4 usable files"):
        split_folder(tmp_path, PYTHON, seed=0)


def test_copies_of_one_file_cannot_be_told_apart(tmp_path: Path) -> None:
    for at in range(8):
        (tmp_path / f"{at}.py").write_text(code(0, lines=60) + f"    total_{at} = count\n")
    with pytest.raises(InputError, match="copies"):
        split_folder(tmp_path, PYTHON, seed=0)


@pytest.mark.parametrize(
    ("folder", "name"),
    [("flask", "flask-tuned"), ("my code!", "my-code-tuned"), ("日本", "tuned"), ("a" * 300, None)],
)
def test_a_folder_gives_a_plain_name(folder: str, name: str | None) -> None:
    found = default_name(Path("/src") / folder)
    assert is_plain_name(found)
    assert name is None or found == name


@pytest.mark.parametrize("rank", [0, 4])
def test_what_is_saved_is_loaded_as_it_was_trained(tmp_path: Path, rank: int) -> None:
    path = save_small(tmp_path / "base")
    base = resolve(str(path), report=Silence())
    model = load_whole(base, "cpu", 1, Silence())
    settings = AdaptSettings(
        rank=rank, window=WINDOW, tokens_per_step=4 * WINDOW, learning_rate=1e-2, epochs=1
    )
    texts = [code(seed) for seed in range(4)]
    Adapter(model, tiny_tokenizer(), vocabulary(), texts, settings).run()
    save_tuned(model, settings, base, tmp_path / "tuned")
    merge_low_rank(model)
    loaded = load_model(
        GPTBigCodeForCausalLM,
        tmp_path / "tuned",
        device="cpu",
        dtype=torch.float32,
        base=path,
    )
    for name, weight in model.named_parameters():
        absolute, relative = (0.0, 0.0) if rank else (1e-6, 2**-8)
        found = loaded.get_parameter(name)
        torch.testing.assert_close(found, weight, atol=absolute, rtol=relative)
    # The base is as it was: what is trained was its own copy.
    again = load_model(GPTBigCodeForCausalLM, path, device="cpu", dtype=torch.float32)
    name = "transformer.h.0.mlp.c_fc.weight"
    assert not torch.equal(again.get_parameter(name), loaded.get_parameter(name))


def test_a_tuned_model_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tuned itself"):
        check_base(ModelFolder(name="tuned", path=tmp_path, base=tmp_path))
