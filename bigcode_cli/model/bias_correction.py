"""What rounding does to the mean of each output, taken back by the biases.

An error of the weights times the mean of the inputs is a constant, and in the first layers inputs
are almost nothing but their mean: 99.8 % of the energy that enters the second attention's output
projection in the built-in model. So a layer's rounded weights add a wrong constant to all tokens,
which its bias can take back for nothing (Nagel et al. 2019, "Data-free quantization through weight
equalization and bias correction", section 4.2; Banner et al. 2019, section 3).

The means are taken of a short pass over tokens drawn at random, which needs no text: through the
exact weights, a layer at a time, and through the rounded ones.
"""

from functools import partial

import torch
from torch import Tensor, nn

from bigcode_cli.model.attention import Visible, eager
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.layers import GPTBigCodeBlock, Pass
from bigcode_cli.model.quantize import QuantizedLinear
from bigcode_cli.model.reader import Reader

_ROWS, _TOKENS = 4, 64
_EVEN_BELOW = 256
"""Byte-level BPE numbers tokens as they were merged, the frequent ones first (Zipf's law); bytes
and special tokens, which come before all, have an even share."""


@torch.no_grad()
def correct_biases(trunk: nn.Module, reader: Reader) -> None:
    """Change the biases of quantised layers until their outputs have the means of the exact ones.

    Codes and factors stay. Each weight is read a second time, and a layer's exact ones take memory
    for as long as it is looked at.

    Args:
        trunk: a ``GPTBigCodeModel`` that ``reader`` has loaded, in evaluation mode.

    Raises:
        ModelError: as ``checkpoint.load_model``.
    """
    config: GPTBigCodeConfig = trunk.config  # type: ignore[assignment]
    ids = draw_ids(config).to(reader.device)
    time = torch.arange(ids.shape[1], device=reader.device)
    seen: Tensor = trunk.wte(ids) + trunk.wpe(time)  # type: ignore[operator]
    wanted = seen
    run = Pass(attend=eager, visible=Visible(mask=(time <= time[:, None])[None, None]))
    for layer, block in enumerate(trunk.h):  # type: ignore[arg-type]
        wanted, means = _pass_exact(reader, config, layer, wanted, run)
        hooks = [
            module.register_forward_hook(partial(_correct, means[name]))
            for name, module in block.named_modules()
            if isinstance(module, QuantizedLinear) and module.bias is not None and name in means
        ]
        seen = block(seen, run)[0]
        for hook in hooks:
            hook.remove()


def draw_ids(config: GPTBigCodeConfig) -> Tensor:
    """Token ids int64 ``(rows, time)`` on the host, the same each time for a vocabulary."""
    weights = 1 / (torch.arange(config.vocab_size, dtype=torch.float64) + _EVEN_BELOW)
    time = min(_TOKENS, config.n_positions)
    stream = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(weights, _ROWS * time, replacement=True, generator=stream)
    return drawn.view(_ROWS, time)


def _pass_exact(
    reader: Reader, config: GPTBigCodeConfig, layer: int, hidden: Tensor, run: Pass
) -> tuple[Tensor, dict[str, Tensor]]:
    """What a layer as it is stored makes of ``hidden``, and the mean of each of its products."""
    exact, means = _exact(reader, config, layer), dict[str, Tensor]()
    for name, module in exact.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(partial(_note, means, name))
    return exact(hidden, run)[0], means


def _exact(reader: Reader, config: GPTBigCodeConfig, layer: int) -> GPTBigCodeBlock:
    """A layer with its weights as they are stored."""
    with torch.device("meta"):
        block = GPTBigCodeBlock(config, layer)
    layers = nn.ModuleDict({str(layer): block})
    root = nn.ModuleDict({"transformer": nn.ModuleDict({"h": layers})})
    plain = Reader(root, reader.stored, False, reader.device, reader.dtype, "none")
    for name, _ in list(root.named_parameters()):
        plain.load(name)
    return block.eval()


def _note(
    means: dict[str, Tensor], name: str, _module: nn.Module, _inputs: object, output: Tensor
) -> None:
    means[name] = _mean(output)


def _correct(wanted: Tensor, module: QuantizedLinear, _inputs: object, output: Tensor) -> Tensor:
    """Shift a layer's bias, and the output at hand, by what its mean is off."""
    assert module.bias is not None
    missing = wanted - _mean(output)
    # Float16 can overflow here as anywhere; no bias is lost to that.
    missing = torch.where(missing.isfinite(), missing, 0.0)
    shifted = (module.bias.float() + missing).to(module.bias.dtype)
    shift = shifted - module.bias
    module.bias = nn.Parameter(shifted)
    return output + shift


def _mean(output: Tensor) -> Tensor:
    """Float32 ``(width,)`` over all tokens of ``(batch, time, width)``."""
    return output.flatten(0, 1).mean(dim=0, dtype=torch.float32)
