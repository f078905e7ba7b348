"""The PyTorch backend of models with a head that classifies."""

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from bigcode_cli.backends.loading import Loaded, load
from bigcode_cli.backends.reading import Reading
from bigcode_cli.backends.torch import BATCH_TOKENS
from bigcode_cli.engine.protocol import (
    Activation,
    ClassifierInfo,
    HeadKind,
    Passage,
)
from bigcode_cli.errors import (
    ModelCorruptError,
    ModelIncompleteError,
    ModelTooLargeError,
    ModelUnsupportedError,
    UsageError,
)
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.heads import (
    GPTBigCodeForSequenceClassification,
    GPTBigCodeForTokenClassification,
)
from bigcode_cli.model.stored import read_stored
from bigcode_cli.records import LoadOptions, ModelFolder, Reporter

Model = GPTBigCodeForSequenceClassification | GPTBigCodeForTokenClassification

CLASSES: dict[HeadKind, type[Model]] = {
    "sequence": GPTBigCodeForSequenceClassification,
    "token": GPTBigCodeForTokenClassification,
}
WEIGHTS: dict[HeadKind, str] = {"sequence": "score.weight", "token": "classifier.weight"}
"""What a checkpoint holds if it has such a head."""

_ACTIVATIONS: dict[str | None, Activation] = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "none",
}


class TorchClassifier:
    """One model in PyTorch, behind ``engine.protocol.Classifier``."""

    def __init__(self, model: Model, info: ClassifierInfo) -> None:
        self.info = info
        self._times = Reading.of(model.config).times
        self._model = model.eval()
        self._device = model.transformer.ln_f.weight.device

    @classmethod
    def open(
        cls, folder: ModelFolder, options: LoadOptions, *, report: Reporter
    ) -> "TorchClassifier":
        """Load a folder's weights.

        Raises:
            ModelError: the weights are missing, corrupt, of another architecture or too large, or
                there is no head that classifies among them.
            UsageError: the device or the attention kernel asked for is not here.
        """
        config = GPTBigCodeConfig.from_file(folder.path)
        kind = head_kind(folder, config)
        reading = Reading.of(config)
        loaded: Loaded[Model] = load(CLASSES[kind], folder, options, report)
        info = ClassifierInfo(
            name="torch",
            device=str(loaded.device),
            dtype=loaded.dtype,
            weights=loaded.weights,
            kind=kind,
            labels=tuple(config.id2label.values()),
            activation=activation(kind, config),
            n_positions=reading.room,
            context=reading.context,
            change_costs=reading.change_costs,
            batch_tokens=max(1, BATCH_TOKENS[loaded.device.type] // reading.times),
            vocab_size=loaded.model.config.vocab_size,
            weight_bytes=loaded.weight_bytes,
        )
        return cls(loaded.model, info)

    @torch.inference_mode()
    def logits(self, passages: Sequence[Passage]) -> list[list[float]]:
        """See ``engine.protocol.Classifier.logits``."""
        self._check(passages, "sequence")
        logits, _ = self._run(passages)
        return _finite(logits).tolist()

    @torch.inference_mode()
    def token_scores(self, passages: Sequence[Passage]) -> "list[array[float]]":
        """See ``engine.protocol.Classifier.token_scores``."""
        self._check(passages, "token")
        logits, real = self._run(passages)
        _finite(logits.amax(-1)[real])
        scores = logits.log_softmax(-1).cpu()
        found = []
        for row, passage in enumerate(passages):
            before = (self._times - 1) * len(passage.ids)
            counted = scores[row, before + passage.counted : before + len(passage.ids)]
            found.append(array("f", counted.flatten().tolist()))
        return found

    def _run(self, passages: Sequence[Passage]) -> tuple[Tensor, Tensor]:
        """One pass over all, each as often as the model is to read it, padded on the right.

        Returns:
            float32 logits ``(rows, labels)`` or ``(rows, longest, labels)``, and which tokens are
            no padding: bool ``(rows, longest)``.
        """
        texts = [passage.ids * self._times for passage in passages]
        longest = max(map(len, texts))
        ids = torch.zeros(len(passages), longest, dtype=torch.int64)
        real = torch.zeros(len(passages), longest, dtype=torch.bool)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
            real[row, : len(text)] = True
        ids, real = ids.to(self._device), real.to(self._device)
        # Where nothing is padding, attention is faster without a mask; but a sequence head is told
        # by it where rows end.
        is_even = len({len(text) for text in texts}) == 1
        tells = self.info.kind == "sequence" and len(passages) > 1
        mask = None if is_even and not tells else real
        try:
            output = self._model(ids, attention_mask=mask, use_cache=False)
        except torch.OutOfMemoryError as error:
            raise ModelTooLargeError(
                f"no memory for {len(passages)} x {longest} tokens", "use a smaller --context"
            ) from error
        return output.logits.float(), real

    def _check(self, passages: Sequence[Passage], kind: HeadKind) -> None:
        """Refuse what the device would fail at.

        Raises:
            UsageError, ModelCorruptError: see ``engine.protocol.Classifier.logits``.
        """
        if self.info.kind != kind:
            raise UsageError(f"the model has a {self.info.kind} head, not a {kind} head")
        known, room = self.info.vocab_size, self.info.n_positions
        for passage in passages:
            if not 0 < len(passage.ids) <= room:
                raise UsageError(f"{len(passage.ids)} tokens where the model takes 1 to {room}")
            if max(passage.ids) >= known:
                raise ModelCorruptError(
                    f"the tokenizer knows the id {max(passage.ids)}, the model {known} tokens"
                )


def head_kind(folder: ModelFolder, config: GPTBigCodeConfig) -> HeadKind:
    """Which head a model has: as ``architectures`` in its configuration says, else by its tensors.

    Raises:
        ModelUnsupportedError: none that classifies, or both and no word on which is meant.
        ModelIncompleteError: one that the weights lack.
        ModelCorruptError: the weights cannot be read.
    """
    stored = read_stored(folder.path, folder.base)
    names = config.extra.get("architectures")
    names = names if isinstance(names, list) else []
    named = [kind for kind, model_class in CLASSES.items() if model_class.__name__ in names]
    held = [kind for kind, weight in WEIGHTS.items() if weight in stored]
    if len(named) == 1:
        if named[0] not in held:
            raise ModelIncompleteError(
                f"{folder.name}: {WEIGHTS[named[0]]} missing from the weights",
                "the head is to be trained first, or its weights lie in another folder",
            )
        return named[0]
    if len(held) == 1:
        return held[0]
    if held:
        raise ModelUnsupportedError(
            f"{folder.name} has a sequence and a token head",
            'name the class of one in "architectures" of its config.json',
        )
    raise ModelUnsupportedError(
        f"{folder.name} has no head that classifies",
        f"name a model whose weights hold {' or '.join(WEIGHTS.values())}",
    )


def activation(kind: HeadKind, config: GPTBigCodeConfig) -> Activation:
    """What makes scores of logits: by ``problem_type``, else by how many labels there are.

    A token has one label.
    """
    if kind == "token":
        return "softmax"
    by_count: Activation = "none" if config.num_labels == 1 else "softmax"
    return _ACTIVATIONS.get(config.problem_type, by_count)


def _finite(logits: Tensor) -> Tensor:
    """The logits on the host.

    Raises:
        ModelCorruptError: one is not a number.
    """
    logits = logits.cpu()
    if not logits.isfinite().all():
        raise ModelCorruptError("the model's logits are not numbers", "try --dtype float32")
    return logits
