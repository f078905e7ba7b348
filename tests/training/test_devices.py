"""Where training runs."""

import pytest
import torch

from bigcode_cli.errors import UsageError
from bigcode_cli.training.devices import local_device


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", str(torch.cuda.device_count()))
    with pytest.raises(UsageError, match="GPUs"):
        local_device("cuda")
    assert local_device("cpu") == torch.device("cpu")
