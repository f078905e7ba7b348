"""Which model, how it is brought into memory, and how work on it is told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from bigcode_cli.errors import BigcodeError, UsageError

Dtype = Literal["auto", "float32", "float16", "bfloat16"]
Quantize = Literal["none", "int8", "int4"]
BackendName = Literal["auto", "torch", "native"]
Attention = Literal["auto", "eager", "sdpa", "flash"]


class Reporter(Protocol):
    """Where a room tells the user what it is doing. The command line writes it to stderr."""

    def note(self, text: str) -> None:
        """One line worth knowing."""

    def progress(self, label: str, done: int, total: int | None, unit: str) -> None:
        """``done`` of ``total`` units (``"B"``, ``"tokens"`` …); ``done == total`` ends it."""


class Silence:
    """A reporter that tells nothing: for ``--quiet``, libraries and tests."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def progress(self, label: str, done: int, total: int | None, unit: str) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A model name resolved to a verified local folder.

    Attributes:
        base: where the folder holds only what differs from another, that other's folder: of the
            tensors that are missing, and of the tokenizer.
    """

    name: str
    path: Path
    revision: str | None = None
    licence: str | None = None
    base: Path | None = None

    @property
    def tokenizer_path(self) -> Path:
        """The folder that holds the tokenizer."""
        return self.path if self.base is None else self.base


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a model is brought into memory.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: of weights and activations; ``auto`` is bfloat16 on GPUs that have it, else
            float16; float32 on CPUs. The native engine computes in float32 and takes the weights
            as they are stored.
        threads: CPU threads; ``None`` leaves the library's choice.
    """

    device: str = "auto"
    dtype: Dtype = "auto"
    quantize: Quantize = "none"
    backend: BackendName = "auto"
    attention: Attention = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        kind, _, index = self.device.partition(":")
        known = kind in {"auto", "cpu", "cuda", "mps"}
        if not known or (":" in self.device and (kind != "cuda" or not index.isdecimal())):
            raise UsageError(
                f"unknown device {self.device!r}", "use auto, cpu, cuda, cuda:N or mps"
            )
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads must be at least 1, not {self.threads}")


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that came to nothing; the others go on.

    Attributes:
        request: its position among those handed in.
    """

    request: int
    id: str | None
    error: BigcodeError
