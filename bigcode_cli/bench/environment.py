"""What a measurement was made on and with: enough to tell two runs apart."""

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bigcode_cli import __version__
from bigcode_cli.engine.protocol import BackendInfo
from bigcode_cli.records import LoadOptions


def environment(
    info: BackendInfo,
    load_s: float | None,
    *,
    model: str,
    revision: str | None,
    options: LoadOptions,
) -> dict[str, Any]:
    """The model, the program and the machine, with how many threads compute and what else it does.

    Args:
        info: of the loaded model; ``load_s``: seconds that loading took, if anything was.
        model: as the user named it.
        revision: likewise.
        options: that it was loaded with.
    """
    import torch

    return {
        **machine(info.device),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "model": model,
        "revision": revision,
        "backend": info.name,
        "device": info.device,
        "dtype": info.dtype,
        "weights": info.weights,
        "attention": options.attention,
        "context": info.n_positions,
        "load_s": load_s,
    }


def machine(device: str) -> dict[str, Any]:
    """The program's version, the machine's parts and the date."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "bigcode": __version__,
        "python": platform.python_version(),
        "torch": version("torch"),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "gpu": _gpu_name(device),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _gpu_name(device: str) -> str | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.get_device_name(device)
