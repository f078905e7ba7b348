"""What repositories and folders of the tests hold."""

import json

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
