"""The library as its users import it."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import bigcode_cli
from bigcode_cli import GPTBigCodeConfig
from bigcode_cli.errors import ModelNotFoundError

HEAVY = ("torch", "tokenizers", "safetensors", "huggingface_hub", "typer", "rich", "numpy")


def loaded_after(statement: str) -> set[str]:
    check = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = loaded_after("import bigcode_cli")
    assert not loaded & set(HEAVY)
    assert "bigcode_cli.model.config" not in loaded
    assert not any(name.startswith("bigcode_cli.hub") for name in loaded)


@pytest.mark.parametrize(
    "statement",
    [
        "from bigcode_cli import GPTBigCodeConfig",
        "import bigcode_cli; bigcode_cli.GPTBigCodeConfig(n_layer=2).to_dict()",
        "import bigcode_cli; bigcode_cli.GPTBigCodeConfig.from_pretrained('mini')",
        "import bigcode_cli; dir(bigcode_cli)",
    ],
)
def test_the_configuration_needs_no_torch(statement: str) -> None:
    assert "torch" not in loaded_after(statement)


@pytest.mark.parametrize("name", bigcode_cli.__all__)
def test_every_public_class_is_found(name: str) -> None:
    value = getattr(bigcode_cli, name)
    assert value.__name__ == name
    assert value.__module__.startswith("bigcode_cli.model.")
    assert getattr(import_module(value.__module__), name) is value
    assert name in dir(bigcode_cli)
    assert name in vars(bigcode_cli)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="GPTBigCodeModels"):
        bigcode_cli.GPTBigCodeModels  # noqa: B018
    assert {"__version__", "__all__"} <= set(dir(bigcode_cli))


def test_a_built_in_configuration_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mini = GPTBigCodeConfig.from_pretrained("mini", local_files_only=True)
    assert (mini.n_layer, mini.hidden_size, mini.num_key_value_heads) == (10, 512, 1)
    with pytest.raises(ModelNotFoundError, match="unknown model 'maxi'"):
        GPTBigCodeConfig.from_pretrained("maxi")
