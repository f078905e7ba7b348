"""How a head that classifies is to be shown a text, and read: keys of ``config.json``.

``read_twice``, true: each window stands before the model twice, and the logits are those of the
second time, when it has seen all of it (Springer et al. 2024, echo embeddings). ``read_context``:
the tokens of the windows that the head was trained on, and is shown unless it is told otherwise.
``change_costs``, ``{"word", "mark", "free"}``: what changes between the parts of a text cost where
a token head's labels are read as a path, see ``text.tag_paths``; without it, each is read by
itself. ``bigcode train head`` writes them; transformers keeps them and minds none.
"""

import sys
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from bigcode_cli.errors import ModelCorruptError
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import ChangeCosts

_TWICE, _CONTEXT, _COSTS = "read_twice", "read_context", "change_costs"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a configuration says of it.

    Attributes:
        times: that a window stands before the model.
        room: tokens of the longest window.
        context: tokens of a window unless others are asked for.
        change_costs: of a path through the labels of tokens; ``None`` reads each by itself.
    """

    times: int
    room: int
    context: int
    change_costs: ChangeCosts | None

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
        return cls(times, room, context, _change_costs(config))


def _change_costs(config: GPTBigCodeConfig) -> ChangeCosts | None:
    """The costs, if there are any.

    Raises:
        ModelCorruptError: they are something else.
    """
    if _COSTS not in config.extra:
        return None
    costs, names = config.extra[_COSTS], [field.name for field in fields(ChangeCosts)]
    if not (
        isinstance(costs, dict)
        and costs.keys() == set(names)
        and all(type(cost) in (int, float) for cost in costs.values())
        and all(0 <= cost <= sys.float_info.max for cost in costs.values())
    ):
        raise ModelCorruptError(
            f"config.json: {_COSTS} does not give {', '.join(names)} a number from 0 on each"
        )
    return ChangeCosts(**{name: float(cost) for name, cost in costs.items()})


def reading_keys(
    config: GPTBigCodeConfig,
    *,
    read_twice: bool,
    context: int | None,
    change_costs: ChangeCosts | None,
) -> dict[str, Any]:
    """The keys of a configuration that mean nothing here, with what a new head asks for."""
    own = {_TWICE, _CONTEXT, _COSTS}
    keys = {key: value for key, value in config.extra.items() if key not in own}
    if read_twice:
        keys[_TWICE] = True
    if context is not None:
        keys[_CONTEXT] = context
    if change_costs is not None:
        keys[_COSTS] = asdict(change_costs)
    return keys
