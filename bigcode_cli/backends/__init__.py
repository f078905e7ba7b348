"""The arithmetic behind ``engine.protocol.Backend``, and the choice between its forms.

Importing this package costs nothing: what a backend needs is imported when it is opened.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from bigcode_cli.backends.choice import tell_once, wants_native
from bigcode_cli.engine.protocol import Backend, Classifier
from bigcode_cli.errors import UsageError
from bigcode_cli.records import LoadOptions, ModelFolder, Reporter

if TYPE_CHECKING:
    from bigcode_cli.backends.torch import TorchBackend
    from bigcode_cli.model.config import GPTBigCodeConfig


def open_backend(
    folder: ModelFolder, options: LoadOptions, *, vocab_size: int, report: Reporter
) -> Backend:
    """Load a model's weights where and how the options say.

    On a CPU the native engine does it, and PyTorch what that one does not take.

    Args:
        vocab_size: ids that the tokenizer knows; rows of the model beyond them are never sampled.

    Raises:
        ModelError: the weights are missing, corrupt, of another architecture or too large.
        UsageError: the device, kernel or backend asked for is not here.
    """

    def natively() -> Backend:
        from bigcode_cli.backends.native import NativeBackend

        return NativeBackend.open(folder, options, vocab_size=vocab_size, report=report)

    if (backend := _opened(natively, folder.name, options, report)) is not None:
        return backend
    return _torch_class(options).open(folder, options, vocab_size=vocab_size, report=report)


def open_random(
    name: str, config: "GPTBigCodeConfig", options: LoadOptions, *, report: Reporter
) -> Backend:
    """A model of a shape with weights drawn at random, whose every id may be sampled.

    It stands behind the same backend as a model that ``open_backend`` loads.

    Args:
        name: of the shape, in errors.

    Raises:
        ModelTooLargeError: the weights would not fit.
        UsageError: the device, kernel or backend asked for is not here.
    """

    def natively() -> Backend:
        from bigcode_cli.backends.loading import draw
        from bigcode_cli.backends.native import NativeBackend
        from bigcode_cli.backends.native_weights import check_config

        check_config(config)
        drawn = draw(name, config, replace(options, device="cpu"))
        return NativeBackend.of(drawn, config.vocab_size, report=report)

    if (backend := _opened(natively, name, options, report)) is not None:
        return backend
    backend_class = _torch_class(options)
    from bigcode_cli.backends.loading import draw

    return backend_class.of(draw(name, config, options), config.vocab_size, report=report)


def open_classifier(folder: ModelFolder, options: LoadOptions, *, report: Reporter) -> Classifier:
    """Load the weights of a model with a sequence or a token head.

    Raises:
        ModelError: as ``open_backend``, or the model has no such head.
        UsageError: as ``open_backend``.
    """
    if options.backend == "native":
        raise UsageError("there is no native backend for classifiers", "use --backend torch")
    from bigcode_cli.backends.torch_classifier import TorchClassifier

    return TorchClassifier.open(folder, options, report=report)


def _opened(
    natively: Callable[[], Backend], name: str, options: LoadOptions, report: Reporter
) -> Backend | None:
    """What the native engine opens; ``None`` where that is PyTorch's to do.

    Raises:
        UsageError: it was asked for, and cannot do it.
    """
    if not wants_native(options, report):
        return None
    from bigcode_cli.backends.native_weights import NativeUnsupportedError

    try:
        return natively()
    except NativeUnsupportedError as error:
        if options.backend == "native":
            raise
        tell_once(report, f"{name} runs in PyTorch, which is slower: {error.message}")
        return None


def _torch_class(options: LoadOptions) -> "type[TorchBackend]":
    """What the options choose for a causal language model, the native engine left aside."""
    from bigcode_cli.backends.devices import choose_device

    on_gpu = choose_device(options.device).type == "cuda"
    # Captured steps have an attention of their own, and who asks for the plain one is to get it.
    if options.backend == "auto" and options.attention != "eager" and on_gpu:
        from bigcode_cli.backends.graph import GraphBackend

        return GraphBackend
    from bigcode_cli.backends.torch import TorchBackend

    return TorchBackend
