"""What repositories and folders of the tests hold."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from bigcode_cli.model.checkpoint import save_model
from bigcode_cli.model.config import GPTBigCodeConfig
from tests.sessions import random_model
from tests.tokenizers import tiny_json, tiny_tokenizer

TINY_CONFIG = {
    "model_type": "gpt_bigcode",
    "architectures": ["GPTBigCodeForCausalLM"],
    "vocab_size": 49152,
    "n_positions": 64,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
}


def tiny_files(**changes: object) -> dict[str, bytes]:
    """The files of a repository whose weights are just bytes: for all that never reads them."""
    return {
        "config.json": json.dumps({**TINY_CONFIG, **changes}).encode(),
        "tokenizer.json": b'{"model": {}}',
        "model.safetensors": bytes(range(256)) * 12_000,
        "README.md": b"---\nlicense: mit\n---\n",
        "pytorch_model.bin": b"pickle",
        "LICENSE": b"text",
    }


@cache
def model_files() -> dict[str, bytes]:
    """A repository of a small random model that runs: bfloat16 weights, the tiny tokenizer."""
    config = GPTBigCodeConfig.from_dict(
        {
            "model_type": "gpt_bigcode",
            "vocab_size": tiny_tokenizer().vocab_size,
            "n_positions": 64,
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 2,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }
    )
    with TemporaryDirectory() as folder:
        save_model(random_model(config), config, Path(folder), storage="bfloat16")
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return {**files, "tokenizer.json": tiny_json().encode()}


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """A model folder with these files."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder
