"""llama.cpp as an ``Engine``: run by an interpreter that has llama-cpp-python and gguf.

Its own calls alone, ``llama_decode`` with the ids that it is handed, as llama-bench does; all
settings are its defaults but threads and context. A checkpoint becomes a file in float16 of its
``starcoder`` architecture, without a vocabulary; that becomes Q8_0 and Q4_0 by its own program
for that, which keeps a tied embedding in Q8_0 or Q6_K. The files stay beside the checkpoint.
"""

import ctypes
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import llama_cpp as llama
import numpy as np

from bigcode_cli.bench.checkpoints import Checkpoint
from bigcode_cli.bench.cpu_pipe import Width, serve

FORMATS: dict[Width, str] = {"f16": "F16", "int8": "Q8_0", "int4": "Q4_0"}

_LAYER_NAMES = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_NAMES = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
}


def gguf_name(name: str) -> str:
    """What it calls a checkpoint's tensor."""
    module, _, kind = name.rpartition(".")
    if module in _NAMES:
        return f"{_NAMES[module]}.{kind}"
    layer, _, part = module.removeprefix("transformer.h.").partition(".")
    return f"blk.{layer}.{_LAYER_NAMES[part]}.{kind}"


def write_gguf(folder: Path, out: Path) -> None:
    """The checkpoint in float16: vectors in float32, as its own converter does."""
    checkpoint = Checkpoint(folder)
    config = checkpoint.config
    writer = gguf.GGUFWriter(out, "starcoder")
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.inner_dim)
    writer.add_head_count(config.n_head)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")
    for name in checkpoint.names():
        tensor = checkpoint.array(name)
        is_vector = tensor.ndim == 1
        writer.add_tensor(gguf_name(name), tensor.astype(np.float32 if is_vector else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def file_of(folder: Path, width: Width) -> Path:
    """A checkpoint in one of the formats, made if it is not there."""
    plain = folder / "F16.gguf"
    if not plain.exists():
        part = plain.with_suffix(".part")
        write_gguf(folder, part)
        part.replace(plain)
    made = folder / f"{FORMATS[width]}.gguf"
    if not made.exists():
        settings = llama.llama_model_quantize_default_params()
        settings.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{FORMATS[width]}")
        part = made.with_suffix(".part")
        if llama.llama_model_quantize(bytes(plain), bytes(part), ctypes.byref(settings)):
            raise RuntimeError(f"llama_model_quantize to {FORMATS[width]} failed")
        part.replace(made)
    return made


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(level: int, text: bytes, data: object) -> None:
    """It tells every tensor."""


class Llama:
    """See ``cpu_pipe.Engine``."""

    def open(self, folder: str, width: Width, threads: int, context: int) -> dict[str, Any]:
        """See ``Engine``."""
        llama.llama_log_set(_silent, None)
        llama.llama_backend_init()
        file = file_of(Path(folder), width)
        self._model = llama.llama_model_load_from_file(
            bytes(file), llama.llama_model_default_params()
        )
        settings = llama.llama_context_default_params()
        settings.n_ctx = context
        settings.n_batch = context
        settings.n_threads = settings.n_threads_batch = threads
        self._context = llama.llama_init_from_model(self._model, settings)
        if not self._context:
            raise RuntimeError(f"{file} does not open")
        self._vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model))
        tensors = {one.name: int(one.n_bytes) for one in gguf.GGUFReader(file).tensors}
        unread = "position_embd.weight", *(["token_embd.weight"] * ("output.weight" in tensors))
        return {
            "name": FORMATS[width],
            "read_bytes": sum(tensors.values()) - sum(tensors[name] for name in unread),
            "version": f"llama-cpp-python {llama.__version__}",
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
        batches = [_batch([place % self._vocab]) for place in range(1, count + 1)]
        begun = time.perf_counter_ns()
        for _, batch in batches:
            self._run(batch)
        return time.perf_counter_ns() - begun

    def logits(self, ids: Sequence[int]) -> list[float]:
        """See ``Engine``."""
        self._forget()
        self._feed(ids)
        return [float(number) for number in self._logits(-1)]

    def score(self, ids: Sequence[int]) -> float:
        """See ``Engine``: all logits of one pass."""
        self._forget()
        batch = llama.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for place, id_ in enumerate(ids):
            batch.token[place], batch.pos[place] = id_, place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = True
        self._run(batch)
        nats = math.fsum(_nats(self._logits(at), ids[at + 1]) for at in range(len(ids) - 1))
        llama.llama_batch_free(batch)
        return nats

    def _logits(self, place: int) -> "np.ndarray[Any, Any]":
        found = llama.llama_get_logits_ith(self._context, place)
        return np.ctypeslib.as_array(found, (self._vocab,))

    def _feed(self, ids: Sequence[int]) -> None:
        kept, batch = _batch(ids)
        self._run(batch)
        del kept

    def _run(self, batch: Any) -> None:  # noqa: ANN401
        if status := llama.llama_decode(self._context, batch):
            raise RuntimeError(f"llama_decode: {status}")
        llama.llama_synchronize(self._context)

    def _forget(self) -> None:
        llama.llama_memory_clear(llama.llama_get_memory(self._context), False)


def _batch(ids: Sequence[int]) -> tuple[Any, Any]:
    """The ids, which have to be kept, and the batch that points to them."""
    kept = (ctypes.c_int32 * len(ids))(*ids)
    return kept, llama.llama_batch_get_one(kept, len(ids))


def _nats(logits: "np.ndarray[Any, Any]", target: int) -> float:
    wide = logits.astype(np.float64)
    most = wide.max()
    return float(most + np.log(np.exp(wide - most).sum()) - wide[target])


if __name__ == "__main__":
    serve(Llama())
