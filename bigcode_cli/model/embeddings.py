"""Another number of tokens: rows of the embedding, and of the head that names them."""

import torch
from torch import Tensor

from bigcode_cli.errors import UsageError

# Of each old row's share in the new ones: bounds the memory that drawing them takes.
_DRAWN_AT_ONCE = 2**24

_SPREAD = 1e-9
"""The covariance of new rows over that of the old ones, as in transformers."""


def rows_asked(current: int, new_num_tokens: int | None, pad_to_multiple_of: int | None) -> int:
    """How many rows an embedding of ``current`` is to have.

    Raises:
        UsageError: an argument that is no whole number from 1.
    """
    for name, value in (
        ("new_num_tokens", new_num_tokens),
        ("pad_to_multiple_of", pad_to_multiple_of),
    ):
        if value is not None and (type(value) is not int or value < 1):
            raise UsageError(f"{name} is a whole number from 1, not {value!r}")
    rows = current if new_num_tokens is None else new_num_tokens
    step = 1 if pad_to_multiple_of is None else pad_to_multiple_of
    return -(-rows // step) * step


@torch.no_grad()
def resize_rows(weight: Tensor, rows: int, *, deviation: float | None) -> None:
    """Cut or lengthen a matrix; it stays the same parameter, and so tied where it was.

    Args:
        weight: ``(rows, width)``.
        rows: how many it is to have. The last ones go, or new ones follow the last.
        deviation: of new rows, drawn around zero; ``None`` draws them around the mean of the old
            ones (``like_mean``).
    """
    old = weight.shape[0]
    if rows == old:
        return
    resized = weight.new_empty(rows, weight.shape[1])
    resized[:old] = weight[:rows]
    if deviation is not None:
        resized[old:].normal_(std=deviation)
    elif rows > old:
        like_mean(weight, resized[old:])
    weight.data = resized
    weight.grad = None


def like_mean(old: Tensor, new: Tensor) -> None:
    """Draw ``new`` rows around the mean of the ``old`` ones, with 1e-9 of their covariance.

    A token of such a row changes the probabilities of the others least (Hewitt 2021, "Initializing
    new word embeddings for pretrained language models"). A sum of the centred old rows, each times
    its own standard normal number, has their covariance times their count: neither the covariance
    nor a root of it is needed, as in transformers 4.56.2 (``modeling_utils.py``,
    ``_init_added_embeddings_weights_with_mean``).

    Args:
        old: ``(rows, width)``.
        new: ``(new rows, width)``, written to.
    """
    numbers = old.float()
    mean = numbers.mean(dim=0)
    centred = numbers - mean
    scale = (_SPREAD / len(old)) ** 0.5
    step = max(1, _DRAWN_AT_ONCE // len(old))
    for part in torch.split(new, step):
        shares = torch.randn(len(part), len(old), device=old.device)
        part.copy_(mean + (shares @ centred) * scale)
