"""A request's text becomes the token ids that a backend continues."""

import hashlib
import secrets
from dataclasses import dataclass

from bigcode_cli.engine.protocol import Prompt, Sampler
from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.records import GenerateRequest, SamplingOptions
from bigcode_cli.text.tokenizer import Tokenizer

_SEED_BITS = 32  # drawn seeds stay short enough to be typed again


@dataclass(frozen=True, slots=True)
class Plan:
    """A request made ready for a backend.

    Attributes:
        healed: what the first new token repeats of the prompt's text.
        seed: what the samplers were derived from; ``None`` where nothing is drawn.
    """

    prompt: Prompt
    healed: str
    seed: int | None


def plan(request: GenerateRequest, tokenizer: Tokenizer, n_positions: int) -> Plan:
    """Encode, heal, truncate and budget a request.

    Raises:
        InputError: the prompt is empty or holds a lone surrogate.
        UsageError: the prompt leaves no room in the context and may not be truncated.
    """
    ids = tokenizer.encode(request.prompt)
    if not ids:
        raise InputError("the prompt is empty")
    ids, healed, first_ids = _heal(ids, tokenizer) if request.heal else (ids, "", None)
    ids = _fit(ids, request, n_positions)
    seed = told_seed(request.sampling)
    prompt = Prompt(
        ids=tuple(ids),
        samplers=tuple(
            Sampler(options=request.sampling, seed=row_seed(seed, sample))
            for sample in range(request.num_samples)
        ),
        max_new_tokens=min(request.max_new_tokens, n_positions - len(ids)),
        first_ids=first_ids,
        logprobs=request.logprobs,
    )
    return Plan(prompt, healed, seed)


def _fit(ids: list[int], request: GenerateRequest, n_positions: int) -> list[int]:
    if len(ids) < n_positions:
        return ids
    if not request.truncate:
        raise UsageError(
            f"the prompt has {len(ids)} tokens and the model's context {n_positions}: "
            "no room for a completion",
            "--truncate drops the prompt's left end",
        )
    return ids[len(ids) - n_positions + min(request.max_new_tokens, n_positions - 1) :]


def _heal(ids: list[int], tokenizer: Tokenizer) -> tuple[list[int], str, tuple[int, ...] | None]:
    """Token healing: take the last token back and let the first new one begin with its bytes.

    A prompt that ends in half a token is off the distribution that the model was trained on. A
    lone token cannot be taken back, nor one that is no whole character: its text could not be
    told from the rest.
    """
    *kept, last = ids
    spelled = tokenizer.token_bytes(last)
    try:
        healed = spelled.decode("utf-8")
    except UnicodeDecodeError:
        return ids, "", None
    if not kept:
        return ids, "", None
    return kept, healed, tokenizer.ids_starting_with(spelled)


def told_seed(sampling: SamplingOptions) -> int | None:
    """The seed that repeats a request, drawn where none is given; ``None`` if nothing is drawn."""
    if sampling.greedy:
        return None
    if sampling.seed is not None:
        return sampling.seed
    return secrets.randbits(_SEED_BITS)


def row_seed(seed: int | None, sample: int) -> int:
    """A stream of its own for each sample, so that sample 1 of seed 5 is not sample 0 of seed 6."""
    digest = hashlib.sha256(f"{seed}:{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big")
