"""Whether stored numbers are numbers."""

import math
from collections.abc import Mapping

from bigcode_cli.errors import ModelCorruptError
from bigcode_cli.kernels.native.library import FORMATS, library
from bigcode_cli.kernels.native.tensors import Tensor


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Read all that are floats once; the first pass needs them in memory anyway.

    Raises:
        ModelCorruptError: a tensor holds NaN or infinity.
    """
    for name, tensor in tensors.items():
        count = math.prod(tensor.shape)
        if not library().bigcode_finite(FORMATS[tensor.dtype], tensor.address, count):
            raise ModelCorruptError(f"{name} holds NaN or infinity", "download the model again")
