"""What all model classes share: where weights come from and go to, and where they run."""

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, Unpack, cast

import torch
from torch import nn

from bigcode_cli.errors import BigcodeWarning, UsageError
from bigcode_cli.model.arguments import ConfigArguments
from bigcode_cli.model.attention import check_implementation
from bigcode_cli.model.checkpoint import LoadProgress, load_model, save_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.embeddings import resize_rows, rows_asked
from bigcode_cli.model.locate import locate
from bigcode_cli.model.sizes import parse_size
from bigcode_cli.model.stored import FLOATS
from bigcode_cli.records import Quantize

if TYPE_CHECKING:
    from bigcode_cli.model.gpt_bigcode import GPTBigCodeModel


class GPTBigCodePreTrainedModel(nn.Module):
    """A model of the family: the decoder itself, or the decoder under a head.

    Raises:
        UsageError: there is no such attention.
    """

    def __init__(self, config: GPTBigCodeConfig, attn_implementation: str = "auto") -> None:
        super().__init__()
        check_implementation(attn_implementation)
        self._config = config
        self._attn_implementation = attn_implementation
        self._warned: set[str] = set()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        config: GPTBigCodeConfig | None = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str = "cpu",
        attn_implementation: str = "auto",
        quantize: Quantize = "none",
        revision: str | None = None,
        local_files_only: bool = False,
        progress: LoadProgress | None = None,
        **changes: Unpack[ConfigArguments],
    ) -> Self:
        """Load a model, in evaluation mode; of whichever class of the family it was saved.

        The weights of a classifier's head that are not there are drawn anew, with a warning that
        names them: an LM checkpoint becomes a classifier to be trained. Those of another head are
        left out, with a warning too unless it is ``lm_head``. Where the rows of ``wte`` disagree
        with ``vocab_size``, or an ``lm_head`` of its own is stored, the tensors are right: see the
        loaded model's ``config``.

        Args:
            name: a built-in model, a folder, or a Hub id ``owner/name``.
            config: in the place of the model's own.
            dtype: of the weights and activations: a ``torch.dtype``, ``float32`` (the default),
                ``float16``, ``bfloat16``, or ``auto`` for the one that the configuration names,
                else the widest that is stored.
            device: where the weights go.
            attn_implementation: ``auto``, ``eager``, ``sdpa`` or ``flash_attention_2``.
            quantize: ``int8`` or ``int4`` keep the matrices of the layers so, and the token
                embedding in int8; such a model can neither be trained nor saved.
            revision: branch, tag or commit of a model on the Hub.
            local_files_only: never use the network.
            progress: called with (bytes done, bytes in all) after each tensor.
            changes: values to take instead of the configuration's, such as ``num_labels``,
                ``id2label`` or ``attn_pdrop``; ``GPTBigCodeConfig.with_changes``.

        Raises:
            ModelError: one of its leaves: the model is not to be had, is missing a file or a
                tensor, is corrupt, of another architecture or shape, or too large.
            UsageError: an argument that makes no sense, or flash attention that cannot work here.
            TypeError: a change to a field that there is not.
        """
        wanted = _dtype(dtype)
        folder = locate(name, revision=revision, local_files_only=local_files_only)
        if config is not None or changes:
            own = GPTBigCodeConfig.from_file(folder) if config is None else config
            config = own.with_changes(**changes)
        return load_model(
            cls,
            folder,
            device=device,
            dtype=wanted,
            config=config,
            quantize=quantize,
            attn_implementation=attn_implementation,
            progress=progress,
        )

    def save_pretrained(self, folder: str | Path, *, max_shard_size: int | str = "5GB") -> None:
        """Write ``config.json`` and the weights, in their dtype, as safetensors.

        transformers loads the folder as it is. A full disk leaves nothing half-written behind.

        Args:
            folder: made if it is not there; what it holds of a model is replaced.
            max_shard_size: of one file, in bytes or such as ``200MB``; a single tensor may be
                larger. Beyond it there are several files and an index.

        Raises:
            OutputError: the folder cannot be written to.
            UsageError: the model is quantised, or neither float32, float16 nor bfloat16; a size
                that is none.
        """
        for storage in ("float32", "float16", "bfloat16"):
            if FLOATS[storage] == self.dtype:
                size = parse_size(max_shard_size)
                save_model(self, self.config, Path(folder), storage, size)
                return
        raise UsageError(f"a model in {self.dtype} cannot be saved", "convert it, as by .float()")

    @property
    def base_model(self) -> "GPTBigCodeModel":
        """The decoder: this model itself, or what its head stands on."""
        return cast("GPTBigCodeModel", getattr(self, "transformer", self))

    @property
    def config(self) -> GPTBigCodeConfig:
        """What the model was made from: one for the decoder and the head on it."""
        return self.base_model._config

    @config.setter
    def config(self, config: GPTBigCodeConfig) -> None:
        self.base_model._config = config

    @property
    def attn_implementation(self) -> str:
        """``auto``, ``eager``, ``sdpa`` or ``flash_attention_2``."""
        return self.base_model._attn_implementation

    @attn_implementation.setter
    def attn_implementation(self, name: str) -> None:
        self.set_attn_implementation(name)

    def set_attn_implementation(self, attn_implementation: str) -> None:
        """Attend in another way from the next pass on.

        Args:
            attn_implementation: ``auto``, ``eager``, ``sdpa`` or ``flash_attention_2``; whether the
                last can work where the weights are shows itself in ``forward``.

        Raises:
            UsageError: there is no such attention.
        """
        check_implementation(attn_implementation)
        self.base_model._attn_implementation = attn_implementation

    @property
    def dtype(self) -> torch.dtype:
        """Of the activations, and of all weights that are not quantised."""
        return self.base_model.ln_f.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.base_model.ln_f.weight.device

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """How many numbers the parameters hold, tied ones counted once.

        The codes of a quantised matrix are no parameters and are left out.

        Args:
            only_trainable: leave out those that are frozen.
            exclude_embeddings: leave out the embeddings of tokens and positions, and with them a
                tied ``lm_head``.
        """
        left_out: set[int] = set()
        if exclude_embeddings:
            modules = [module for module in self.modules() if isinstance(module, nn.Embedding)]
            left_out = {id(module.weight) for module in modules}
        return sum(
            parameter.numel()
            for parameter in self.parameters()
            if id(parameter) not in left_out and (parameter.requires_grad or not only_trainable)
        )

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of tokens: ``nn.Embedding``, unless it is quantised."""
        return self.base_model.wte

    def set_input_embeddings(self, embeddings: nn.Embedding) -> None:
        """Embed tokens by this from now on; a tied ``lm_head`` follows by ``tie_weights``.

        Raises:
            UsageError: its rows are not ``n_embd`` wide.
        """
        self._check_width(embeddings.weight)
        self.base_model.set_submodule("wte", embeddings)
        self.config = self.config.with_changes(vocab_size=embeddings.weight.shape[0])

    def get_output_embeddings(self) -> nn.Module | None:
        """The ``lm_head`` of a causal language model, ``None`` of any other."""
        head = getattr(self, "lm_head", None)
        assert head is None or isinstance(head, nn.Module)
        return head

    def set_output_embeddings(self, embeddings: nn.Linear) -> None:
        """Make this the ``lm_head`` of a causal language model.

        Raises:
            UsageError: it is another model, or the weight is not ``n_embd`` wide.
        """
        if self.get_output_embeddings() is None:
            raise UsageError(f"{type(self).__name__} has no output embeddings")
        self._check_width(embeddings.weight)
        self.lm_head = embeddings

    def _check_width(self, weight: torch.Tensor) -> None:
        width = self.config.n_embd
        if weight.dim() != 2 or weight.shape[1] != width:
            raise UsageError(f"embeddings are {width} wide here, not {tuple(weight.shape)}")

    def tie_weights(self) -> None:
        """Make ``lm_head`` share the weight of ``wte``, if the configuration says so.

        Those of a quantised model are shared as they were loaded.
        """
        embedding, head = self.get_input_embeddings(), self.get_output_embeddings()
        if not isinstance(embedding, nn.Embedding) or not isinstance(head, nn.Linear):
            return
        if self.config.tie_word_embeddings:
            head.weight = embedding.weight
            head.out_features = embedding.num_embeddings

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Module:
        """Give the model another number of tokens; ``lm_head`` and ``config`` follow.

        The matrices stay the same parameters with other rows, so an optimiser must be made anew.

        Args:
            new_num_tokens: rows of ``wte``: new ones follow the last, or the last ones go. By
                default as many as there are.
            pad_to_multiple_of: round that up to a multiple.
            mean_resizing: draw new rows around the mean of the old ones, so that new tokens hardly
                change the probabilities of the others (``embeddings.like_mean``); if false, around
                zero with standard deviation ``initializer_range``.

        Returns:
            ``wte``; untouched if nothing was asked for.

        Raises:
            UsageError: the model is quantised, or a number is none from 1.
            ModelUnsupportedError: more tokens than a configuration may have.
        """
        embedding, head = self.get_input_embeddings(), self.get_output_embeddings()
        if not isinstance(embedding, nn.Embedding):
            raise UsageError("a quantised model keeps its tokens", "load it with quantize='none'")
        rows = rows_asked(embedding.weight.shape[0], new_num_tokens, pad_to_multiple_of)
        self.config = self.config.with_changes(vocab_size=rows)
        deviation = None if mean_resizing else self.config.initializer_range
        resize_rows(embedding.weight, rows, deviation=deviation)
        embedding.num_embeddings = rows
        if isinstance(head, nn.Linear):
            resize_rows(head.weight, rows, deviation=deviation)  # a tied one has them already
            head.out_features = rows
        return embedding

    def gradient_checkpointing_enable(self) -> None:
        """Keep only what enters each layer and compute the rest anew in the backward pass.

        It acts in training, where no cache is kept then (Chen et al. 2016, "Training deep nets
        with sublinear memory cost").
        """
        self.base_model.gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        """Keep all activations for the backward pass."""
        self.base_model.gradient_checkpointing = False

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether layers are computed anew in the backward pass of training."""
        return self.base_model.gradient_checkpointing

    def initialise(self) -> None:
        """Draw all weights anew, as the family's training code does: see ``draw``."""
        self.draw(self)

    def draw(self, part: nn.Module) -> None:
        """Draw the weights of a part of the model, unless it has no memory yet.

        Normal with standard deviation ``initializer_range``; projections back into the residual
        stream by ``1 / sqrt(2 * n_layer)`` narrower (Radford et al. 2019); zero biases; norms that
        change nothing.
        """
        deviation = self.config.initializer_range
        narrow = deviation / math.sqrt(2 * self.config.n_layer)
        for name, module in part.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding) and not module.weight.is_meta:
                is_residual = name.endswith(".c_proj")
                nn.init.normal_(module.weight, std=narrow if is_residual else deviation)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def warn_once(self, message: str) -> None:
        """Warn, the first time that this model has this to say."""
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, BigcodeWarning, stacklevel=2)


def _dtype(asked: torch.dtype | str | None) -> torch.dtype | Literal["auto"]:
    """The dtype that an argument means.

    Raises:
        UsageError: it means none.
    """
    if asked is None:
        return torch.float32
    if asked == "auto":
        return "auto"
    dtype = FLOATS.get(asked) if isinstance(asked, str) else asked
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise UsageError(f"no dtype of weights: {asked!r}", f"try auto, {', '.join(FLOATS)}")
    return dtype
