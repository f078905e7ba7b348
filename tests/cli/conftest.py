"""A program to run, away from this machine's settings, and a small random model for it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from bigcode_cli.engine.session import Session
from bigcode_cli.model.checkpoint import save_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import LoadOptions, ModelFolder
from tests.cli.infilling import TEXT, Infill
from tests.cli.running import ROOT, Program, Result
from tests.sessions import random_model
from tests.tokenizers import SPECIAL_TOKENS, tiny_json, tiny_tokenizer

N_POSITIONS = 4096


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home, a working folder and an environment without settings."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("BIGCODE_HOME", str(home / "bigcode"))
    for name in ("BIGCODE_MODEL", "BIGCODE_DEVICE", "BIGCODE_DEBUG", "HF_HUB_OFFLINE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Program:
    """The program, run within this process."""
    return Program(monkeypatch)


@pytest.fixture
def infill(program: Program, model_folder: Path) -> Infill:
    """``bigcode infill -m MODEL -n 20 …``."""
    return partial(program, "infill", "-m", model_folder, "-n", 20)


@pytest.fixture
def score(program: Program, model_folder: Path) -> Callable[..., Result]:
    """``bigcode score -m MODEL …``."""
    return partial(program, "score", "-m", model_folder)


@pytest.fixture
def app(_alone: None) -> Path:
    """A file to fill at line 2."""
    path = Path("app.py")
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with the tiny tokenizer, as a folder."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model")
    config = GPTBigCodeConfig.from_dict(
        {
            "model_type": "gpt_bigcode",
            "vocab_size": tiny_tokenizer().vocab_size,
            "n_positions": N_POSITIONS,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "tie_word_embeddings": False,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }
    )
    model = random_model(config)
    with torch.no_grad():
        model.lm_head.weight[: len(SPECIAL_TOKENS)] = 0  # so that greedy outputs go on and on
    save_model(model, config, folder, "float32")
    (folder / "tokenizer.json").write_text(tiny_json())
    return folder


@pytest.fixture(scope="session")
def session(model_folder: Path) -> Session:
    """The session that the program opens on that folder."""
    folder = ModelFolder(name=str(model_folder), path=model_folder)
    return Session.open(folder, LoadOptions())
