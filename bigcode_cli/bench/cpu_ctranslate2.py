"""CTranslate2 as an ``Engine``: run by an interpreter that has ctranslate2.

It chooses tokens greedily in C++ itself, and a step cannot be had without. On a CPU it has int8
and float32, which stands in for float16. A prompt is what comes before the first of its tokens.
"""

import math
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from ctranslate2.specs import common_spec, transformer_spec

from bigcode_cli.bench.checkpoints import Checkpoint
from bigcode_cli.bench.cpu_pipe import Width, serve

TYPES: dict[Width, str] = {"f16": "float32", "int8": "int8"}
_BYTES = {"float32": 4, "int8": 1}
_Find = Callable[[Any], Any]
_LINEAR: dict[str, _Find] = {
    "attn.c_attn": lambda layer: layer.self_attention.linear[0],
    "attn.c_proj": lambda layer: layer.self_attention.linear[1],
    "mlp.c_fc": lambda layer: layer.ffn.linear_0,
    "mlp.c_proj": lambda layer: layer.ffn.linear_1,
}
_NORMS: dict[str, _Find] = {
    "ln_1": lambda layer: layer.self_attention.layer_norm,
    "ln_2": lambda layer: layer.ffn.layer_norm,
}


def write_model(folder: Path, out: Path) -> None:
    """The checkpoint in float16, as its own converter for the family lays it out."""
    checkpoint = Checkpoint(folder)
    config, array = checkpoint.config, checkpoint.array
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        config.n_layer,
        config.n_head,
        pre_norm=True,
        activation=common_spec.Activation.GELUTanh,
        multi_query_attention=config.kv_heads == 1,
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = array("transformer.wte.weight")
    decoder.position_encodings.encodings = array("transformer.wpe.weight")
    decoder.projection.weight = array("transformer.wte.weight")
    _norm(decoder.layer_norm, checkpoint, "transformer.ln_f")
    for number, layer in enumerate(decoder.layer):
        name = f"transformer.h.{number}"
        for part, find in _NORMS.items():
            _norm(find(layer), checkpoint, f"{name}.{part}")
        for part, find in _LINEAR.items():
            linear = find(layer)
            linear.weight = array(f"{name}.{part}.weight")
            linear.bias = array(f"{name}.{part}.bias").astype(np.float16)
    spec.register_vocabulary([str(id_) for id_ in range(config.vocab_size)])
    spec.config.unk_token = spec.config.bos_token = spec.config.eos_token = "0"
    spec.config.layer_norm_epsilon = config.layer_norm_epsilon
    spec.validate()
    spec.optimize(quantization="float16")
    spec.save(str(out))


def _norm(norm: Any, checkpoint: Checkpoint, name: str) -> None:  # noqa: ANN401
    norm.gamma = checkpoint.array(f"{name}.weight").astype(np.float16)
    norm.beta = checkpoint.array(f"{name}.bias").astype(np.float16)


class CTranslate2:
    """See ``cpu_pipe.Engine``."""

    def open(self, folder: str, width: Width, threads: int, context: int) -> dict[str, Any]:  # noqa: ARG002
        """See ``Engine``. Its cache grows as it is needed."""
        made = Path(folder, "ctranslate2")
        if not (made / "model.bin").exists():
            made.mkdir(exist_ok=True)
            write_model(Path(folder), made)
        kind = TYPES[width]
        self._generator = ctranslate2.Generator(
            str(made), device="cpu", compute_type=kind, inter_threads=1, intra_threads=threads
        )
        shapes = Checkpoint(Path(folder)).config.tensor_shapes()
        numbers = sum(math.prod(shape) for name, shape in shapes.items() if ".wpe." not in name)
        return {
            "name": kind,
            "read_bytes": numbers * _BYTES[kind],
            "version": f"ctranslate2 {version('ctranslate2')}",
        }

    def prompt(self, ids: Sequence[int]) -> int:
        """See ``Engine``: all in one pass but the last, which chooses a token."""
        return self._generate(ids, 1)

    def decode(self, count: int) -> int:
        """See ``Engine``."""
        return self._generate([1], count)

    def logits(self, ids: Sequence[int]) -> list[float]:
        """See ``Engine``."""
        found = self._generator.forward_batch([list(ids)])
        return [float(number) for number in np.array(found)[0, -1]]

    def score(self, ids: Sequence[int]) -> float:
        """See ``Engine``."""
        found = np.array(self._generator.forward_batch([list(ids)], return_log_probs=True))[0]
        return -math.fsum(float(found[at, ids[at + 1]]) for at in range(len(ids) - 1))

    def _generate(self, ids: Sequence[int], count: int) -> int:
        begun = time.perf_counter_ns()
        result = self._generator.generate_batch(
            [list(map(str, ids))],
            max_length=count,
            min_length=count,
            include_prompt_in_result=False,
        )
        taken = time.perf_counter_ns() - begun
        if len(result[0].sequences_ids[0]) != count:
            raise RuntimeError(f"not {count} tokens")
        return taken


if __name__ == "__main__":
    serve(CTranslate2())
