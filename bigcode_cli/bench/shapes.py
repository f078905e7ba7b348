"""What is measured: a model's folder, or its shape alone with weights drawn at random."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bigcode_cli.backends import open_random
from bigcode_cli.engine.protocol import Backend
from bigcode_cli.engine.session import Session
from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.model.config import CONFIG_NAME, GPTBigCodeConfig
from bigcode_cli.records import LoadOptions, ModelFolder, Reporter

if TYPE_CHECKING:
    import torch

    from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM

_COMMON = {
    "model_type": "gpt_bigcode",
    "vocab_size": 49152,
    "n_positions": 8192,
    "multi_query": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def _shape(width: int, layers: int, heads: int, **others: int) -> Mapping[str, object]:
    return {**_COMMON, "n_embd": width, "n_layer": layers, "n_head": heads, **others}


SHAPES = {
    "tiny_starcoder_py": _shape(768, 20, 12),
    "santacoder": _shape(2048, 24, 16, vocab_size=49280, n_positions=2048),
    "starcoderbase-1b": _shape(2048, 24, 16),
    "starcoderbase-3b": _shape(2816, 36, 22),
    "starcoderbase-7b": _shape(4096, 42, 32),
    "starcoder": _shape(6144, 40, 48),
    "granite-20b-code": _shape(6144, 52, 48),
    "granite-34b-code": _shape(6144, 88, 48),
}
"""Keys of ``config.json`` of well-known models of the family, by their names on the Hub."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured.

    Attributes:
        folder: of a model; ``None`` for a shape.
    """

    name: str
    config: GPTBigCodeConfig
    folder: ModelFolder | None = None

    @classmethod
    def of(cls, folder: ModelFolder) -> "Subject":
        """A model's folder."""
        return cls(folder.name, GPTBigCodeConfig.from_file(folder.path), folder)

    @classmethod
    def shape(cls, name: str) -> "Subject":
        """A shape by its name, or the path of a ``config.json`` or its folder.

        Raises:
            UsageError: there is neither.
            InputError: the file cannot be read.
            ModelUnsupportedError: it describes another architecture.
        """
        if name in SHAPES:
            return cls(name, GPTBigCodeConfig.from_dict(SHAPES[name]))
        path = Path(name)
        path = path / CONFIG_NAME if path.is_dir() else path
        if not path.is_file():
            raise UsageError(
                f"no such shape: {name!r}", f"name a config.json, or one of {', '.join(SHAPES)}"
            )
        return cls(str(path), GPTBigCodeConfig.from_dict(_read(path)))

    def open(self, options: LoadOptions, report: Reporter) -> tuple[Backend, Session | None]:
        """Bring it into memory; a session on it, if there is a tokenizer.

        Raises:
            ModelError: it is not to be had, or too large.
            UsageError: the device, kernel or backend asked for is not here.
        """
        if self.folder is None:
            return open_random(self.name, self.config, options, report=report), None
        session = Session.open(self.folder, options, report=report)
        return session.backend, session

    def plain_model(self, device: "torch.device", dtype: "torch.dtype") -> "GPTBigCodeForCausalLM":
        """The reference model with these very weights, none of them quantised.

        Raises:
            ModelError: it is not to be had, or too large.
        """
        if self.folder is None:
            from bigcode_cli.model.random_weights import draw_model

            return draw_model(self.config, device=device, dtype=dtype)
        from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
        from bigcode_cli.model.checkpoint import load_model

        return load_model(
            GPTBigCodeForCausalLM,
            self.folder.path,
            device=device,
            dtype=dtype,
            base=self.folder.base,
        )


def _read(path: Path) -> Mapping[str, object]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is no configuration", f"it is a model's {CONFIG_NAME}")
    return values
