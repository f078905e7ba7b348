"""Folders of all model classes, from this package to transformers 4.56.2 and back.

The two live in environments of their own (see ``make_golden``); each writes every class in every
configuration, sharded and whole, with what it makes of some ids, and each reads what the other
wrote, with no key missing or left over and the same numbers. From the root of the repository::

    python -m tests.model.interchange save ours FOLDER
    oracle/bin/python -m tests.model.interchange compare theirs FOLDER
    oracle/bin/python -m tests.model.interchange save theirs FOLDER
    python -m tests.model.interchange compare ours FOLDER

What CI holds of it, names and shapes, is written by::

    oracle/bin/python -m tests.model.interchange shapes
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.model.golden_cases import COUNT, draw_config, draw_inputs, draw_weights

CLASSES = (
    "GPTBigCodeModel",
    "GPTBigCodeForCausalLM",
    "GPTBigCodeForSequenceClassification",
    "GPTBigCodeForTokenClassification",
)
NAMES = {0: "a", 1: "b", 2: "c"}
LABELS = {"id2label": NAMES, "label2id": {name: at for at, name in NAMES.items()}}
SHAPES_FILE = Path(__file__).with_name("golden") / "state_dicts.json"
EXPECTED_NAME = "expected"
TOLERANCE = 1e-5


def configurations() -> dict[str, dict[str, Any]]:
    """Small ones, whose state dictionaries differ in names or in shapes."""
    sizes = {"vocab_size": 61, "n_positions": 48, "n_embd": 24, "n_layer": 2, "n_head": 4}
    crossed = {"multi_query": False, "add_cross_attention": True}
    return {
        "multi-query": {**sizes, **LABELS},
        "multi-head": {**sizes, **LABELS, "multi_query": False, "n_inner": 50},
        "untied": {**sizes, **LABELS, "tie_word_embeddings": False},
        "cross-attention": {**sizes, **LABELS, **crossed},
    }


def shapes_of(model: nn.Module) -> dict[str, list[int]]:
    """Of the state dictionary, in its order."""
    return {name: list(value.shape) for name, value in model.state_dict().items()}


def write_shapes() -> None:
    """Write what the state dictionaries of transformers hold."""
    told = {
        case: {name: shapes_of(_make("theirs", name, values)) for name in CLASSES}
        for case, values in configurations().items()
    }
    text = json.dumps(told, separators=(",", ":"))
    SHAPES_FILE.write_text(text.replace('},"', '},\n"') + "\n", encoding="utf-8")


def save(side: str, folder: Path) -> None:
    """Write each class of each case with one of the two, and what it makes of the ids."""
    for case in range(COUNT):
        values = {**draw_config(case), **LABELS, "pad_token_id": 1}
        ids, _ = draw_inputs(case, values)
        for name in CLASSES:
            model = _make(side, name, values).eval()
            shapes = {key: tuple(value.shape) for key, value in model.named_parameters()}
            model.load_state_dict(draw_weights(case, shapes), strict=False)
            place = folder / f"{case}-{name}"
            model.save_pretrained(place, max_shard_size=20_000 if case % 2 else "1GB")
            save_file({"input_ids": ids, "output": _run(model, ids)}, place / EXPECTED_NAME)


def compare(side: str, folder: Path) -> None:
    """Read with one of the two what the other wrote; print the largest relative difference."""
    worst, count = 0.0, 0
    library = _library(side)
    for place in sorted(folder.iterdir()):
        expected = load_file(place / EXPECTED_NAME)
        model_class = getattr(library, place.name.partition("-")[2])
        options: dict[str, Any] = {"attn_implementation": "eager"}
        if side == "theirs":
            model, info = model_class.from_pretrained(place, output_loading_info=True, **options)
            if any(info.values()):
                raise SystemExit(f"{place}: {info}")
        else:
            model = model_class.from_pretrained(place, **options)
        if model.config.id2label != NAMES:
            raise SystemExit(f"{place}: {model.config.id2label}")
        output = _run(model, expected["input_ids"])
        difference = (output - expected["output"]).abs().max() / expected["output"].abs().max()
        worst, count = max(worst, difference.item()), count + 1
    print(f"{count} folders, largest relative difference {worst:.2e}")
    if not worst <= TOLERANCE:
        raise SystemExit(f"more than {TOLERANCE}")


def _library(side: str) -> Any:
    return import_module({"ours": "bigcode_cli", "theirs": "transformers"}[side])


def _make(side: str, name: str, values: dict[str, Any]) -> Any:
    library = _library(side)
    described = {**values, "model_type": "gpt_bigcode"}
    config = library.GPTBigCodeConfig.from_dict(described)
    if side == "ours":
        return getattr(library, name)(config, "eager")
    config._attn_implementation = "eager"
    return getattr(library, name)(config)


@torch.no_grad()
def _run(model: nn.Module, ids: Tensor) -> Tensor:
    """Logits, or hidden states where there is no head."""
    output: Tensor = model(ids, use_cache=False)[0]
    return output.contiguous()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["shapes"]:
            write_shapes()
        case ["save", "ours" | "theirs" as side, place]:
            save(side, Path(place))
        case ["compare", "ours" | "theirs" as side, place]:
            compare(side, Path(place))
        case _:
            raise SystemExit(__doc__)
