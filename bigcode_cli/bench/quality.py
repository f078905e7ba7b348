"""How good a model is: bits per byte, exact infills, completions that parse or go in circles.

Four measures over a loaded session, each pure but for the model's arithmetic. They read texts and
tasks; where those come from is the caller's business (see ``bench/card.py``).
"""

import ast
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from bigcode_cli.bench.infill_tasks import InfillTask
from bigcode_cli.engine.scoring import log_probabilities
from bigcode_cli.engine.session import Session
from bigcode_cli.records import (
    Completion,
    Failure,
    GenerateRequest,
    Infilled,
    InfillOrder,
    InfillRequest,
    StopOptions,
)

INFILL_TOKENS = 96
"""Budget of a single-line middle; the longest of the tasks has 51 StarCoder tokens."""

PARSE_TOKENS = RUN_ON_TOKENS = 256
IN_A_ROW = 4


@dataclass(frozen=True, slots=True)
class BitsPerByte:
    """Negative log-likelihood of some texts and the bytes of the tokens that it counts."""

    nll: float
    n_bytes: int
    files: int

    @property
    def value(self) -> float:
        """Bits per byte, byte-weighted over all texts."""
        return self.nll / math.log(2) / self.n_bytes


def bits_per_byte(
    session: Session,
    texts: Iterable[str],
    *,
    context: int,
    stride: int,
    first_tokens: int | None = None,
) -> BitsPerByte:
    """Score texts after one ``<|endoftext|>`` each, first token included.

    Args:
        context: longest window, the ``<|endoftext|>`` counted in.
        stride: see ``engine.windows.windows``.
        first_tokens: how much of each text counts; ``None`` is all of it.
    """
    tokenizer = session.tokenizer
    nll, n_bytes, files = 0.0, 0, 0
    for text in texts:
        ids = tokenizer.encode(text)[:first_tokens]
        if not ids:
            continue
        scores = log_probabilities(
            session.backend, [tokenizer.eos_id, *ids], context=context, stride=stride
        )
        nll -= math.fsum(scores)
        n_bytes += sum(tokenizer.byte_lengths[id_] for id_ in ids)
        files += 1
    return BitsPerByte(nll, n_bytes, files)


def infill(
    session: Session, tasks: Sequence[InfillTask], *, order: InfillOrder = "psm"
) -> list[str]:
    """Greedy single-line middles, each up to its line's end.

    Raises:
        ModelUnsupportedError: the tokenizer has no fill-in-the-middle tokens.
    """
    requests = [
        InfillRequest(
            prefix=task.prefix,
            suffix=task.suffix,
            order=order,
            span="line",
            cut_overlap=False,
            max_new_tokens=INFILL_TOKENS,
        )
        for task in tasks
    ]
    middles = [""] * len(tasks)
    for event in session.infill(requests):
        if isinstance(event, Failure):
            raise event.error
        if isinstance(event, Infilled):
            middles[event.request] = event.candidates[0].text
    return middles


def complete(session: Session, prompts: Sequence[str]) -> list[str]:
    """Greedy completions to the block's end, healed, of at most ``PARSE_TOKENS`` tokens."""
    requests = [
        GenerateRequest(
            prompt=prompt,
            max_new_tokens=PARSE_TOKENS,
            stops=StopOptions(at="block"),
            heal=True,
            truncate=True,
        )
        for prompt in prompts
    ]
    return _complete(session, requests)


def _complete(session: Session, requests: Sequence[GenerateRequest]) -> list[str]:
    texts = [""] * len(requests)
    for event in session.generate(requests):
        if isinstance(event, Failure):
            raise event.error
        if isinstance(event, Completion):
            texts[event.request] = event.text
    return texts


def run_on(session: Session, prompts: Sequence[str]) -> list[str]:
    """Greedy completions to the end of the text, healed, of at most ``RUN_ON_TOKENS`` tokens."""
    requests = [
        GenerateRequest(prompt=prompt, max_new_tokens=RUN_ON_TOKENS, heal=True, truncate=True)
        for prompt in prompts
    ]
    return _complete(session, requests)


def repeats_a_line(completion: str) -> bool:
    """Whether one line stands ``IN_A_ROW`` times in a row; blank lines between do not part them."""
    lines = [line for line in completion.splitlines() if line.strip()]
    return any(len(list(run)) >= IN_A_ROW for _, run in groupby(lines))


def parses(prompt: str, completion: str, entry_point: str) -> bool:
    """Whether prompt and completion, cut at their last whole line, are a function with a body.

    The body counts where it holds something other than a docstring, ``pass`` and ``...``.
    """
    text = prompt + completion
    text = text[: text.rfind("\n") + 1]
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    functions = [
        node
        for node in module.body
        if isinstance(node, ast.FunctionDef) and node.name == entry_point
    ]
    return bool(functions) and any(_says_something(node) for node in functions[0].body)


def _says_something(node: ast.stmt) -> bool:
    constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return not constant and not isinstance(node, ast.Pass)
