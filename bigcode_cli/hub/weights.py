"""The weights of a folder at the precision that they are stored in."""

from typing import TYPE_CHECKING

from bigcode_cli.records import ModelFolder, Reporter

if TYPE_CHECKING:
    from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM


def load_as_stored(folder: ModelFolder, label: str, report: Reporter) -> "GPTBigCodeForCausalLM":
    """Load a model on the CPU in the widest type of its weights: mapped, so that it needs no room.

    Those in int8 storage become float32, the type of their factors.

    Raises:
        ModelError: as for ``model.checkpoint.load_model``.
    """
    from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
    from bigcode_cli.model.checkpoint import load_model
    from bigcode_cli.model.stored import read_stored, widest_dtype

    return load_model(
        GPTBigCodeForCausalLM,
        folder.path,
        device="cpu",
        dtype=widest_dtype(read_stored(folder.path, folder.base)),
        base=folder.base,
        progress=lambda done, total: report.progress(label, done, total, "B"),
    )
