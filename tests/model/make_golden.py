"""Golden logits, by transformers 4.56.2: the last release whose eager attention is an oracle.

Its pins conflict with those of this package, so it runs in an environment of its own, from the
root of the repository::

    python3.11 -m venv oracle
    oracle/bin/pip install "transformers==4.56.2" torch safetensors numpy
    oracle/bin/python -m tests.model.make_golden write

What else the two make of each other's folders: ``interchange``.
"""

import json
import sys

import torch
from safetensors.torch import save_file

from tests.model.golden_cases import COUNT, GOLDEN_FILE, draw_config, draw_inputs, draw_weights


def write() -> None:
    """Write the golden file: configurations, inputs and float32 logits of every case."""
    from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM

    tensors: dict[str, torch.Tensor] = {}
    configs = []
    for case in range(COUNT):
        values = draw_config(case)
        config = GPTBigCodeConfig(**values, attn_implementation="eager")
        model = GPTBigCodeForCausalLM(config).eval()
        shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
        model.load_state_dict(draw_weights(case, shapes), strict=False)
        ids, positions = draw_inputs(case, values)
        with torch.no_grad():
            logits = model(ids, position_ids=positions, use_cache=False).logits
        deviation = logits.std().item()
        print(f"{case:2} std {deviation:.2f} {json.dumps(values)}")
        if deviation < 1:
            raise SystemExit("these logits are too narrow to tell models apart")
        configs.append(values)
        tensors |= {
            f"{case}.input_ids": ids.to(torch.int32),
            f"{case}.position_ids": positions.to(torch.int32),
            f"{case}.logits": logits.contiguous(),
        }
    GOLDEN_FILE.parent.mkdir(exist_ok=True)
    save_file(tensors, GOLDEN_FILE, metadata={"configs": json.dumps(configs)})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write"]:
            write()
        case _:
            raise SystemExit(__doc__)
