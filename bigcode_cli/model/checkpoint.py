"""A model folder into memory and back: mapped, checked, converted one tensor at a time.

The model is built on the meta device, without memory, and each of its tensors is put in place as
it is read: a tensor that needs no conversion stays mapped from its file, any other is converted and
its mapping given back, so that the weights are never in memory twice; int4 reads them again, a
layer at a time, to correct the biases. Nothing in a folder is trusted: no pickle runs code, no
name leads out of the folder, and every number is finite.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from bigcode_cli.errors import (
    ModelTooLargeError,
    OutputError,
    UsageError,
)
from bigcode_cli.model.attention import require_flash
from bigcode_cli.model.bias_correction import correct_biases
from bigcode_cli.model.checks import check_names, check_shapes
from bigcode_cli.model.config import BASE_KEY, CONFIG_NAME, GPTBigCodeConfig
from bigcode_cli.model.files import write_json
from bigcode_cli.model.names import HEADS, LM_HEAD, PREFIX, WTE
from bigcode_cli.model.reader import Reader
from bigcode_cli.model.shards import PART, STORED_AS, Storage, write_weights
from bigcode_cli.model.stored import Stored, dtype_meant, read_stored
from bigcode_cli.records import Quantize

if TYPE_CHECKING:
    from bigcode_cli.model.pretrained import GPTBigCodePreTrainedModel

Model = TypeVar("Model", bound="GPTBigCodePreTrainedModel")

LoadProgress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) after each tensor."""

_CLASSES = {
    "score.weight": "GPTBigCodeForSequenceClassification",
    "classifier.weight": "GPTBigCodeForTokenClassification",
    WTE.removeprefix(PREFIX): "GPTBigCodeModel",
}
_CAUSAL_LM = "GPTBigCodeForCausalLM"


def load_model(
    model_class: type[Model],
    folder: Path,
    *,
    device: torch.device | str,
    dtype: torch.dtype | Literal["auto"],
    base: Path | None = None,
    config: GPTBigCodeConfig | None = None,
    quantize: Quantize = "none",
    attn_implementation: str = "auto",
    progress: LoadProgress | None = None,
) -> Model:
    """Load the model in ``folder``, in evaluation mode.

    A folder of any class of the family will do for any other. The weights of a classifier's head
    that are not there are drawn anew, and those of another head are left out, with a warning that
    names them; an ``lm_head`` is left out in silence.

    Where the rows of ``wte`` disagree with the configuration's ``vocab_size``, or an ``lm_head``
    of its own is stored, the tensors are right: see the loaded model's ``config``.

    Args:
        model_class: one of the four classes.
        dtype: of the activations, and of all weights that are not quantised; ``auto`` for what the
            configuration names, else the widest that is stored.
        base: a folder of tensors that this one does not hold (``save_difference``).
        config: in the place of the folder's own.
        progress: called after each tensor.

    Raises:
        ModelIncompleteError: a file or a tensor is missing.
        ModelCorruptError: a file is malformed, or a tensor holds NaN or infinity or has a wrong
            shape.
        ModelUnsupportedError: another architecture, tensors that GPTBigCode does not have, a shape
            other than ``config`` asks for, or weights beyond the range of ``dtype``.
        ModelTooLargeError: the device has no memory for the weights.
        UsageError: ``quantize`` or ``attn_implementation`` is unknown or cannot work on this
            device.
    """
    if quantize not in get_args(Quantize):
        raise UsageError(f"unknown quantisation {quantize!r}", "try none, int8 or int4")
    device = torch.device(device)
    stored = read_stored(folder, base)
    own = GPTBigCodeConfig.from_file(folder) if config is None else config
    fitting = _fit_config(own, stored)
    dtype = dtype_meant(fitting, stored) if dtype == "auto" else dtype
    if attn_implementation == "flash_attention_2":
        require_flash(device, dtype, fitting.head_dim)
    with torch.device("meta"):
        model = model_class(fitting, attn_implementation)
        root = nn.ModuleDict({"transformer": model}) if model.base_model is model else model
    shapes = {name: tuple(parameter.shape) for name, parameter in root.named_parameters()}
    drawn = _absent_head(shapes, stored)
    check_names(folder, shapes, stored, drawn, is_difference=base is None and BASE_KEY in own.extra)
    check_shapes(folder, shapes, stored, drawn, is_own=config is None)
    is_tied = fitting.tie_word_embeddings and hasattr(model, "lm_head")
    reader = Reader(root, stored, is_tied, device, dtype, quantize)
    _read(reader, [name for name in stored if name in shapes], progress)
    for name in drawn:
        reader.make(name)
    if drawn:
        model.draw(root.get_submodule(drawn[0].rpartition(".")[0]))
    _tell(model, folder, drawn, [name for name in stored if name in HEADS and name not in shapes])
    model.eval()
    if quantize == "int4":
        with _memory(device):
            correct_biases(model.base_model, reader)
    return model


def _tell(
    model: "GPTBigCodePreTrainedModel", folder: Path, drawn: list[str], left_out: list[str]
) -> None:
    """Warn, once, of a head whose weights are no trained ones, and of one that went unused.

    An ``lm_head`` is left out in silence: every classifier begins as a language model.
    """
    told = []
    if drawn:
        told.append(f"has no {' and no '.join(drawn)}, drawn anew and still to be trained")
    if unused := [name for name in left_out if name != LM_HEAD]:
        told.append(f"has {' and '.join(unused)}, left out of a {type(model).__name__}")
    if told:
        model.warn_once(f"{folder} {'; it '.join(told)}")


def _read(reader: Reader, names: list[str], progress: LoadProgress | None) -> None:
    total, done = sum(reader.stored[name].size for name in names), 0
    for name in names:
        with _memory(reader.device):
            reader.load(name)
        done += reader.stored[name].size
        if progress is not None:
            progress(done, total)


@contextmanager
def _memory(device: torch.device) -> Iterator[None]:
    """Name what there was no memory for."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ModelTooLargeError(
            f"{device} has no memory left for the weights", "try --quantize int8"
        ) from error


def _fit_config(config: GPTBigCodeConfig, stored: Mapping[str, Stored]) -> GPTBigCodeConfig:
    """Trust the tensors: vocabulary rows, and whether ``lm_head`` is the embedding itself."""
    if WTE in stored and len(stored[WTE].shape) == 2:
        config = config.with_changes(vocab_size=stored[WTE].shape[0])
        if LM_HEAD in stored:
            head, embedding = stored[LM_HEAD], stored[WTE]
            tied = _same(head.read(), embedding.read())
            config = config.with_changes(tie_word_embeddings=tied)
    return config


def _same(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(first, second)


def _absent_head(shapes: Mapping[str, tuple[int, ...]], stored: Mapping[str, Stored]) -> list[str]:
    """The weights of a classifier's head, if the folder has none of them."""
    head = [name for name in shapes if name in HEADS and name != LM_HEAD]
    return [] if any(name in stored for name in head) else head


def save_model(
    model: nn.Module | Mapping[str, Tensor],
    config: GPTBigCodeConfig,
    folder: Path,
    storage: Storage = "bfloat16",
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write ``config.json`` and the weights into ``folder``, which is made if it is not there.

    Apart from ``int8`` storage, transformers loads the folder as it is. Every file is written under
    another name first, so that a full disk leaves nothing half-written behind.

    Args:
        model: a model of the four classes or its state dict, not quantised; an ``lm_head`` equal
            to the token embedding is left out and the configuration says that it is tied.
        storage: ``int8`` keeps each matrix as int8 with a float32 factor for each output row
            beside it, under the matrix's name and ``_scale``, and all else in bfloat16.
        max_shard_bytes: of one file; a single tensor may be larger.

    Raises:
        OutputError: the folder cannot be written to.
        UsageError: the model is quantised, or is none of the four classes.
    """
    state = dict(model.state_dict() if isinstance(model, nn.Module) else model)
    if any(not tensor.is_floating_point() for tensor in state.values()):
        raise UsageError("a quantised model cannot be saved", "load it without --quantize")
    class_name = next((_CLASSES[name] for name in state if name in _CLASSES), _CAUSAL_LM)
    embedding = state.get(WTE, state.get(WTE.removeprefix(PREFIX)))
    if embedding is None:
        raise UsageError("these weights are of no GPTBigCode model: they have no wte")
    config = config.with_changes(vocab_size=embedding.shape[0])
    if class_name == _CAUSAL_LM:
        head = state.get(LM_HEAD)
        tied = head is None or _same(head, embedding)
        if tied:
            state.pop(LM_HEAD, None)
        config = config.with_changes(tie_word_embeddings=tied)
    _save(state, config, class_name, folder, storage, max_shard_bytes)


def save_difference(
    state: Mapping[str, Tensor],
    config: GPTBigCodeConfig,
    class_name: str,
    folder: Path,
    storage: Storage = "float32",
) -> None:
    """Write a configuration, and those tensors alone that differ from another model's.

    ``load_model`` takes the folder of the other one as its ``base``.

    Args:
        state: whole tensors, and the factors of changes to others (``model.low_rank``).
        class_name: of the model that both make together.

    Raises:
        OutputError: the folder cannot be written to.
    """
    _save(state, config, class_name, folder, storage, 5_000_000_000)


def _save(
    state: Mapping[str, Tensor],
    config: GPTBigCodeConfig,
    class_name: str,
    folder: Path,
    storage: Storage,
    max_shard_bytes: int,
) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(state, folder, storage, max_shard_bytes)
        write_json(folder / CONFIG_NAME, _description(config, class_name, storage))
    except (OSError, SafetensorError) as error:
        for part in folder.glob(f"*{PART}"):
            part.unlink(missing_ok=True)
        raise OutputError(f"the model cannot be written to {folder}: {error}") from error


def _description(config: GPTBigCodeConfig, class_name: str, storage: Storage) -> dict[str, object]:
    """What ``config.json`` is to hold."""
    kept = config.to_dict()
    # Newer versions of transformers write ``dtype`` and read both; older ones read this alone.
    kept.pop("dtype", None)
    dtype = str(STORED_AS[storage]).removeprefix("torch.")
    return kept | {"architectures": [class_name], "torch_dtype": dtype}
