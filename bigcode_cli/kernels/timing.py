"""How long a launch takes on the device, without the gaps that the host leaves."""

import statistics
from collections.abc import Callable

import torch

_REPLAYS = 15


def timed(launch: Callable[[int], object], copies: int) -> float:
    """Seconds a launch, all of them in one CUDA graph; the median of some replays."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(aside):
        launch(0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for copy in range(copies):
            launch(copy)
    times: list[float] = []
    for _ in range(_REPLAYS):
        start, end = _event(), _event()
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000 / copies)
    return statistics.median(times[3:])


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def read_bandwidth() -> float:
    """Bytes a second that a sum over 4 GiB reads."""
    block = torch.randn(2**30, device="cuda")
    out = torch.empty(2**10, device="cuda")
    return block.numel() * 4 / timed(lambda _: torch.sum(block.view(2**10, -1), 1, out=out), 2)
