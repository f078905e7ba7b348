"""Texts to score for tests, what the session makes of them, and models to score with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bigcode_cli.cli.loading import open_session
from bigcode_cli.cli.params import ModelFlags
from bigcode_cli.engine.session import Session
from bigcode_cli.model.checkpoint import save_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import (
    Reporter,
    Scored,
    ScoredTokens,
    ScoreOptions,
    ScoreRequest,
    TokenScore,
)
from tests.cli.conftest import N_POSITIONS
from tests.cli.running import Result
from tests.sessions import random_model
from tests.tokenizers import tiny_json, tiny_tokenizer

TEXT = "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2), 'été 日本語 🙂')\n"
OTHER = "class A:\n\tx = 1\r\n\r\n"

Score = Callable[..., Result]


def scored(session: Session, text: str, **options: Any) -> Scored:
    """What the session makes of a text."""
    lines = options.pop("lines", None)
    asked = ScoreRequest(pieces=[text], lines=lines)
    (done,) = session.score([asked], ScoreOptions(**options))
    assert isinstance(done, Scored)
    return done


def tokens(session: Session, text: str, **options: Any) -> list[TokenScore]:
    """The single tokens of it."""
    events = session.score([ScoreRequest(pieces=[text])], ScoreOptions(tokens=True, **options))
    return [one for event in events if isinstance(event, ScoredTokens) for one in event.tokens]


def close(value: float | None) -> Any:
    """As near as batches of other shapes come."""
    return pytest.approx(value, rel=1e-5)


def content(done: Scored, model: object) -> dict[str, Any]:
    """What JSON says of a score."""
    return {
        "model": str(model),
        "tokens": done.tokens,
        "scored_tokens": done.scored_tokens,
        "bytes": done.n_bytes,
        "nll_sum": close(done.nll_sum),
        "loss": close(done.loss),
        "perplexity": close(done.perplexity),
        "bits_per_byte": close(done.bits_per_byte),
        "context": done.context,
        "stride": done.stride,
        "bos": done.bos,
    }


def objects(result: Result) -> list[dict[str, Any]]:
    """The JSON Lines of an answer."""
    return [json.loads(line) for line in result.stdout.decode("ascii").split("\n") if line]


def rows(result: Result) -> list[list[str]]:
    """The cells of an answer's lines."""
    lines = result.stdout.decode().split("\n")
    assert lines.pop() == ""
    return [line.split("\t") for line in lines]


def gone_meanwhile(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Take files away after they were found and before they are scored."""

    def opened(flags: ModelFlags, report: Reporter) -> Session:
        for name in names:
            Path(name).unlink()
        return open_session(flags, report)

    patch.setattr("bigcode_cli.cli.score.open_session", opened)


def save_random_model(
    folder: Path, *, seed: int, tokenizer: str | None = None, vocab_size: int | None = None
) -> Path:
    """A random model like that of ``model_folder``."""
    folder.mkdir(exist_ok=True)
    config = GPTBigCodeConfig.from_dict(
        {
            "model_type": "gpt_bigcode",
            "vocab_size": vocab_size or tiny_tokenizer().vocab_size,
            "n_positions": N_POSITIONS,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }
    )
    save_model(random_model(config, seed=seed), config, folder, "float32")
    (folder / "tokenizer.json").write_text(tokenizer or tiny_json())
    return folder
