"""How a head that classifies is to be shown a text: two keys of ``config.json``.

``read_twice``, true: each window stands before the model twice, and the logits are those of the
second time, when it has seen all of it (Springer et al. 2024, echo embeddings). ``read_context``:
the tokens of the windows that the head was trained on, and is shown unless it is told otherwise.
``bigcode train head`` writes them; transformers keeps them and minds neither.
"""

from dataclasses import dataclass
from typing import Any, Self

from bigcode_cli.errors import ModelCorruptError
from bigcode_cli.model.config import GPTBigCodeConfig

_TWICE, _CONTEXT = "read_twice", "read_context"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a configuration says of it.

    Attributes:
        times: that a window stands before the model.
        room: tokens of the longest window.
        context: tokens of a window unless others are asked for.
    """

    times: int
    room: int
    context: int

    @classmethod
    def of(cls, config: GPTBigCodeConfig) -> Self:
        """What the keys say; once, and all that the model takes, where they are not there.

        Raises:
            ModelCorruptError: they say something that cannot be.
        """
        twice = config.extra.get(_TWICE, False)
        if not isinstance(twice, bool):
            raise ModelCorruptError(f"config.json: {_TWICE} is neither true nor false")
        times = 2 if twice else 1
        room = config.n_positions // times
        context = config.extra.get(_CONTEXT, room)
        if type(context) is not int or not min(2, room) <= context <= room:
            raise ModelCorruptError(
                f"config.json: {_CONTEXT} is no number of tokens from 2 to {room}"
            )
        return cls(times, room, context)


def reading_keys(
    config: GPTBigCodeConfig, *, read_twice: bool, context: int | None
) -> dict[str, Any]:
    """The keys of a configuration that mean nothing here, with what a new head asks for."""
    others = {key: value for key, value in config.extra.items() if key not in {_TWICE, _CONTEXT}}
    asked = {_TWICE: True} if read_twice else {}
    return {**others, **asked, **({} if context is None else {_CONTEXT: context})}
