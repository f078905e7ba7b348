"""A recipe: all that a model is made from but the data and the seed, as one TOML file."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.training.objective import Objective

Storage = Literal["float32", "bfloat16", "int8"]
_Record = TypeVar("_Record")

FINE_TUNING: dict[str, Any] = {
    "training": {
        "learning_rate": 2e-4,
        "embedding_learning_rate": 2e-4,
        "tokens_per_step": 8192,
        "windows_per_pass": 2,
    },
    "export": {"storage": ["bfloat16"]},
}
"""The recipe where none is given: from weights that are good already, in steps of which a laptop
does one or two a minute, since Ctrl-C waits for the one that is under way."""


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
        warm_up: share of the training in which the rate rises; then it falls to 0, linearly.
        restarts: shares of the training at which the rate begins anew, with a warm-up of its own …
        restart_rate: … and this part of its peak.
        borders: samples of one window do not see each other, and positions begin anew with each.
        circles: windows a step and process that teach not to repeat oneself: see ``circles.py``.
        circle_weight: of their loss.
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
    restarts: tuple[float, ...] = ()
    restart_rate: float = 1.0
    borders: bool = False
    circles: int = 0
    circle_weight: float = 0.5
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
            raise UsageError(
                "training needs either a number of steps or of minutes", "--steps N or --minutes M"
            )
        if (self.steps or self.minutes or 0) <= 0:
            raise UsageError("the number of steps or minutes must be above 0")
        if min(self.tokens_per_step, self.windows_per_pass, self.log_steps) < 1:
            raise UsageError("tokens_per_step, windows_per_pass and log_steps must be at least 1")
        if not 0 <= self.warm_up < 1:
            raise UsageError("warm_up is a share from 0 to below 1")
        bounds = (0.0, *self.restarts, 1.0)
        if any(first >= second for first, second in pairwise(bounds)):
            raise UsageError("restarts are shares above 0 and below 1, in ascending order")


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
    def load(
        cls,
        path: Path | None,
        *,
        init: GPTBigCodeConfig | None = None,
        fim_rate: float | None = None,
        steps: int | None = None,
        minutes: float | None = None,
    ) -> "Recipe":
        """Read a recipe.

        Args:
            path: ``None`` is ``FINE_TUNING``.
            init: of the model to start from, for a recipe without a ``[model]``.
            fim_rate, steps, minutes: take the places of what the file says.

        Raises:
            InputError: there is no such file, or it is not TOML.
            UsageError: an unknown section or key, or a value that makes no sense.
            ModelUnsupportedError: a model that cannot be made.
        """
        sections = FINE_TUNING if path is None else _read(path)
        objective, training = dict(sections.get("objective", {})), dict(sections["training"])
        if fim_rate is not None:
            objective["fim_rate"] = fim_rate
        if steps is not None or minutes is not None:
            training |= {"steps": steps, "minutes": minutes}
        tokenizer = _record(TokenizerSettings, "tokenizer", sections.get("tokenizer", {}))
        return cls(
            model=_model(sections.get("model"), init, tokenizer),
            tokenizer=tokenizer,
            objective=_record(Objective, "objective", objective),
            training=_record(TrainingSettings, "training", training),
            export=_record(ExportSettings, "export", sections.get("export", {})),
        )


def _read(path: Path) -> dict[str, Any]:
    """The sections of a recipe, each a table."""
    try:
        sections = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the recipe {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"the recipe {path} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}") from None
    unknown = sections.keys() - {"model", "tokenizer", "objective", "training", "export"}
    if unknown:
        raise UsageError(f"{path}: unknown section [{min(unknown)}]")
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise UsageError(f"{path}: {name} must be a section, [{name}]")
    return {"training": {}, **sections}


def _model(
    section: dict[str, Any] | None, init: GPTBigCodeConfig | None, tokenizer: TokenizerSettings
) -> GPTBigCodeConfig:
    """The configuration of a section, or without one that of the model to start from."""
    if section is None and init is not None:
        return init
    if section is None:
        raise UsageError("nothing says what the model is", "give a recipe a [model], or use --init")
    return GPTBigCodeConfig.from_dict(
        {
            "model_type": "gpt_bigcode",
            "architectures": ["GPTBigCodeForCausalLM"],
            "vocab_size": tokenizer.vocab_size,
            "bos_token_id": 0,
            "eos_token_id": 0,
            **section,
        }
    )


def _record(kind: type[_Record], name: str, section: dict[str, Any]) -> _Record:
    """A section as its record."""
    values = {
        key: tuple(value) if isinstance(value, list) else value for key, value in section.items()
    }
    assert dataclasses.is_dataclass(kind)
    unknown = values.keys() - {entry.name for entry in dataclasses.fields(kind)}
    if unknown:
        raise UsageError(f"recipe: unknown key {min(unknown)!r} in [{name}]")
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"recipe: [{name}]: {error}") from None
