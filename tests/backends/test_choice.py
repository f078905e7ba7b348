"""Who does the arithmetic: the native engine on a CPU, PyTorch where it cannot."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bigcode_cli.backends import choice, gpus, open_backend, open_random
from bigcode_cli.backends.native_weights import NativeUnsupportedError
from bigcode_cli.engine.protocol import Backend
from bigcode_cli.errors import UsageError
from bigcode_cli.kernels.native import library
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import LoadOptions, ModelFolder
from tests.backends.native_folders import CONFIG, Notes, write_model

ROOT = Path(__file__).parents[2]

built = pytest.mark.skipif(not library.is_built(), reason="the native engine is not built")
NOT_BUILT = "the native engine was not built when this program was installed, so decoding is slower"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test is a process to which nothing was told, on a machine without a GPU."""
    monkeypatch.setattr(choice, "_told", set())
    monkeypatch.setattr(choice, "may_have_gpu", lambda: False)
    yield
    library.load_error.cache_clear()
    library.library.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    return write_model(tmp_path / "m")[0]


def opened(folder: ModelFolder, notes: Notes | None = None, **options: object) -> Backend:
    chosen = LoadOptions(**options)  # type: ignore[arg-type]
    return open_backend(folder, chosen, vocab_size=50, report=notes or Notes())


@built
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_cpu_is_the_native_engines(folder: ModelFolder, device: str) -> None:
    notes = Notes()
    info = opened(folder, notes, device=device).info
    assert (info.name, info.device, info.dtype, info.weights) == (
        *("native", "cpu", "float32"),
        "float32",
    )
    assert notes.notes == []


@built
def test_a_shape_with_random_weights_is_the_native_engines_too() -> None:
    config = GPTBigCodeConfig.from_dict(CONFIG)
    for backend, name in [("auto", "native"), ("native", "native"), ("torch", "torch")]:
        options = LoadOptions(backend=backend)  # type: ignore[arg-type]
        assert open_random("shape", config, options, report=Notes()).info.name == name


def test_pytorch_is_forced_in_silence(folder: ModelFolder) -> None:
    notes = Notes()
    assert opened(folder, notes, backend="torch").info.name == "torch"
    assert notes.notes == []


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_kernels_of_attention_are_pytorchs(folder: ModelFolder, attention: str) -> None:
    notes = Notes()
    assert opened(folder, notes, attention=attention).info.name == "torch"
    assert notes.notes == []
    with pytest.raises(UsageError, match=f"--attention {attention}"):
        opened(folder, backend="native", attention=attention)


def test_an_engine_that_was_not_built_is_told_of_once(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "is_built", lambda: False)
    notes = Notes()
    for _ in range(2):
        assert opened(folder, notes).info.name == "torch"
    assert notes.notes == [NOT_BUILT]
    with pytest.raises(UsageError, match="was not built") as refused:
        opened(folder, backend="native")
    assert refused.value.hint is not None
    assert "--backend torch" in refused.value.hint


def test_an_engine_that_does_not_load_is_told_of(
    folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / library.NAME).write_bytes(b"no library")
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    library.load_error.cache_clear()
    library.library.cache_clear()
    notes = Notes()
    assert opened(folder, notes).info.name == "torch"
    (note,) = notes.notes
    assert note.startswith("the native engine does not load here (")
    with pytest.raises(UsageError, match="does not load here"):
        opened(folder, backend="native")


@built
def test_an_engine_of_other_sources_is_not_called(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "sources_digest", lambda: "0" * 64)
    library.load_error.cache_clear()
    library.library.cache_clear()
    notes = Notes()
    assert opened(folder, notes).info.name == "torch"
    assert "built from other sources" in notes.notes[0]


@built
def test_what_the_engine_does_not_take_is_pytorchs(tmp_path: Path) -> None:
    folder, model = write_model(tmp_path / "m")
    (folder.path / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder.path / "pytorch_model.bin")
    notes = Notes()
    assert opened(folder, notes).info.name == "torch"
    assert notes.notes == [
        "m runs in PyTorch, which is slower: the native engine maps safetensors, and not .bin files"
    ]
    with pytest.raises(NativeUnsupportedError):
        opened(folder, backend="native")
    crossed = GPTBigCodeConfig.from_dict(
        {**CONFIG, "add_cross_attention": True, "multi_query": False}
    )
    with pytest.raises(NativeUnsupportedError, match="cross-attention"):
        open_random("shape", crossed, LoadOptions(backend="native"), report=Notes())


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_the_native_engine_is_for_cpus(folder: ModelFolder, device: str) -> None:
    with pytest.raises(UsageError, match=f"not on {device.partition(':')[0]}"):
        opened(folder, backend="native", device=device)


@built
def test_where_there_may_be_a_gpu_pytorch_is_asked(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "may_have_gpu", lambda: True)
    expected = "native" if not torch.cuda.is_available() else "graph"
    assert opened(folder).info.name == expected
    assert opened(folder, backend="native").info.name == "native"


@pytest.mark.skipif(sys.platform != "linux", reason="a driver by Linux's name")
def test_devices_are_those_that_the_driver_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")

    def driver(name: str, result: int, count: int) -> str:
        source, made = tmp_path / f"{name}.c", tmp_path / f"{name}.so"
        source.write_text(
            f"int cuInit(unsigned flags) {{ return {result} + flags; }}\n"
            f"int cuDeviceGetCount(int *count) {{ *count = {count}; return 0; }}\n"
        )
        subprocess.run([compiler, "-shared", "-fPIC", source, "-o", made], check=True)
        return str(made)

    for name, result, count, expected in [
        ("two", 0, 2, 2),
        ("none", 0, 0, 0),
        ("failing", 100, 2, 0),
    ]:
        monkeypatch.setitem(gpus._DRIVERS, "linux", driver(name, result, count))
        assert gpus.cuda_devices() == expected
    monkeypatch.setitem(gpus._DRIVERS, "linux", str(tmp_path / "absent.so"))
    assert gpus.cuda_devices() == 0


@built
@pytest.mark.parametrize(
    "args",
    [
        ["generate", "def f(", "-n", "2"],
        ["generate", "def f(", "-n", "2", "--lookup"],
        ["infill", "app.py:2", "-n", "2"],
        ["score", "app.py"],
    ],
    ids=" ".join,
)
def test_commands_on_a_cpu_import_no_torch(tmp_path: Path, args: list[str]) -> None:
    (tmp_path / "app.py").write_text("def f(x):\n    return \n")
    check = (
        "import sys; from bigcode_cli.cli.app import run\n"
        f"code = run([*{args!r}, '--device', 'cpu'])\n"
        "heavy = {'torch', 'numpy', 'safetensors', 'huggingface_hub', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    run = subprocess.run(
        [sys.executable, "-c", check],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "BIGCODE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
