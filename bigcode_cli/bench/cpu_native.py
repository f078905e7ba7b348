"""The native engine as an ``Engine``: run by this interpreter, through the compiled library.

Weights are mapped from the folder of the width asked for, as ``cpu_models`` has written it, and
used where they lie. No torch.
"""

import math
import mmap
import time
from collections.abc import Sequence
from ctypes import addressof, c_char, c_float, c_int32, c_void_p
from pathlib import Path
from typing import Any

from bigcode_cli import __version__
from bigcode_cli.bench.checkpoints import WEIGHTS
from bigcode_cli.bench.cpu_pipe import Width, serve
from bigcode_cli.kernels.native import library as native
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.tensor_index import SCALE_SUFFIX, read_header

NAMES: dict[Width, str] = {"f32": "float32", "f16": "float16"}


class Native:
    """See ``cpu_pipe.Engine``."""

    def open(self, folder: str, width: Width, threads: int, context: int) -> dict[str, Any]:
        """See ``Engine``: ``folder`` has one of its own for each width."""
        place = Path(folder, width)
        self._config = GPTBigCodeConfig.from_file(place)
        self._library = native.library()
        self._entries = read_header(place / WEIGHTS)
        with (place / WEIGHTS).open("rb") as file:
            self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._start = addressof(c_char.from_buffer(self._memory))
        self._model = self._open_model(threads, quantises=width != "f16")
        if not self._model:
            raise RuntimeError("the engine refuses the model")
        self._cache = self._library.bigcode_cache(self._model)
        if self._library.bigcode_cache_reserve(self._cache, context):
            raise MemoryError
        self._states = (c_float * self._config.n_embd)()
        self._logits = (c_float * self._config.vocab_size)()
        unread = "transformer.wpe.weight"
        return {
            "name": NAMES.get(width, width),
            "read_bytes": sum(
                entry.stop - entry.start for name, entry in self._entries.items() if name != unread
            ),
            "version": f"bigcode {__version__} ({native.instructions()})",
        }

    def prompt(self, ids: Sequence[int]) -> int:
        """See ``Engine``."""
        self._forget()
        begun = time.perf_counter_ns()
        self._feed(ids)
        return time.perf_counter_ns() - begun

    def decode(self, count: int) -> int:
        """See ``Engine``."""
        self._forget()
        begun = time.perf_counter_ns()
        for place in range(1, count + 1):
            self._feed((place % self._config.vocab_size,))
        return time.perf_counter_ns() - begun

    def logits(self, ids: Sequence[int]) -> list[float]:
        """See ``Engine``."""
        self._forget()
        self._feed(ids)
        return list(self._logits)

    def score(self, ids: Sequence[int]) -> float:
        """See ``Engine``."""
        self._forget()
        count = len(ids) - 1
        states = (c_float * (count * self._config.n_embd))()
        self._pass(ids[:-1], range(count), states, None)
        told = (c_float * (3 * count))()
        targets = (c_int32 * count)(*ids[1:])
        if self._library.bigcode_score(self._model, states, count, targets, told):
            raise RuntimeError("bigcode_score refuses")
        return -math.fsum(told[::3])

    def _feed(self, ids: Sequence[int]) -> None:
        self._pass(ids, (len(ids) - 1,), self._states, self._logits)

    def _pass(self, ids: Sequence[int], wanted: Sequence[int], states: Any, logits: Any) -> None:  # noqa: ANN401
        status = self._library.bigcode_feed(
            self._model,
            (c_void_p * 1)(self._cache),
            (c_int32 * len(ids))(*ids),
            (c_int32 * 1)(len(ids)),
            1,
            (c_int32 * len(wanted))(*wanted),
            len(wanted),
            states,
            logits,
        )
        if status:
            raise RuntimeError(f"bigcode_feed: {status}")

    def _forget(self) -> None:
        self._library.bigcode_cache_cut(self._cache, 0)

    def _open_model(self, threads: int, *, quantises: bool) -> int | None:
        config = self._config
        geometry = native.Geometry(
            config.n_embd,
            config.inner_dim,
            config.n_head,
            config.kv_heads,
            config.head_dim,
            config.n_layer,
            config.n_positions,
            config.vocab_size,
            native.ACTIVATIONS[config.activation_function],
            config.layer_norm_epsilon,
        )
        tokens = self._matrix("transformer.wte")
        head = tokens if config.tie_word_embeddings else self._matrix("lm_head")
        layers = (native.Layer * config.n_layer)(*map(self._layer, range(config.n_layer)))
        model: int | None = self._library.bigcode_model(
            geometry,
            tokens,
            self._matrix("transformer.wpe"),
            head,
            layers,
            self._address("transformer.ln_f.weight"),
            self._address("transformer.ln_f.bias"),
            threads,
            quantises,
            None,
        )
        return model

    def _layer(self, number: int) -> native.Layer:
        name = f"transformer.h.{number}."
        norms = [self._address(f"{name}{norm}.{kind}") for norm in ("ln_1", "ln_2")
                 for kind in ("weight", "bias")]  # fmt: skip
        parts = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
        factor = self._config.head_dim**-0.5
        return native.Layer(*norms, *(self._matrix(name + part) for part in parts), factor)

    def _matrix(self, module: str) -> native.Matrix:
        name = f"{module}.weight"
        entry = self._entries[name]
        rows, columns = entry.shape
        if entry.dtype == "U8":
            # Rows are filled up to whole groups: their length is that of what goes in.
            is_down = module.endswith("mlp.c_proj")
            columns = self._config.inner_dim if is_down else self._config.n_embd
        scale, bias = name + SCALE_SUFFIX, f"{module}.bias"
        return native.Matrix(
            native.FORMATS[entry.dtype],
            rows,
            columns,
            self._address(name),
            self._address(scale) if scale in self._entries else None,
            self._address(bias) if bias in self._entries else None,
        )

    def _address(self, name: str) -> int:
        return self._start + self._entries[name].start


if __name__ == "__main__":
    serve(Native())
