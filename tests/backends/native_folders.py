"""Folders of random models in all the forms that weights are stored in."""

import ctypes
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor as TorchTensor

from bigcode_cli.kernels.native.tensors import Tensor
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import save_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.shards import Storage
from bigcode_cli.records import ModelFolder
from tests.sessions import random_model

CONFIG = {
    "model_type": "gpt_bigcode",
    "vocab_size": 50,
    "n_positions": 32,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
}

_DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
    "U8": torch.uint8,
}


class Notes:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, label: str, done: int, total: int | None, unit: str) -> None:
        pass


def write_model(
    folder: Path, storage: Storage = "float32", seed: int = 0, **changes: object
) -> tuple[ModelFolder, GPTBigCodeForCausalLM]:
    """A random model in a folder."""
    torch.manual_seed(seed)
    config = GPTBigCodeConfig.from_dict({**CONFIG, **changes})
    model = random_model(config)
    save_model(model, config, folder, storage)
    return ModelFolder(name=folder.name, path=folder), model


def numbers(tensor: Tensor) -> TorchTensor:
    """What lies at a tensor's address."""
    dtype = _DTYPES[tensor.dtype]
    count = math.prod(tensor.shape)
    lying = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(tensor.address)
    return torch.frombuffer(lying, dtype=dtype).view(tensor.shape).clone()


def rewrite(folder: Path, tensors: Mapping[str, TorchTensor]) -> None:
    """Other weights in a model's folder."""
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )


def write_misaligned(path: Path, tensors: Mapping[str, TorchTensor]) -> None:
    """A safetensors file whose header has an odd length, as the library never writes it."""
    names = {torch.float32: "F32", torch.bfloat16: "BF16"}
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = bytes(tensor.contiguous().view(torch.uint8).flatten().tolist())
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (1 - len(text) % 2)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
