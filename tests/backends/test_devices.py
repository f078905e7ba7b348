"""Device and dtype, chosen or refused."""

import pytest
import torch

from bigcode_cli.backends.devices import choose_device, choose_dtype, free_bytes
from bigcode_cli.errors import UsageError

CPU = torch.device("cpu")


def test_auto_takes_what_is_here() -> None:
    device = choose_device("auto")
    assert (device.type == "cuda") == torch.cuda.is_available()
    assert torch.zeros(1, device=device).device == device


def test_a_device_that_is_not_here_is_refused() -> None:
    count = torch.cuda.device_count()
    with pytest.raises(UsageError, match=f"cuda:{count}"):
        choose_device(f"cuda:{count}")
    if not torch.backends.mps.is_available():
        with pytest.raises(UsageError, match="mps"):
            choose_device("mps")


def test_auto_dtype_is_float32_on_a_cpu_and_half_elsewhere() -> None:
    assert choose_dtype("auto", CPU) == torch.float32
    assert choose_dtype("auto", torch.device("mps")) == torch.float16
    if torch.cuda.is_available():
        wanted = {True: torch.bfloat16, False: torch.float16}
        has = torch.cuda.is_bf16_supported(including_emulation=False)
        assert choose_dtype("auto", torch.device("cuda", 0)) == wanted[has]


def test_a_dtype_that_is_asked_for_is_taken() -> None:
    assert choose_dtype("bfloat16", CPU) == torch.bfloat16
    assert choose_dtype("float16", CPU) == torch.float16
    assert choose_dtype("float32", torch.device("mps")) == torch.float32


def test_the_free_memory_of_a_cpu_is_the_hosts() -> None:
    free = free_bytes(CPU)
    assert free is None or free > 2**20


def test_what_tensors_leave_on_a_gpu_is_free() -> None:
    if torch.cuda.is_available():
        device = torch.device("cuda", 0)
        before = free_bytes(device)
        tensor = torch.zeros(2**26, device=device)
        during = free_bytes(device)
        del tensor
        after = free_bytes(device)
        assert before is not None
        assert during is not None
        assert after is not None
        assert before - during >= 2**28
        assert after == pytest.approx(before, rel=0.01)
