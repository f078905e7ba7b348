"""A session on a small random model, for tests of what stands on the engine."""

import torch

from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.engine.protocol import BackendInfo
from bigcode_cli.engine.session import Session
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig
from tests.tokenizers import tiny_tokenizer


def random_model(config: GPTBigCodeConfig, *, seed: int = 0) -> GPTBigCodeForCausalLM:
    """A model whose weights are drawn so wide that its choices are clear and varied."""
    torch.manual_seed(seed)
    model = GPTBigCodeForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    return model.eval()


def random_session(*, n_positions: int = 128, seed: int = 0) -> Session:
    """A session on a random model with the tiny tokenizer."""
    tokenizer = tiny_tokenizer()
    config = GPTBigCodeConfig.from_dict(
        {
            "model_type": "gpt_bigcode",
            "vocab_size": tokenizer.vocab_size,
            "n_positions": n_positions,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "tie_word_embeddings": False,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }
    )
    info = BackendInfo(
        name="torch",
        device="cpu",
        dtype="float32",
        weights="float32",
        n_positions=n_positions,
        batch_tokens=2048,
        prefill_tokens=512,
        max_rows=16,
        vocab_size=tokenizer.vocab_size,
        weight_bytes=0,
    )
    return Session("random", tokenizer, TorchBackend(random_model(config, seed=seed), info))
