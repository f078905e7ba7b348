"""Quantised weights out of a model folder, and into a file that they can be mapped from."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from bigcode_cli.errors import OutputError
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import LoadProgress, load_model
from bigcode_cli.model.names import LM_HEAD
from bigcode_cli.model.quantized_files import PART, sweep
from bigcode_cli.model.tensor_index import SCALE_SUFFIX
from bigcode_cli.records import Quantize


def quantized_state(
    folder: Path, base: Path | None, quantize: Quantize, progress: LoadProgress | None = None
) -> dict[str, Tensor]:
    """What ``load_model`` makes of a language model, by the names of a checkpoint.

    Matrices are int8 ``(rows, columns)`` or uint8 ``(rows, 32 * groups)`` with their float32
    factors beside them, ``(rows,)`` or ``(rows, groups)``, under ``NAME_scale``. All else is in the
    narrowest type that holds its numbers.

    Raises:
        ModelError: as ``load_model``.
    """
    model = load_model(
        GPTBigCodeForCausalLM,
        folder,
        base=base,
        device="cpu",
        dtype=torch.float32,
        quantize=quantize,
        progress=progress,
    )
    left_out = {LM_HEAD, LM_HEAD + SCALE_SUFFIX} if model.config.tie_word_embeddings else set()
    return {
        name: tensor.detach() if name.endswith(SCALE_SUFFIX) else _narrowest(tensor.detach())
        for name, tensor in model.state_dict().items()
        if name not in left_out
    }


def _narrowest(tensor: Tensor) -> Tensor:
    """Codes as they are; numbers in half the room, where that changes none of them."""
    if not tensor.is_floating_point():
        return tensor
    halves = (tensor.to(dtype) for dtype in (torch.bfloat16, torch.float16))
    return next((half for half in halves if torch.equal(half.float(), tensor)), tensor)


def write_quantized(state: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write them, the whole file or nothing: of several processes at it, each one's would do.

    Raises:
        OutputError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep()
            save_file(dict(state), part, metadata=metadata)
            # Else a crash of the machine might leave the name and not the numbers.
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise OutputError(f"cannot write {path}: {reason or error}") from error
