"""What all model classes share: a configuration, drawn weights, where they run."""

import math
import warnings

import torch
from torch import nn

from bigcode_cli.errors import BigcodeWarning
from bigcode_cli.model.config import GPTBigCodeConfig


class GPTBigCodePreTrainedModel(nn.Module):
    """A model of the family: the decoder itself, or the decoder under a head.

    Attributes:
        config: what the model was made from.
    """

    def __init__(self, config: GPTBigCodeConfig) -> None:
        super().__init__()
        self.config = config
        self._warned: set[str] = set()

    @property
    def dtype(self) -> torch.dtype:
        """Of the activations, and of all weights that are not quantised."""
        return self._norm.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._norm.weight.device

    @property
    def _norm(self) -> nn.LayerNorm:
        norm = getattr(self, "transformer", self).ln_f
        assert isinstance(norm, nn.LayerNorm)
        return norm

    def initialise(self) -> None:
        """Draw all weights anew, as the family's training code does: see ``draw``."""
        self.draw(self)

    def draw(self, part: nn.Module) -> None:
        """Draw the weights of a part of the model, unless it has no memory yet.

        Normal with standard deviation ``initializer_range``; projections back into the residual
        stream by ``1 / sqrt(2 * n_layer)`` narrower (Radford et al. 2019); zero biases; norms that
        change nothing.
        """
        deviation = self.config.initializer_range
        narrow = deviation / math.sqrt(2 * self.config.n_layer)
        for name, module in part.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding) and not module.weight.is_meta:
                is_residual = name.endswith(".c_proj")
                nn.init.normal_(module.weight, std=narrow if is_residual else deviation)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def warn_once(self, message: str) -> None:
        """Warn, the first time that this model has this to say."""
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, BigcodeWarning, stacklevel=2)
