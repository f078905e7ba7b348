"""A recipe: all that a model is made from but the data, the seed and the time, as one TOML file."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.training.objective import Objective

Storage = Literal["float32", "bfloat16", "int8"]
_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerSettings:
    """How the tokenizer is trained: see ``bpe.train_tokenizer``."""

    vocab_size: int = 16384
    sample_megabytes: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How the model is trained.

    Attributes:
        optimizer: of the matrices within layers; the other weights are AdamW's.
        learning_rate: at its peak.
        embedding_learning_rate: of embeddings, norms and biases.
        warm_up: share of the whole training in which the rate rises; then it falls to 0, linearly.
        tokens_per_step: inputs of one optimizer step.
        windows_per_pass: windows that go through the model at once.
        clip: largest norm of all gradients together.
        steps: how long to train …
        minutes: … or how long by the clock, compilation and validation left out.
        log_steps: between two lines of the log.
        checkpoint_minutes: between two checkpoints.
        validate_minutes: between two looks at held-out files.
    """

    optimizer: Literal["muon", "adamw"] = "muon"
    learning_rate: float = 2e-3
    embedding_learning_rate: float = 2e-3
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    warm_up: float = 0.02
    clip: float = 1.0
    tokens_per_step: int = 262144
    windows_per_pass: int = 32
    steps: int | None = None
    minutes: float | None = None
    log_steps: int = 10
    checkpoint_minutes: float = 4.0
    validate_minutes: float = 4.0

    def __post_init__(self) -> None:
        if self.optimizer not in {"muon", "adamw"}:
            raise UsageError(f"unknown optimizer {self.optimizer!r}", "use muon or adamw")
        if (self.steps is None) == (self.minutes is None):
            raise UsageError("training needs either a number of steps or of minutes")
        if (self.steps or self.minutes or 0) <= 0:
            raise UsageError("the number of steps or minutes must be above 0")
        if min(self.tokens_per_step, self.windows_per_pass, self.log_steps) < 1:
            raise UsageError("tokens_per_step, windows_per_pass and log_steps must be at least 1")
        if not 0 <= self.warm_up < 1:
            raise UsageError("warm_up is a share from 0 to below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """How the finished model is stored: a folder for each storage, in shards."""

    storage: tuple[Storage, ...] = ("int8",)
    shard_mebibytes: int = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The sections of a recipe."""

    model: GPTBigCodeConfig
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    objective: Objective = field(default_factory=Objective)
    training: TrainingSettings
    export: ExportSettings = field(default_factory=ExportSettings)

    @classmethod
    def load(cls, path: Path, **training: float | None) -> "Recipe":
        """Read a recipe; keyword arguments that are not ``None`` override its ``[training]``.

        Raises:
            InputError: there is no such file, or it is not TOML.
            UsageError: an unknown section or key, or a value that makes no sense.
            ModelUnsupportedError: a model that cannot be made.
        """
        try:
            sections = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the recipe {path}: {error}") from None
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{path} is not TOML: {error}") from None
        unknown = sections.keys() - {"model", "tokenizer", "objective", "training", "export"}
        if unknown:
            raise UsageError(f"{path}: unknown section [{min(unknown)}]")
        tokenizer = _record(TokenizerSettings, "tokenizer", sections)
        given = {name: value for name, value in training.items() if value is not None}
        planned = dict(sections.get("training", {}))
        if given.keys() & {"steps", "minutes"}:
            planned = {k: v for k, v in planned.items() if k not in {"steps", "minutes"}}
        model = {
            "model_type": "gpt_bigcode",
            "architectures": ["GPTBigCodeForCausalLM"],
            "vocab_size": tokenizer.vocab_size,
            "bos_token_id": 0,
            "eos_token_id": 0,
            **sections.get("model", {}),
        }
        export = dict(sections.get("export", {}))
        if "storage" in export:
            export["storage"] = tuple(export["storage"])
        return cls(
            model=GPTBigCodeConfig.from_dict(model),
            tokenizer=tokenizer,
            objective=_record(Objective, "objective", sections),
            training=_record(TrainingSettings, "training", {"training": {**planned, **given}}),
            export=_record(ExportSettings, "export", {"export": export}),
        )


def _record(kind: type[_Record], name: str, sections: dict[str, Any]) -> _Record:
    """A section as its record."""
    values = sections.get(name, {})
    assert dataclasses.is_dataclass(kind)
    unknown = values.keys() - {entry.name for entry in dataclasses.fields(kind)}
    if unknown:
        raise UsageError(f"recipe: unknown key {min(unknown)!r} in [{name}]")
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"recipe: [{name}]: {error}") from None
