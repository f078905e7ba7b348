"""A model folder into memory, on the device and in the numbers that the options ask for."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from bigcode_cli.backends.devices import choose_device, choose_dtype, free_bytes
from bigcode_cli.backends.memory import gigabytes, require_memory
from bigcode_cli.backends.plans import allow_plans
from bigcode_cli.model.checkpoint import load_model
from bigcode_cli.model.pretrained import GPTBigCodePreTrainedModel
from bigcode_cli.model.tensor_index import read_tensor_index
from bigcode_cli.records import LoadOptions, ModelFolder, Reporter

ATTENTION = {"flash": "flash_attention_2"}
"""Kernels that the command line and the model call by different names."""

Model = TypeVar("Model", bound=GPTBigCodePreTrainedModel)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Model]):
    """A model in memory, in evaluation mode.

    Attributes:
        dtype: of the activations; ``weights`` names how the weights are stored.
        weight_bytes: what the weights occupy.
    """

    model: Model
    device: torch.device
    dtype: str
    weights: str
    weight_bytes: int


def load(
    model_class: type[Model], folder: ModelFolder, options: LoadOptions, report: Reporter
) -> Loaded[Model]:
    """Load a folder's weights; what would not fit is refused before.

    Raises:
        ModelError: the weights are missing, corrupt, of another architecture or too large.
        UsageError: the device or the attention kernel asked for is not here.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    allow_plans(False)
    dtype = choose_dtype(options.dtype, device)
    dtype_name = str(dtype).removeprefix("torch.")
    weights = options.quantize if options.quantize != "none" else dtype_name
    index = read_tensor_index(folder.path)
    if folder.base is not None:
        index = index.over(read_tensor_index(folder.base))
    needed = index.weight_bytes(dtype_name, options.quantize)
    require_memory(
        needed,
        free_bytes(device),
        f"{folder.name} needs {gigabytes(needed)} in {weights}",
        "try a smaller model or --quantize int8"
        if options.quantize == "none"
        else "try a smaller model",
    )
    model = load_model(
        model_class,
        folder.path,
        device=device,
        dtype=dtype,
        base=folder.base,
        quantize=options.quantize,
        attn_implementation=ATTENTION.get(options.attention, options.attention),
        progress=lambda done, total: report.progress("loading", done, total, "B"),
    )
    return Loaded(model, device, dtype_name, weights, needed)
