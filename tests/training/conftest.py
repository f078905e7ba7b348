import email
import json
import shutil
from pathlib import Path

import pytest
import torch

from bigcode_cli.text.tokenizer import Tokenizer
from bigcode_cli.training.bpe import cut_corpus, train_tokenizer
from bigcode_cli.training.data.corpus import Corpus, build_corpus
from bigcode_cli.training.feed import load_vocabulary
from bigcode_cli.training.objective import Vocabulary

torch.set_num_threads(1)

MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this…\n"
BUDGET = 88
"""Tokens of a piece for windows of 128."""

RECIPE = """
[model]
n_embd = 32
n_layer = 2
n_head = 2
n_positions = 128
resid_pdrop = 0.0
embd_pdrop = 0.0
attn_pdrop = 0.0
[tokenizer]
vocab_size = 512
sample_megabytes = 1
[training]
steps = 6
learning_rate = 1e-2
embedding_learning_rate = 1e-2
tokens_per_step = 1024
windows_per_pass = 4
log_steps = 2
[export]
storage = ["int8", "bfloat16"]
"""


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two packages: parts of the standard library."""
    folder = tmp_path_factory.mktemp("data")
    for module in (email, json):
        source = Path(str(module.__file__)).parent
        package = folder / source.name
        package.mkdir()
        (package / "LICENSE").write_text(MIT, "utf-8")
        for path in sorted(source.glob("*.py"))[:8]:
            shutil.copyfile(path, package / path.name)
    return folder


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(RECIPE, "utf-8")
    return path


@pytest.fixture(scope="session")
def corpus(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus with its tokenizer and pieces, all in one folder."""
    folder = tmp_path_factory.mktemp("corpus")
    built = build_corpus([data], folder)
    train_tokenizer(built, folder, vocab_size=512, sample_bytes=10**6)
    cut_corpus(built, folder, budget=BUDGET).save(folder / "pieces.idx")
    return built


@pytest.fixture(scope="session")
def tokenizer(corpus: Corpus) -> Tokenizer:
    return Tokenizer.load(corpus.folder)


@pytest.fixture(scope="session")
def vocabulary(corpus: Corpus) -> Vocabulary:
    return load_vocabulary(corpus.folder)
