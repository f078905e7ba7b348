"""Small models and folders of code to adapt them to."""

from pathlib import Path
from random import Random

import torch

from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import save_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.text.fim import find_dialect
from bigcode_cli.training.objective import Vocabulary
from tests.tokenizers import tiny_json, tiny_tokenizer

WINDOW = 64
NAMES = ("first", "second", "value", "number", "start", "self", "add", "count", "total", "range")


def small_model(**changes: object) -> GPTBigCodeForCausalLM:
    """A model as it is before any training, for the tiny tokenizer."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes: dict[str, object] = {
        "model_type": "gpt_bigcode",
        "vocab_size": tiny_tokenizer().vocab_size,
        "n_positions": 128,
        "n_embd": 32,
        "n_layer": 3,
        "n_head": 4,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return GPTBigCodeForCausalLM(GPTBigCodeConfig.from_dict(sizes | changes)).eval()


def save_small(folder: Path, **changes: object) -> Path:
    """That model as a folder."""
    model = small_model(**changes)
    save_model(model, model.config, folder, "float32")
    (folder / "tokenizer.json").write_text(tiny_json())
    return folder


def vocabulary() -> Vocabulary:
    """Of the tiny tokenizer."""
    tokenizer = tiny_tokenizer()
    pad = tokenizer.token_id("<fim_pad>")
    assert pad is not None
    return Vocabulary(tokenizer.encode, find_dialect(tokenizer), tokenizer.eos_id, pad)


def code(seed: int, lines: int = 24) -> str:
    """Lines of one shape, with names drawn: no two texts are alike, and all are."""
    rng = Random(seed)
    drawn = ([rng.choice(NAMES) for _ in range(4)] for _ in range(lines))
    rows = [f"    {one}_{two} = {three} + {four}\n" for one, two, three, four in drawn]
    return f"def add_{seed}(self):\n" + "".join(rows)


def write_code(folder: Path, count: int = 20, lines: int = 24) -> Path:
    """A folder of such files."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        (folder / f"module_{seed:02}.py").write_text(code(seed, lines))
    return folder
