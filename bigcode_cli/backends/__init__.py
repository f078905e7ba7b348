"""The arithmetic behind ``engine.protocol.Backend``, and the choice between its forms.

Importing this package costs nothing: what a backend needs is imported when it is opened.
"""

from bigcode_cli.engine.protocol import Backend
from bigcode_cli.errors import UsageError
from bigcode_cli.records import LoadOptions, ModelFolder, Reporter


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
    if options.backend == "native":
        raise UsageError("there is no native backend in this version", "use --backend torch")
    from bigcode_cli.backends.torch import TorchBackend

    return TorchBackend.open(folder, options, vocab_size=vocab_size, report=report)
