"""Other programs beside ours, on the same weights, in the same process: transformers.

It is timed without ``generate``, whose bookkeeping would only slow it down: its forward passes
and the arg-max alone, ids staying on the device. Attention is SDPA. Compiled is its best way to
decode on a GPU: a static cache, exactly as long as the case needs, and each step of a token as
one compiled graph (``torch.compile`` in mode ``reduce-overhead``); prompts are run as they are, as
``generate`` does. Logits are computed of no position but the last of a prompt, and of as many
texts at once as have room: versions that know no better would fail at batches that the model itself
has room for.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bigcode_cli.backends.devices import free_bytes
from bigcode_cli.backends.memory import gigabytes, require_memory
from bigcode_cli.bench.cases import Case
from bigcode_cli.bench.measure import Mark
from bigcode_cli.bench.shapes import Subject
from bigcode_cli.errors import BigcodeError, UsageError
from bigcode_cli.model.tensor_index import loaded_bytes

if TYPE_CHECKING:
    from bigcode_cli.bench.measure import Side

TRANSFORMERS = "transformers"
COMPILED = "transformers-compiled"
PEERS = (TRANSFORMERS, COMPILED)
_COMPILE_MODE = "reduce-overhead"
_PASS_TOKENS = 65536
"""Of all sequences together, that a pass which is not timed takes at most: more is only memory."""
_LOGITS_SHARE = 4
"""Logits of scored texts take this part of the free memory at most, or those of one text."""
_LOGIT_COPIES = 4
"""As stored, in float32, and what their cross-entropy makes of them."""

Model = Callable[..., Any]
Step = Callable[[Tensor, Any, Tensor], Tensor]
"""``(batch, 1)`` ids, the cache and ``(1,)`` their slot to ``(batch, 1)`` ids."""


def peer_version() -> str:
    """Of transformers.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return version("transformers")
    except PackageNotFoundError as error:
        raise UsageError(
            "--against transformers needs transformers", "pip install 'bigcode-cli[bench]'"
        ) from error


def open_peers(
    names: Sequence[str], subject: Subject, *, device: str, dtype: str, vocab_size: int
) -> "list[Side]":
    """Bring transformers' model into memory once, for each way to run it.

    Raises:
        ModelTooLargeError: there is no room for it beside ours.
        UsageError: transformers is not installed.
    """
    peer_version()
    place, kind = torch.device(device), getattr(torch, dtype)
    needed = loaded_bytes(subject.config.tensor_shapes(), dtype, "none")
    require_memory(
        needed,
        free_bytes(place),
        f"{subject.name} in transformers needs {gigabytes(needed)} more",
        "measure a smaller shape, or without --against",
    )
    model = _model_like(subject, place, kind)
    return [
        TransformersSide(name, model, place, vocab_size=vocab_size, weight_bytes=needed)
        for name in names
    ]


def _model_like(subject: Subject, device: torch.device, dtype: torch.dtype) -> Model:
    """Transformers' model with the same weights, which are held once."""
    from transformers import AutoModelForCausalLM, GPTBigCodeConfig

    own = subject.plain_model(device, dtype)
    config = GPTBigCodeConfig(**own.config.to_dict())
    with torch.device("meta"):
        peer = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    peer.load_state_dict(own.state_dict(), strict=True, assign=True)
    _materialise(peer, device)
    peer.tie_weights()
    return peer.eval().requires_grad_(False)  # type: ignore[no-any-return]


def _materialise(model: torch.nn.Module, device: torch.device) -> None:
    """Make what no checkpoint holds: the causal mask that some versions keep."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                mask = torch.ones(buffer.shape, dtype=torch.bool, device=device).tril()
                setattr(module, name, mask)


class TransformersSide:
    """``pp``, ``tg`` and ``sc`` on the ids that ours gets."""

    def __init__(
        self, name: str, model: Model, device: torch.device, *, vocab_size: int, weight_bytes: int
    ) -> None:
        self.name = name
        self.weight_bytes = weight_bytes
        self._model, self._device, self._vocab_size = model, device, vocab_size
        self._is_compiled = name == COMPILED
        self._case: Case | None = None
        self._cache: Any = None
        self._step: Step = self._plain_step
        self.ids: list[list[int]] = []
        self.nll: float | None = None

    def can(self, case: Case) -> bool:
        """See ``measure.Side``. A step is all that is compiled."""
        return case.kind == "tg" or (case.kind in {"pp", "sc"} and not self._is_compiled)

    def tokens(self, case: Case) -> int:
        """See ``measure.Side``."""
        return case.tokens

    def release(self) -> None:
        """See ``measure.Side``. A static cache is part of what was compiled."""
        if not self._is_compiled:
            self._cache = None

    def run(self, case: Case) -> Iterator[Mark]:
        """See ``measure.Side``.

        Raises:
            BigcodeError: the peer failed, in whatever way.
        """
        ids = torch.tensor(case.ids(self._vocab_size), device=self._device)
        work = {"pp": self._prefill, "tg": self._decode, "sc": self._score}[case.kind]
        try:
            with torch.no_grad():  # as generate: not all that it compiles runs in inference mode
                yield from work(case, ids)
        except Exception as error:
            raise BigcodeError(f"{type(error).__name__}: {error}") from error

    def _prefill(self, case: Case, ids: Tensor) -> Iterator[Mark]:
        cache = _dynamic_cache(self._model)
        if case.n_depth:
            self._fill(ids[:, : case.n_depth], cache)
        yield "begun"
        logits = self._feed(ids[:, case.n_depth :], cache)
        yield "ended"
        logits.argmax(-1).tolist()
        yield "first"

    def _decode(self, case: Case, ids: Tensor) -> Iterator[Mark]:
        self._prepare(case)
        first = ids.shape[1]
        slots = torch.arange(first, first + case.n_gen, device=self._device)[:, None].unbind()
        chosen = [self._fill(ids, self._cache).argmax(-1)]
        yield "begun"
        for slot in slots:
            chosen += [self._step(chosen[-1], self._cache, slot)]
        yield "ended"
        self.ids = torch.cat(chosen, dim=1).tolist()

    def _score(self, case: Case, ids: Tensor) -> Iterator[Mark]:
        at_once = self._texts_at_once(case)
        yield "begun"
        losses = [
            self._model(some, labels=some, use_cache=False).loss * len(some)
            for some in torch.split(ids, at_once)
        ]
        self.nll = float(sum(losses)) / len(ids)
        yield "ended"

    def _texts_at_once(self, case: Case) -> int:
        free = free_bytes(self._device)
        one = case.n_prompt * self._vocab_size * torch.float32.itemsize * _LOGIT_COPIES
        return case.batch_size if free is None else max(1, free // _LOGITS_SHARE // one)

    def _fill(self, ids: Tensor, cache: Any) -> Tensor:  # noqa: ANN401
        """``_feed``, in several passes where one would take much memory."""
        chunks = torch.split(ids, max(1, _PASS_TOKENS // len(ids)), dim=1)
        return [self._feed(chunk, cache) for chunk in chunks][-1]

    def _feed(self, ids: Tensor, cache: Any) -> Tensor:  # noqa: ANN401
        """Run ids behind what the cache holds; the logits of the last, ``(batch, 1, vocab)``."""
        model = self._model
        if _takes(model, "logits_to_keep"):
            output = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            return output.logits  # type: ignore[no-any-return]
        trunk, head = model.transformer, model.lm_head  # type: ignore[attr-defined]
        hidden = trunk(ids, past_key_values=cache, use_cache=True).last_hidden_state
        return head(hidden[:, -1:])  # type: ignore[no-any-return]

    def _plain_step(self, last: Tensor, cache: Any, slot: Tensor) -> Tensor:  # noqa: ANN401, ARG002
        return self._feed(last, cache).argmax(-1)

    def _prepare(self, case: Case) -> None:
        """An empty cache; of another case, a static one and a step compiled for it."""
        if not self._is_compiled:
            self._cache = _dynamic_cache(self._model)
            return
        if case != self._case:
            from transformers import StaticCache

            torch.compiler.reset()
            config = self._model.config  # type: ignore[attr-defined]
            self._cache = StaticCache(config=config, max_cache_len=case.positions)
            self._step = _compiled_step(self._model)
            self._case = case
        self._cache.reset()


def _dynamic_cache(model: Model) -> Any:  # noqa: ANN401
    from transformers import DynamicCache

    return DynamicCache(config=model.config)  # type: ignore[attr-defined]


def _takes(model: Model, argument: str) -> bool:
    """Whether this version's model has an argument of its own of that name."""
    return argument in inspect.signature(model.forward).parameters  # type: ignore[attr-defined]


def _compiled_step(model: Model) -> Step:
    """One token's pass and its arg-max as one graph, replayed from the second call on."""
    takes_slot = _takes(model, "cache_position")

    def step(last: Tensor, cache: Any, slot: Tensor) -> Tensor:  # noqa: ANN401
        where = {"cache_position": slot} if takes_slot else {}
        output = model(
            last, past_key_values=cache, position_ids=slot[None], use_cache=True, **where
        )
        return output.logits.argmax(-1)  # type: ignore[no-any-return]

    compiled = torch.compile(step, mode=_COMPILE_MODE, dynamic=False, fullgraph=True)

    def replayed(last: Tensor, cache: Any, slot: Tensor) -> Tensor:  # noqa: ANN401
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        # A graph's output lies in its own memory, which its next replay overwrites.
        return compiled(last, cache, slot).clone()

    return replayed
