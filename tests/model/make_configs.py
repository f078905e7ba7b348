"""Golden configurations, by transformers 4.56.2; see ``make_golden`` for its environment.

From the root of the repository::

    oracle/bin/python -m tests.model.make_configs write

Two more commands show that configurations written here are read there, and the other way round::

    python -m tests.model.make_configs save FOLDER
    oracle/bin/python -m tests.model.make_configs compare FOLDER
    python -m tests.model.make_configs read FOLDER
"""

import json
import random
import sys
from pathlib import Path
from typing import Any

from bigcode_cli.model.arguments import NAMES
from bigcode_cli.model.config import GPTBigCodeConfig

GOLDEN_FILE = Path(__file__).with_name("golden") / "configs.json"
COUNT = 12
MORE = 300
"""Cases that ``save``, ``compare`` and ``read`` go through."""

OTHER_NAMES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}


def draw_arguments(case: int) -> dict[str, Any]:
    """Arguments that both constructors take, some of them under their other names."""
    draw = random.Random(f"arguments {case}")
    heads = draw.choice((1, 2, 4, 6))
    cross = draw.random() < 0.3
    values: dict[str, Any] = {
        "vocab_size": draw.randrange(1, 60000),
        "n_positions": draw.randrange(1, 9000),
        "n_embd": heads * draw.randrange(1, 100),
        "n_layer": draw.randrange(1, 50),
        "n_head": heads,
        "n_inner": draw.choice((None, 77, 3072)),
        "activation_function": draw.choice(("gelu", "relu", "silu", "gelu_pytorch_tanh")),
        "layer_norm_epsilon": draw.choice((1e-5, 1e-6)),
        "initializer_range": draw.choice((0.02, 0.1)),
        "bos_token_id": draw.choice((None, 0, 50256)),
        "eos_token_id": draw.choice((None, 0, 50256)),
        "pad_token_id": draw.choice((None, 0, 7)),
        "multi_query": not cross and draw.random() < 0.5,
        "add_cross_attention": cross,
        "problem_type": draw.choice((None, "regression", "multi_label_classification")),
        "classifier_dropout": draw.choice((None, 0.0, 0.25)),
        "summary_type": draw.choice(("cls_index", None)),
        "nested": {"of": ["another", {"reader": None}]},
    }
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        values[name] = draw.choice((0.0, 0.1, 0.5))
    for name in ("scale_attn_weights", "use_cache", "tie_word_embeddings", "return_dict"):
        values[name] = draw.random() < 0.5
    for name in ("attention_softmax_in_fp32", "scale_attention_softmax_in_fp32"):
        values[name] = draw.random() < 0.5
    for name in ("output_attentions", "output_hidden_states"):
        values[name] = draw.random() < 0.5
    values |= draw_labels(draw)
    kept = {name: value for name, value in values.items() if draw.random() < 0.7}
    if "add_cross_attention" in kept:
        kept["multi_query"] = values["multi_query"]
    for name in ("n_embd", "n_head"):
        kept[name] = values[name]
    for other, name in OTHER_NAMES.items():
        if name in kept and draw.random() < 0.5:
            kept[other] = kept.pop(name)
    return kept


def draw_labels(draw: random.Random) -> dict[str, Any]:
    """No labels, their number, their names, or names both ways."""
    count = draw.randrange(1, 6)
    names = [f"{draw.choice('äbc')} {at}" for at in range(count)]
    id2label = {str(at): name for at, name in enumerate(names)}
    label2id = {name: at for at, name in enumerate(names)}
    return draw.choice(
        (
            {},
            {"num_labels": count},
            {"id2label": id2label},
            {"id2label": id2label} | {"label2id": label2id} | {"num_labels": count},
        )
    )


def shared(values: dict[str, Any]) -> dict[str, Any]:
    """What both classes have in ``to_dict``, without what transformers leaves undone.

    It makes no ``label2id`` of an ``id2label``, and counts 12 key/value heads of multi-head
    attention where the heads were given as ``num_attention_heads``.
    """
    known = NAMES | {"model_type"}
    if values.get("label2id") is None:
        known -= {"label2id"}
    if values["num_key_value_heads"] not in {1, values["n_head"]}:
        known -= {"num_key_value_heads"}
    return {name: values[name] for name in sorted(values.keys() & known)}


def write() -> None:
    """Write arguments, what transformers makes of them, and the file that it saves."""
    from transformers import GPTBigCodeConfig as Oracle

    cases = []
    for case in range(COUNT):
        arguments = draw_arguments(case)
        config = Oracle(**arguments)
        saved = json.loads(config.to_json_string())
        cases.append({"arguments": arguments, "values": shared(config.to_dict()), "saved": saved})
    lines = ",\n".join(json.dumps(case, sort_keys=True) for case in cases)
    GOLDEN_FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def ours(case: int) -> GPTBigCodeConfig:
    """The configuration of a case, its unknown keys in ``extra``."""
    return GPTBigCodeConfig.from_dict({"model_type": "gpt_bigcode"} | draw_arguments(case))


def save(folder: Path) -> None:
    """Write each case by this package."""
    for case in range(MORE):
        ours(case).save_pretrained(folder / str(case))


def compare(folder: Path) -> None:
    """Read with transformers what ``save`` wrote, and write it again beside it."""
    from transformers import AutoConfig

    for case in range(MORE):
        config, expected = AutoConfig.from_pretrained(folder / str(case)), ours(case).to_dict()
        found = config.to_dict()
        different = {name for name in expected if found[name] != expected[name]}
        if different:
            raise SystemExit(f"{case}: {different}")
        config.save_pretrained(folder / f"{case} again")
    print(f"{MORE} configurations are equal")


def read(folder: Path) -> None:
    """Read what ``compare`` wrote."""
    for case in range(MORE):
        found = GPTBigCodeConfig.from_pretrained(folder / f"{case} again")
        expected = ours(case)
        added = found.extra.keys() - expected.extra.keys()
        if (
            not added <= {"transformers_version"}
            or found.with_changes(extra=expected.extra) != expected
        ):
            raise SystemExit(f"{case}: {found} is not {expected}")
    print(f"{MORE} configurations are equal")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write"]:
            write()
        case ["save", place]:
            save(Path(place))
        case ["compare", place]:
            compare(Path(place))
        case ["read", place]:
            read(Path(place))
        case _:
            raise SystemExit(__doc__)
