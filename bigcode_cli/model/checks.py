"""Whether a checkpoint's tensors are those that a model of its configuration has."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from bigcode_cli.errors import ModelCorruptError, ModelIncompleteError, ModelUnsupportedError
from bigcode_cli.model.names import HEADS, LM_HEAD
from bigcode_cli.model.tensor_index import SCALE_SUFFIX


class Found(Protocol):
    """What is known of a tensor before it is read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of its dimensions."""

    @property
    def quantized(self) -> bool:
        """It holds int8 codes, whose factors are another tensor."""


def check_names(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, Found],
    drawn: Collection[str] = (),
    *,
    is_difference: bool,
) -> None:
    """Raise unless the folder holds these tensors, and of others only heads.

    Args:
        shapes: of all that the model has.
        drawn: what it need not hold.
        is_difference: the folder holds only what differs from another, which was not given.

    Raises:
        ModelIncompleteError: a tensor is missing.
        ModelUnsupportedError: there is one that GPTBigCode does not have.
    """
    missing = [name for name in shapes if name not in stored and name not in drawn]
    if missing and is_difference:
        raise ModelIncompleteError(
            f"{folder} holds only what differs from another model",
            "the program finds that one by itself; for libraries, save it with --full",
        )
    if missing:
        raise ModelIncompleteError(f"{folder}: {_listed(missing)} missing from the weights")
    known = {*shapes, *HEADS}
    scales = {name + SCALE_SUFFIX for name in known & stored.keys() if stored[name].quantized}
    surplus = [name for name in stored if name not in known | scales]
    if surplus:
        raise ModelUnsupportedError(f"{folder}: GPTBigCode has no {_listed(surplus)}")


def check_shapes(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, Found],
    drawn: Collection[str] = (),
    *,
    is_own: bool,
) -> None:
    """Raise unless the stored tensors have the shapes that the configuration says.

    Args:
        is_own: the configuration is the folder's.

    Raises:
        ModelCorruptError: they have not, and the configuration is the folder's.
        ModelUnsupportedError: they have not, and it is another.
    """
    for name, wanted in shapes.items():
        if name in drawn or (found := stored[name].shape) == wanted:
            continue
        hint = None
        if name in HEADS and name != LM_HEAD and found:
            hint = f"num_labels is {wanted[0]}, and the head in the folder has {found[0]} labels"
        has = f"{folder}: {name} has shape {found} where"
        if is_own:
            raise ModelCorruptError(f"{has} config.json says {wanted}", hint)
        raise ModelUnsupportedError(f"{has} the configuration asks for {wanted}", hint)


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"{name:.100}" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more tensors"
