"""Triton's kernels on the GPU where there is one, else in its interpreter on the CPU."""

import importlib.util
import os

import pytest
import torch

from bigcode_cli.kernels.tables import Config

if not torch.cuda.is_available():
    # Read when a kernel is defined, so before any is imported.
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_configure(config: pytest.Config) -> None:
    """The interpreter takes arrays of one number for numbers, of which numpy warns."""
    ignored = "ignore:Conversion of an array with ndim:DeprecationWarning"
    config.addinivalue_line("filterwarnings", ignored)


HAS_TRITON = importlib.util.find_spec("triton") is not None


@pytest.fixture(scope="session")
def device() -> torch.device:
    if not HAS_TRITON:
        pytest.skip("triton is not installed: its kernels have no test here")
    torch.set_num_threads(1)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def few_programs(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes its time for each program, whatever is in it."""
    if device.type == "cpu":
        from bigcode_cli.kernels.triton import ops

        monkeypatch.setattr(ops, "config_of", lambda *_: Config(64, 64))
