"""What reads a buffer for its bandwidth reads all of it."""

import pytest
import torch


@pytest.mark.parametrize("rest", [0, 5])
def test_every_reader_reads_every_number_once(device: torch.device, rest: int) -> None:
    from bigcode_cli.kernels.triton.stream import readers

    whole = 3 * 65536
    buffer = torch.rand(whole + rest, device=device)
    some = readers(buffer)
    assert len(some) == 12
    for read in some:
        torch.testing.assert_close(read().double().sum(), buffer[:whole].double().sum())
