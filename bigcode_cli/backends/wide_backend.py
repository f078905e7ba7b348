"""The PyTorch backend with one fused pass for many tokens: prompts, and texts that are scored."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from subprocess import CalledProcessError
from typing import Protocol, Self

import torch
from torch import Tensor

from bigcode_cli.backends.devices import free_bytes
from bigcode_cli.backends.graph_weights import pass_bytes, weights_of
from bigcode_cli.backends.likelihood import Measure
from bigcode_cli.backends.loading import Loaded
from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.engine.protocol import BackendInfo
from bigcode_cli.errors import BigcodeError
from bigcode_cli.kernels.weights import Geometry, Weights
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.records import Reporter, Silence

PASS_TOKENS = 2**14
"""Of prompts at once at most: more keep no GPU busier, and their activations take gigabytes."""

LEAST_PASS_TOKENS = 2**9
"""At once at least, however little memory is free."""

PASS_SHARE = 4
"""One part in so many of the free memory is for a pass over prompts."""


class ManyTokens(Protocol):
    """What many tokens go through at once: see ``wide_pass.WidePass``."""

    def states(self, ids: Tensor, wanted: Tensor, cache: KVCache | None = None) -> Tensor:
        """As ``TorchBackend._states``; the rows of a cache are of one length."""

    @property
    def measure(self) -> Measure:
        """What reads its logits."""


PassMaker = Callable[[Weights, torch.dtype, torch.device, str], ManyTokens]
"""Of weights, the activations' dtype, where they are, and what attention was asked for."""


def fused_pass(
    weights: Weights, dtype: torch.dtype, device: torch.device, attention: str
) -> ManyTokens:
    """Many tokens by cuBLAS's products and Triton kernels.

    Raises:
        ImportError: there is no Triton.
        RuntimeError: the model or the GPU is out of its reach.
    """
    require_kernels(weights.geometry, device)
    from bigcode_cli.backends.wide_pass import WidePass

    return WidePass(weights, dtype=dtype, attention=attention)


def require_kernels(geometry: Geometry, device: torch.device) -> tuple[int, int]:
    """The compute capability of a GPU; of a CPU, where kernels are interpreted, (0, 0).

    Raises:
        ImportError: there is no Triton.
        RuntimeError: the kernels do not know such a model, or do not run there.
    """
    from bigcode_cli.kernels.triton.ops import unsupported

    reason = unsupported(geometry)
    if reason is not None:
        raise RuntimeError(f"they do not know {reason}")
    if device.type != "cuda":
        return 0, 0
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        raise RuntimeError("they need a GPU of compute capability 8.0 or more")
    return capability


class WideBackend(TorchBackend):
    """``TorchBackend`` with the arithmetic of many tokens replaced, where Triton works.

    Where it does not, the user is told once, and the model itself serves.

    Args:
        make_pass: what many tokens go through; by default ``fused_pass`` on a GPU, and elsewhere
            the model itself.
    """

    def __init__(
        self,
        model: GPTBigCodeForCausalLM,
        info: BackendInfo,
        *,
        make_pass: PassMaker | None = None,
    ) -> None:
        super().__init__(model, info)
        self._weights = weights_of(model, info.vocab_size)
        self._report: Reporter = Silence()
        self._reasons: set[str] = set()
        self._make_pass = make_pass or (fused_pass if self._device.type == "cuda" else None)
        self._pass: ManyTokens | None = None

    @classmethod
    def of(
        cls, loaded: Loaded[GPTBigCodeForCausalLM], vocab_size: int, *, report: Reporter
    ) -> Self:
        """See ``TorchBackend.of``."""
        backend = super().of(loaded, vocab_size, report=report)
        backend._report = report
        return backend

    def _states(self, ids: Tensor, wanted: Tensor, cache: KVCache | None = None) -> Tensor:
        """See ``TorchBackend._states``."""
        many = self._many()
        if many is not None:
            try:
                with self._on_device():
                    return many.states(ids, wanted, cache)
            except (torch.OutOfMemoryError, BigcodeError):
                raise
            except Exception as error:  # whatever compilers and drivers raise
                self._go_on_without(error)
        return super()._states(ids, wanted, cache)

    def _likelihoods(self, states: Tensor, targets: Tensor, *, detail: bool = False) -> Tensor:
        """See ``likelihood.likelihoods``."""
        many = self._many()
        if many is not None:
            try:
                with self._on_device():
                    return self._measured(states, targets, many.measure, detail=detail)
            except (torch.OutOfMemoryError, BigcodeError):
                raise
            except Exception as error:  # whatever compilers and drivers raise
                self._go_on_without(error)
        return super()._likelihoods(states, targets, detail=detail)

    def _chunk(self, rows: int) -> int:
        """See ``TorchBackend._chunk``."""
        if self._many() is None:
            return super()._chunk(rows)
        tokens, free = PASS_TOKENS, free_bytes(self._device)
        if free is not None:
            each = pass_bytes(self._weights.geometry, self._dtype)
            tokens = max(LEAST_PASS_TOKENS, min(tokens, free // PASS_SHARE // each))
        return -(-tokens // rows)

    def _on_device(self) -> AbstractContextManager[object]:
        """Triton launches on the GPU that is current, wherever the tensors are."""
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()

    def _many(self) -> ManyTokens | None:
        """What many tokens go through, if it is not the model itself."""
        if self._pass is None and self._make_pass is not None:
            attention = self._model.attn_implementation
            try:
                self._pass = self._make_pass(self._weights, self._dtype, self._device, attention)
            except Exception as error:  # whatever compilers and drivers raise
                self._go_on_without(error)
        return self._pass

    def _go_on_without(self, error: Exception) -> None:
        self._pass = self._make_pass = None
        self._tell("prompts and scoring go on without Triton kernels", error)

    def _tell(self, what: str, error: Exception) -> None:
        """Say once that something does not work, however much depends on it."""
        reason = _reason(error)
        if reason not in self._reasons:
            self._reasons.add(reason)
            self._report.note(f"{what}: {reason}")


def _reason(error: Exception) -> str:
    """One line, the same for the same cause: Triton compiles in a new folder each time."""
    if isinstance(error, CalledProcessError):
        return f"{error.cmd[0]}, the C compiler, fails"
    return str(error).strip().partition("\n")[0] or type(error).__name__
