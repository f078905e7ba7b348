"""What keeps the samples of one window apart."""

import torch
from torch import Tensor


def sample_borders(inputs: Tensor, eos_id: int) -> tuple[Tensor, Tensor]:
    """A mask under which each sample sees itself alone, and positions that begin anew with each.

    ``<|endoftext|>`` is in no text: it ends a sample, and as an input begins the next one, as it
    begins a text that is scored.

    Args:
        inputs: ids ``(windows, time)``.

    Returns:
        bool ``(windows, 1, time, time)``, true where a query (third) may see a key (fourth); and
        int64 ``(windows, time)``.
    """
    time = torch.arange(inputs.shape[1], device=inputs.device)
    begins = inputs == eos_id
    sample = begins.cumsum(1)
    mask = (sample[:, :, None] == sample[:, None, :]) & (time[:, None] >= time)
    first = torch.where(begins, time, 0).cummax(1).values
    return mask[:, None], time - first
