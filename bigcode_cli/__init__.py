"""Local code completion for the GPTBigCode family, as a program and as a library.

The classes of the library are imported when they are first asked for, so that a program that
needs none of them does not wait for torch; the configuration never does.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from bigcode_cli.model.locate import set_finder

if TYPE_CHECKING:
    from bigcode_cli.model.cache import KVCache
    from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
    from bigcode_cli.model.config import GPTBigCodeConfig
    from bigcode_cli.model.gpt_bigcode import GPTBigCodeModel
    from bigcode_cli.model.heads import (
        GPTBigCodeForSequenceClassification,
        GPTBigCodeForTokenClassification,
    )

__version__ = "0.1.0"

__all__ = [
    "GPTBigCodeConfig",
    "GPTBigCodeForCausalLM",
    "GPTBigCodeForSequenceClassification",
    "GPTBigCodeForTokenClassification",
    "GPTBigCodeModel",
    "KVCache",
]

_HOMES = {
    "GPTBigCodeConfig": "config",
    "GPTBigCodeForCausalLM": "causal_lm",
    "GPTBigCodeForSequenceClassification": "heads",
    "GPTBigCodeForTokenClassification": "heads",
    "GPTBigCodeModel": "gpt_bigcode",
    "KVCache": "cache",
}


def __getattr__(name: str) -> object:
    """A class of the library, imported now (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.model.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """What there is, the classes that are not imported yet among it."""
    return sorted(globals().keys() | _HOMES.keys())


def _find_folder(
    name: str, *, revision: str | None, local_files_only: bool, config_only: bool
) -> Path:
    """The hub's finder, imported when it is first needed."""
    from bigcode_cli.hub.resolve import find_folder

    return find_folder(
        name, revision=revision, local_files_only=local_files_only, config_only=config_only
    )


set_finder(_find_folder)
