"""The arithmetic behind ``engine.protocol.Backend``, and the choice between its forms.

Importing this package costs nothing: what a backend needs is imported when it is opened.
"""

from typing import TYPE_CHECKING

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

    Args:
        vocab_size: ids that the tokenizer knows; rows of the model beyond them are never sampled.

    Raises:
        ModelError: the weights are missing, corrupt, of another architecture or too large.
        UsageError: the device, kernel or backend asked for is not here.
    """
    return _backend_class(options).open(folder, options, vocab_size=vocab_size, report=report)


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
    backend_class = _backend_class(options)
    from bigcode_cli.backends.loading import draw

    return backend_class.of(draw(name, config, options), config.vocab_size, report=report)


def open_classifier(folder: ModelFolder, options: LoadOptions, *, report: Reporter) -> Classifier:
    """Load the weights of a model with a sequence or a token head.

    Raises:
        ModelError: as ``open_backend``, or the model has no such head.
        UsageError: as ``open_backend``.
    """
    _refuse_native(options)
    from bigcode_cli.backends.torch_classifier import TorchClassifier

    return TorchClassifier.open(folder, options, report=report)


def _backend_class(options: LoadOptions) -> "type[TorchBackend]":
    """What the options choose for a causal language model."""
    _refuse_native(options)
    from bigcode_cli.backends.devices import choose_device

    on_gpu = choose_device(options.device).type == "cuda"
    # Captured steps have an attention of their own, and who asks for the plain one is to get it.
    if options.backend == "auto" and options.attention != "eager" and on_gpu:
        from bigcode_cli.backends.graph import GraphBackend

        return GraphBackend
    from bigcode_cli.backends.torch import TorchBackend

    return TorchBackend


def _refuse_native(options: LoadOptions) -> None:
    if options.backend == "native":
        raise UsageError("there is no native backend in this version", "use --backend torch")
