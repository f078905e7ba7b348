"""Golden logits, by transformers 4.56.2: the last release whose eager attention is an oracle.

Its pins conflict with those of this package, so it runs in an environment of its own, from the
root of the repository::

    python3.11 -m venv oracle
    oracle/bin/pip install "transformers==4.56.2" torch safetensors numpy
    oracle/bin/python -m tests.model.make_golden write

Two more commands show that a folder written here is read there with the same logits::

    python -m tests.model.make_golden save FOLDER
    oracle/bin/python -m tests.model.make_golden compare FOLDER
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.model.golden_cases import COUNT, GOLDEN_FILE, draw_config, draw_inputs, draw_weights

EXPECTED_NAME = "expected.logits"


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


def save(folder: Path) -> None:
    """Write each case as a model folder by this package, with its own logits beside it."""
    from bigcode_cli.model.checkpoint import save_model
    from bigcode_cli.model.config import GPTBigCodeConfig
    from bigcode_cli.model.gpt_bigcode import GPTBigCodeForCausalLM

    for case in range(COUNT):
        config = GPTBigCodeConfig.from_dict(draw_config(case))
        model = GPTBigCodeForCausalLM(config, "eager").eval()
        shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
        model.load_state_dict(draw_weights(case, shapes), strict=False)
        ids, _ = draw_inputs(case, config.to_dict())
        shard_bytes = 20_000 if case % 2 else 10**9
        save_model(model, config, folder / str(case), "float32", shard_bytes)
        with torch.no_grad():
            tensors = {"input_ids": ids, "logits": model(ids).logits}
        save_file(tensors, folder / str(case) / EXPECTED_NAME)


def compare(folder: Path) -> None:
    """Load with transformers what ``save`` wrote and print the largest relative difference."""
    from transformers import AutoModelForCausalLM

    worst = 0.0
    for path in sorted(folder.iterdir()):
        expected = load_file(path / EXPECTED_NAME)
        model, info = AutoModelForCausalLM.from_pretrained(
            path, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
        )
        if any(info.values()):
            raise SystemExit(f"{path}: {info}")
        with torch.no_grad():
            logits = model(expected["input_ids"]).logits
        difference = (logits - expected["logits"]).abs().max() / expected["logits"].abs().max()
        worst = max(worst, difference.item())
    print(f"largest relative difference {worst:.2e}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write"]:
            write()
        case ["save", place]:
            save(Path(place))
        case ["compare", place]:
            compare(Path(place))
        case _:
            raise SystemExit(__doc__)
