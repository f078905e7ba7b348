"""Triton's kernels on the GPU where there is one, else in its interpreter on the CPU."""

import importlib.util
import os

import pytest
import torch

if not torch.cuda.is_available():
    # Read when a kernel is defined, so before any is imported.
    os.environ.setdefault("TRITON_INTERPRET", "1")

HAS_TRITON = importlib.util.find_spec("triton") is not None


@pytest.fixture(scope="session")
def device() -> torch.device:
    if not HAS_TRITON:
        pytest.skip("triton is not installed: its kernels have no test here")
    torch.set_num_threads(1)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
