"""Whether there is a GPU, found out without torch: its import takes longer than a short answer."""

import ctypes
import platform
import sys
from functools import cache
from pathlib import Path

_DRIVERS = {"win32": "nvcuda.dll", "linux": "libcuda.so.1"}
"""NVIDIA's driver; it obeys ``CUDA_VISIBLE_DEVICES`` as all that is above it does."""

_AMD = Path("/dev/kfd")


@cache
def may_have_gpu() -> bool:
    """Whether PyTorch may find a GPU here; only that it cannot is sure.

    Apple's and AMD's are PyTorch's to tell: there is one on nearly every machine of the kind.
    """
    is_apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return is_apple or _AMD.exists() or cuda_devices() > 0


def cuda_devices() -> int:
    """NVIDIA GPUs that the driver shows; none where there is no driver, or one that fails."""
    name = _DRIVERS.get(sys.platform)
    if name is None:
        return 0
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL(name)
        failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else count.value
