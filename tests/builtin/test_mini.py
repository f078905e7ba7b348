"""The built-in model: what comes with the package is whole, small, and knows some Python."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from bigcode_cli.bench.infill_run import exact_match
from bigcode_cli.bench.infill_tasks import InfillTask
from bigcode_cli.bench.quality import bits_per_byte, infill
from bigcode_cli.engine.pace import Pace
from bigcode_cli.engine.session import Session
from bigcode_cli.engine.speculate import Speculation
from bigcode_cli.hub.export import export
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import (
    Completion,
    GenerateRequest,
    InfillOrder,
    LoadOptions,
    ModelFolder,
    Quantize,
    Silence,
    StopOptions,
)
from bigcode_cli.text.fim import find_dialect
from bigcode_cli.training.recipe import Recipe
from tests.tokenizers import SPECIAL_TOKENS

LARGEST_BYTES = 40_000_000
SOURCES = sorted((Path(__file__).parents[2] / "bigcode_cli" / "engine").glob("*.py"))


@pytest.fixture(scope="module")
def mini() -> ModelFolder:
    return resolve("mini", report=Silence())


@pytest.fixture(scope="module")
def session(mini: ModelFolder) -> Session:
    return Session.open(mini, LoadOptions())


def test_it_is_small_and_says_its_licence(mini: ModelFolder) -> None:
    assert sum(path.stat().st_size for path in mini.path.iterdir()) <= LARGEST_BYTES
    assert mini.licence == "apache-2.0"


def test_it_has_the_control_tokens_of_starcoder(session: Session) -> None:
    for id_, text in enumerate(SPECIAL_TOKENS):
        assert session.tokenizer.token_id(text) == id_
        assert id_ in session.tokenizer.control_ids
    assert find_dialect(session.tokenizer).name == "starcoder"


def test_it_is_what_its_recipe_makes(mini: ModelFolder) -> None:
    stored = GPTBigCodeConfig.from_file(mini.path)
    recipe = Recipe.load(mini.path / "recipe.toml")
    assert stored.tensor_shapes() == recipe.model.tensor_shapes()
    assert stored.activation_function == recipe.model.activation_function


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("import numpy as", " np"),
        ("if __name__ ==", ' "__main__":'),
        ("class Stack:\n    def __init__(self):\n        self.items", " = []"),
        ("for key, value in data.it", "ems():"),
        ("def __init__(self, *args, **kw", "args):"),
    ],
)
def test_it_completes_what_everybody_writes(prompt: str, completion: str, session: Session) -> None:
    request = GenerateRequest(
        prompt=prompt, max_new_tokens=16, heal=True, stops=StopOptions(at="line")
    )
    (done,) = [e for e in session.generate([request]) if isinstance(e, Completion)]
    assert done.text.startswith(completion)


def test_256_tokens_are_the_same_where_they_are_looked_up(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever it costs: whether it pays is for quiet machines to tell.
    monkeypatch.setattr(Pace, "width", lambda _, chances, *_left, **_s: 1 + min(7, len(chances[0])))
    guessing = Session("mini", session.tokenizer, session.backend, speculation=Speculation())
    request = GenerateRequest(prompt=SOURCES[0].read_text("utf-8")[:1500], max_new_tokens=256)
    expected, got = (
        next(event for event in one.generate([request]) if isinstance(event, Completion))
        for one in (session, guessing)
    )
    assert (got.text, got.completion_tokens) == (expected.text, expected.completion_tokens)
    assert got.completion_tokens == 256
    assert got.timing.passes is not None
    assert got.timing.passes.accepted > 20


@pytest.mark.parametrize("order", get_args(InfillOrder))
def test_it_fills_a_plain_hole(order: InfillOrder, session: Session) -> None:
    task = InfillTask(
        prefix="class Point:\n    def __init__(self, x, y):\n        self.x = x\n",
        suffix="\n    def length(self):\n        return (self.x**2 + self.y**2) ** 0.5\n",
        middle="        self.y = y\n",
    )
    assert exact_match(infill(session, [task], order=order)[0], task.middle)


def test_it_foresees_source_that_it_never_saw(session: Session) -> None:
    """Well under a bit a byte; a byte of Python costs about five bits without context."""
    texts = [path.read_text(encoding="utf-8") for path in SOURCES]
    measured = bits_per_byte(session, texts, context=2048, stride=1024)
    assert measured.n_bytes > 10_000
    assert measured.value < 1.3


def test_its_export_is_plain_bfloat16_of_the_same_model(mini: ModelFolder, tmp_path: Path) -> None:
    export(mini, tmp_path / "plain", Silence())
    stored, plain = (
        load_model(GPTBigCodeForCausalLM, folder, device="cpu", dtype=torch.bfloat16)
        for folder in (mini.path, tmp_path / "plain")
    )
    for (name, first), (_, second) in zip(
        stored.state_dict().items(), plain.state_dict().items(), strict=True
    ):
        assert torch.equal(first, second), name


@pytest.mark.parametrize(("quantize", "limit"), [("int8", 0.01), ("int4", 0.05)])
def test_quantised_it_loses_little(
    mini: ModelFolder, session: Session, quantize: Quantize, limit: float
) -> None:
    """In nats a token, so 1 % and 5 % of perplexity: activations are rounded too, on a CPU."""
    rounded = Session.open(mini, LoadOptions(quantize=quantize))
    texts = [path.read_text(encoding="utf-8") for path in SOURCES[:4]]
    tokens = sum(len(session.tokenizer.encode(text)[:400]) for text in texts)
    losses = [
        bits_per_byte(one, texts, context=401, stride=400, first_tokens=400).nll / tokens
        for one in (session, rounded)
    ]
    assert abs(losses[1] - losses[0]) < limit
