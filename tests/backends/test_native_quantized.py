"""Weights that are quantised once: what they are, when they are used, and what a failure leaves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor as TorchTensor

from bigcode_cli.backends.native_weights import Opened, open_tensors
from bigcode_cli.errors import OutputError
from bigcode_cli.model import quantized_files, quantized_weights
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model, save_difference
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.files import write_json
from bigcode_cli.model.quantized_files import (
    Digests,
    list_quantized,
    quantized_folder,
    quantized_path,
)
from bigcode_cli.model.tensor_index import read_tensor_index
from bigcode_cli.records import LoadOptions, ModelFolder, Quantize
from tests.backends.native_folders import CONFIG, Notes, numbers, write_model

WEIGHTS = "model.safetensors"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGCODE_HOME", str(tmp_path / "home"))


def opened(folder: ModelFolder, quantize: Quantize, notes: Notes | None = None) -> Opened:
    return open_tensors(folder, LoadOptions(quantize=quantize), notes or Notes())


def read(found: Opened) -> dict[str, TorchTensor]:
    return {name: numbers(tensor) for name, tensor in found.tensors.items()}


def expected(folder: ModelFolder, quantize: Quantize) -> dict[str, TorchTensor]:
    """The twin: what PyTorch makes of the folder each time."""
    model = load_model(
        GPTBigCodeForCausalLM,
        folder.path,
        base=folder.base,
        device="cpu",
        dtype=torch.float32,
        quantize=quantize,
    )
    tied = model.config.tie_word_embeddings
    return {
        name: value
        for name, value in model.state_dict().items()
        if not (tied and name.startswith("lm_head."))
    }


def assert_as_pytorch(found: Opened, twin: dict[str, TorchTensor]) -> None:
    own = read(found)
    assert own.keys() == twin.keys()
    for name, value in twin.items():
        assert own[name].is_floating_point() == value.is_floating_point()
        same = own[name].float() if value.is_floating_point() else own[name]
        assert torch.equal(same, value), name


@pytest.mark.parametrize("quantize", ["int8", "int4"])
@pytest.mark.parametrize("tied", [True, False])
def test_what_is_kept_is_what_pytorch_quantises(
    tmp_path: Path, quantize: Quantize, tied: bool
) -> None:
    folder, _ = write_model(tmp_path / "m", "bfloat16", tie_word_embeddings=tied)
    twin, first, second = expected(folder, quantize), Notes(), Notes()
    assert_as_pytorch(opened(folder, quantize, first), twin)
    assert first.notes == [f"m is quantised to {quantize} once, and kept"]
    found = opened(folder, quantize, second)
    assert_as_pytorch(found, twin)
    assert second.notes == []
    assert (found.weights, found.quantises) == (quantize, True)
    assert found.config.tie_word_embeddings == tied
    (kept,) = list_quantized()
    assert (kept.model, kept.quantize, kept.size) == ("m", quantize, kept.path.stat().st_size)


def test_a_second_start_does_without_torch(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path / "m")
    opened(folder, "int4")
    check = (
        "import sys; from pathlib import Path\n"
        "from bigcode_cli.backends.native_weights import open_tensors\n"
        "from bigcode_cli.records import LoadOptions, ModelFolder, Silence\n"
        f"folder = ModelFolder(name='m', path=Path({str(folder.path)!r}))\n"
        "open_tensors(folder, LoadOptions(quantize='int4'), Silence())\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)


def test_a_folder_stored_in_int8_is_mapped_as_it_is(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path / "m", "int8")
    found = opened(folder, "int8")
    assert (found.weights, found.quantises) == ("int8", True)
    assert list_quantized() == []
    stored = load_file(folder.path / WEIGHTS)
    name = "transformer.h.1.mlp.c_fc.weight"
    assert torch.equal(numbers(found.tensors[name]), stored[name])
    assert opened(folder, "int4").weights == "int4"
    assert len(list_quantized()) == 1


@pytest.mark.parametrize("seconds", [0, -10_000])
def test_weights_that_changed_are_quantised_anew(tmp_path: Path, seconds: int) -> None:
    """In place, to the same size, and with the old time of writing put back."""
    folder, _ = write_model(tmp_path / "m", seed=1)
    weights = folder.path / WEIGHTS
    before = weights.stat()
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns + seconds * 10**9))
    opened(folder, "int8")
    kept = weights.stat()
    with weights.open("r+b") as file:
        write_model(tmp_path / "other", seed=2)
        file.write((tmp_path / "other" / WEIGHTS).read_bytes())
    os.utime(weights, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert weights.stat().st_size == kept.st_size
    assert_as_pytorch(opened(folder, "int8"), expected(folder, "int8"))


def test_the_key_is_of_content_and_not_of_names(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path / "m")
    same, _ = write_model(tmp_path / "same")

    def key(where: ModelFolder, quantize: str = "int8") -> str:
        return quantized_path(read_tensor_index(where.path), quantize).name

    assert key(folder) == key(same)
    assert key(folder) != key(folder, "int4")
    write_json(same.path / "config.json", {**CONFIG, "layer_norm_epsilon": 1e-3})
    assert key(folder) != key(same)


def test_the_same_numbers_in_another_version_of_the_format_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = write_model(tmp_path / "m")
    opened(folder, "int8")
    monkeypatch.setattr(quantized_files, "FORMAT", 2)
    opened(folder, "int8")
    assert len(list_quantized()) == 2


def test_digests_are_remembered_once_a_file_has_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    digests = Digests()
    first = digests.of(path)
    digests.keep()
    assert not (quantized_folder() / "digests.json").exists()
    monkeypatch.setattr(quantized_files, "_SETTLED_S", -1.0)
    digests.of(path)
    digests.keep()
    text = (quantized_folder() / "digests.json").read_text()
    assert first.hex() in text
    # What is remembered is what is believed, as long as the file is the same.
    other = "00" * 32
    (quantized_folder() / "digests.json").write_text(text.replace(first.hex(), other))
    assert Digests().of(path).hex() == other
    path.write_bytes(b"CONTENT")
    assert Digests().of(path) not in {first, bytes.fromhex(other)}


@pytest.mark.parametrize("text", ["", "[]", "no JSON", '{"%s": 1}', '{"%s": {"state": []}}'])
def test_what_is_remembered_wrongly_is_found_out_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    expected_digest = Digests().of(path)
    quantized_folder().mkdir(parents=True)
    (quantized_folder() / "digests.json").write_text(text.replace("%s", str(path)))
    assert Digests().of(path) == expected_digest


@pytest.mark.parametrize("left", [0, 7, 100, -1])
def test_a_damaged_file_is_made_again(tmp_path: Path, left: int) -> None:
    folder, _ = write_model(tmp_path / "m")
    opened(folder, "int8")
    (kept,) = list_quantized()
    whole = kept.path.read_bytes()
    kept.path.write_bytes(whole[:left])
    assert_as_pytorch(opened(folder, "int8"), expected(folder, "int8"))
    assert len(kept.path.read_bytes()) == len(whole)


def test_forms_that_cannot_be_mapped_can_be_quantised(tmp_path: Path) -> None:
    folder, model = write_model(tmp_path / "m")
    weights = load_file(folder.path / WEIGHTS)
    (folder.path / WEIGHTS).unlink()
    torch.save(model.state_dict(), folder.path / "pytorch_model.bin")
    assert_as_pytorch(opened(folder, "int8"), expected(folder, "int8"))
    (folder.path / "pytorch_model.bin").unlink()
    save_file({name: value.double() for name, value in weights.items()}, folder.path / WEIGHTS)
    assert_as_pytorch(opened(folder, "int4"), expected(folder, "int4"))


def test_changes_by_two_factors_are_in_what_is_quantised(tmp_path: Path) -> None:
    below, _ = write_model(tmp_path / "below", "int8")
    path = tmp_path / "over"
    name = "transformer.h.0.mlp.c_fc"
    factors = {f"{name}.up": torch.randn(64, 2), f"{name}.down": torch.randn(2, 16)}
    config = GPTBigCodeConfig.from_dict(CONFIG)
    save_difference(factors, config, "GPTBigCodeForCausalLM", path)
    folder = ModelFolder(name="over", path=path, base=below.path)
    twin = expected(folder, "int8")
    assert_as_pytorch(opened(folder, "int8"), twin)
    # Another base under the same changes is another model.
    write_model(tmp_path / "below", "int8", seed=5)
    assert_as_pytorch(opened(folder, "int8"), expected(folder, "int8"))


def test_where_nothing_can_be_kept_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = write_model(tmp_path / "m")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BIGCODE_HOME", str(tmp_path / "file"))
    notes = Notes()
    assert_as_pytorch(opened(folder, "int4", notes), expected(folder, "int4"))
    assert len(notes.notes) == 2
    assert notes.notes[1].startswith("the quantised weights are not kept: cannot write")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_ends_early_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def save_half(_tensors: object, path: Path, metadata: object) -> None:
        assert metadata
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(quantized_weights, "save_file", save_half)
    path = tmp_path / "home" / "quantized" / "x.safetensors"
    wanted = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(wanted, match="No space left" if wanted is OutputError else None):
        quantized_weights.write_quantized({"a": torch.ones(1)}, path, {"format": "pt"})
    assert list(path.parent.iterdir()) == []


def test_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path / "m")
    twin = expected(folder, "int4")
    run = (
        "from pathlib import Path\n"
        "from bigcode_cli.backends.native_weights import open_tensors\n"
        "from bigcode_cli.records import LoadOptions, ModelFolder, Silence\n"
        f"folder = ModelFolder(name='m', path=Path({str(folder.path)!r}))\n"
        "open_tensors(folder, LoadOptions(quantize='int4'), Silence())\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", run], cwd=ROOT) for _ in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    assert len(list_quantized()) == 1
    assert not list(quantized_folder().glob("*.part"))
    assert not list(quantized_folder().glob(".*"))
    notes = Notes()
    assert_as_pytorch(opened(folder, "int4", notes), twin)
    assert notes.notes == []


def test_what_a_killed_writer_left_is_swept_up_in_time(tmp_path: Path) -> None:
    folder, _ = write_model(tmp_path / "m")
    quantized_folder().mkdir(parents=True)
    old, new = (quantized_folder() / f".{name}.safetensors.1.part" for name in ("old", "new"))
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    opened(folder, "int8")
    assert (old.exists(), new.exists()) == (False, True)
