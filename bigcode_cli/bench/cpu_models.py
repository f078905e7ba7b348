"""One model in the folders that the engines open: as floats, and in our own int8 and int4.

``PLACE`` is a checkpoint of the family in float16, which the peers convert; ``PLACE/f16``,
``PLACE/int8`` … are what the native engine maps. Norms and biases are float32.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from bigcode_cli.bench.checkpoints import WEIGHTS
from bigcode_cli.bench.cpu_pipe import WIDTHS, Width
from bigcode_cli.bench.shapes import SHAPES
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model
from bigcode_cli.model.config import CONFIG_NAME, GPTBigCodeConfig
from bigcode_cli.model.files import write_json
from bigcode_cli.model.random_weights import draw_model
from bigcode_cli.model.tensor_index import SCALE_SUFFIX
from bigcode_cli.records import ModelFolder, Quantize

CPU_SHAPES: dict[str, Mapping[str, object]] = {
    "33m": {
        **SHAPES["tiny_starcoder_py"],
        "n_embd": 448,
        "n_layer": 12,
        "n_head": 7,
        "vocab_size": 16384,
        "n_positions": 1024,
    },
    "164m": {**SHAPES["tiny_starcoder_py"], "n_positions": 2048},
    "1.1b": SHAPES["santacoder"],
}
"""By name; what is cut of the positions is a table that a step reads one row of."""

_QUANTIZE: dict[Width, Quantize] = {"f32": "none", "f16": "none", "int8": "int8", "int4": "int4"}
_DRAWN = 2
_REPEATED = "transformer.h.1."
_Make = Callable[[Quantize], GPTBigCodeForCausalLM]


def write_shape(name: str, place: Path) -> None:
    """A shape with random weights, unless it is there.

    Two layers are drawn and quantised, the first and another: int4 keeps more of the first. All
    others have the second one's rows in another order: as many numbers in memory of their own, and
    none that an engine could find to be the same.
    """
    config = GPTBigCodeConfig.from_dict(CPU_SHAPES[name])
    drawn = config.with_changes(n_layer=_DRAWN)
    cpu, kind = torch.device("cpu"), torch.float32

    def make(quantize: Quantize) -> GPTBigCodeForCausalLM:
        return draw_model(drawn, device=cpu, dtype=kind, quantize=quantize)

    _write(place, config, make, WIDTHS)


def write_model(folder: ModelFolder, place: Path) -> None:
    """A model of which there is a folder, unless it is there."""

    def make(quantize: Quantize) -> GPTBigCodeForCausalLM:
        cpu, kind = torch.device("cpu"), torch.float32
        return load_model(
            GPTBigCodeForCausalLM, folder.path, device=cpu, dtype=kind, quantize=quantize,
            base=folder.base,
        )  # fmt: skip

    _write(place, GPTBigCodeConfig.from_file(folder.path), make, ("f32", *WIDTHS))


def _write(place: Path, config: GPTBigCodeConfig, make: _Make, widths: Sequence[Width]) -> None:
    if (place / WEIGHTS).exists():
        return
    for width in widths:
        folder = place / width
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: _stored(name, tensor, width)
            for name, tensor in _layers(make(_QUANTIZE[width]), config.n_layer)
            if not (config.tie_word_embeddings and name.startswith("lm_head."))
        }
        save_file(tensors, folder / WEIGHTS)
        write_json(folder / CONFIG_NAME, config.to_dict())
    write_json(place / CONFIG_NAME, config.to_dict())
    (place / WEIGHTS).hardlink_to(place / "f16" / WEIGHTS)


def _layers(model: GPTBigCodeForCausalLM, layers: int) -> Iterator[tuple[str, Tensor]]:
    """All tensors; if layers are missing those of the last, its rows further on in each."""
    for name, tensor in model.state_dict().items():
        if model.config.n_layer < layers and name.startswith(_REPEATED):
            rest = name.removeprefix(_REPEATED)
            for number in range(1, layers):
                yield f"transformer.h.{number}.{rest}", tensor.roll(number, 0)
        else:
            yield name, tensor


def _stored(name: str, tensor: Tensor, width: Width) -> Tensor:
    is_matrix = tensor.dim() == 2 and tensor.is_floating_point() and not name.endswith(SCALE_SUFFIX)
    return tensor.half() if is_matrix and width != "f32" else tensor.contiguous()
