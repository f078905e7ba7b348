"""A model folder into memory, on the device and in the numbers that the options ask for."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from bigcode_cli.backends.devices import choose_device, choose_dtype, free_bytes
from bigcode_cli.backends.memory import gigabytes, require_memory
from bigcode_cli.backends.plans import allow_plans
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.pretrained import GPTBigCodePreTrainedModel
from bigcode_cli.model.random_weights import draw_model
from bigcode_cli.model.tensor_index import loaded_bytes, read_tensor_index
from bigcode_cli.records import LoadOptions, ModelFolder, Quantize, Reporter

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
    device, dtype = _prepare(options)
    index = read_tensor_index(folder.path)
    if folder.base is not None:
        index = index.over(read_tensor_index(folder.base))
    needed = index.weight_bytes(_name(dtype), options.quantize)
    weights = _require_memory(folder.name, needed, device, dtype, options.quantize)
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
    return Loaded(model, device, _name(dtype), weights, needed)


def draw(
    name: str, config: GPTBigCodeConfig, options: LoadOptions
) -> Loaded[GPTBigCodeForCausalLM]:
    """A causal language model of a shape, with weights drawn at random.

    Args:
        name: of the shape, in errors.

    Raises:
        ModelTooLargeError: the weights would not fit.
        UsageError: the device or the attention kernel asked for is not here.
    """
    device, dtype = _prepare(options)
    needed = loaded_bytes(config.tensor_shapes(), _name(dtype), options.quantize)
    weights = _require_memory(name, needed, device, dtype, options.quantize)
    model = draw_model(
        config,
        device=device,
        dtype=dtype,
        quantize=options.quantize,
        attn_implementation=ATTENTION.get(options.attention, options.attention),
    )
    return Loaded(model, device, _name(dtype), weights, needed)


def _prepare(options: LoadOptions) -> tuple[torch.device, torch.dtype]:
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    allow_plans(False)
    return device, choose_dtype(options.dtype, device)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _require_memory(
    name: str, needed: int, device: torch.device, dtype: torch.dtype, quantize: Quantize
) -> str:
    """Refuse weights that would not fit; what they are stored in."""
    weights = quantize if quantize != "none" else _name(dtype)
    require_memory(
        needed,
        free_bytes(device),
        f"{name} needs {gigabytes(needed)} in {weights}",
        "try a smaller model or --quantize int8" if quantize == "none" else "try a smaller model",
    )
    return weights
