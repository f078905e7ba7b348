"""A prompt to complete, how its tokens are drawn, and what comes of it."""

import math
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Literal

from bigcode_cli.errors import UsageError

StopAt = Literal["eos", "line", "block"]
FinishReason = Literal["eos", "stop", "length", "interrupted"]

MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """How the next token is drawn from the logits.

    The filters apply in this order: repetition penalty, temperature, top-k, top-p, min-p.

    Attributes:
        temperature: 0 is greedy: the most probable token, the lowest id among equals.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the smallest set of tokens whose probability reaches this
            (Holtzman et al. 2020, nucleus sampling); 1 keeps all.
        min_p: keep tokens at least this share as probable as the best; 0 keeps all.
        repetition_penalty: divides the positive and multiplies the negative logits of tokens
            already in prompt or output (Keskar et al. 2019, CTRL); 1 changes nothing.
        seed: repeats a result on the same backend and version; ``None`` draws one.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError(
                f"--temperature must be 0 or more, not {self.temperature:g}", "0 is greedy"
            )
        if self.top_k < 0:
            raise UsageError(f"--top-k must be 0 or more, not {self.top_k}", "0 keeps all tokens")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p must be above 0 and at most 1, not {self.top_p:g}")
        if not 0 <= self.min_p <= 1:
            raise UsageError(f"--min-p must be between 0 and 1, not {self.min_p:g}")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise UsageError(
                f"--repetition-penalty must be above 0, not {self.repetition_penalty:g}",
                "1 changes nothing, 1.1 discourages repetition",
            )
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"--seed must be between 0 and {MAX_SEED}, not {self.seed}")

    @property
    def greedy(self) -> bool:
        """Whether the result needs no randomness."""
        return self.temperature == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StopOptions:
    """Where an output ends before its token budget does.

    Attributes:
        texts: stop strings; the output ends before the first of them.
        at: ``eos`` at the end of the text; ``line`` at the first line end; ``block`` at the
            first line indented less than the block that the output began.
    """

    texts: tuple[str, ...] = ()
    at: StopAt = "eos"

    def __post_init__(self) -> None:
        if "" in self.texts:
            raise UsageError("--stop must not be empty", "an empty text is found everywhere")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One prompt to complete.

    Attributes:
        id: the caller's name for it, handed back unchanged.
        max_new_tokens: budget; the context's end may come first.
        num_samples: completions drawn from one shared prefill.
        logprobs: alternatives to report for each token; ``None`` reports none.
        heal: back up the prompt's last token and make the first new one agree with it.
        truncate: drop the prompt's left end where it leaves no room.
    """

    prompt: str
    id: str | None = None
    max_new_tokens: int = 128
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    stops: StopOptions = field(default_factory=StopOptions)
    num_samples: int = 1
    logprobs: int | None = None
    heal: bool = False
    truncate: bool = False

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UsageError(f"--max-new-tokens must be at least 1, not {self.max_new_tokens}")
        if self.num_samples < 1:
            raise UsageError(f"--num-samples must be at least 1, not {self.num_samples}")
        if self.num_samples > 1 and self.sampling.greedy:
            raise UsageError(
                "several greedy samples would all be the same", "set a --temperature above 0"
            )
        if self.logprobs is not None and not 0 <= self.logprobs <= 100:
            raise UsageError(f"--logprobs must be between 0 and 100, not {self.logprobs}")


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's natural log-probability under the model, before any filter.

    Attributes:
        text: the token's bytes as UTF-8, with U+FFFD where they are no whole character.
        top: the most probable alternatives, best first, each without a ``top`` of its own.
    """

    id: int
    text: str
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one output that is final: no stop string, no half character.

    Attributes:
        request: the position of its request among those handed in.
        sample: the sample's index within that request.
    """

    request: int
    sample: int
    text: str


@dataclass(frozen=True, slots=True)
class Passes:
    """What came of guessing tokens ahead, of one output or several.

    Attributes:
        without: passes through the model without a guess, a token each.
        held: at ``n``, the passes of whose guesses the first ``n`` held: ``n + 1`` tokens each.
        guessed: tokens that were guessed in them.
    """

    without: int = 0
    held: tuple[int, ...] = ()
    guessed: int = 0

    @property
    def count(self) -> int:
        """All passes."""
        return self.without + sum(self.held)

    @property
    def accepted(self) -> int:
        """Guesses that held."""
        return sum(held * passes for held, passes in enumerate(self.held))

    @property
    def tokens_per_pass(self) -> float | None:
        """On average; ``None`` of no pass."""
        return 1 + self.accepted / self.count if self.count else None

    def plus(self, guessed: int, tokens: int) -> "Passes":
        """With one more pass, over so many guesses, that gave so many tokens."""
        if not guessed:
            return replace(self, without=self.without + 1)
        held = [*self.held, *[0] * (tokens - len(self.held))]
        held[tokens - 1] += 1
        return replace(self, held=tuple(held), guessed=self.guessed + guessed)

    def __add__(self, other: "Passes") -> "Passes":
        """Of both."""
        held = zip_longest(self.held, other.held, fillvalue=0)
        return Passes(
            self.without + other.without,
            tuple(mine + theirs for mine, theirs in held),
            self.guessed + other.guessed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds and rates of one output; ``None`` where nothing was there to time.

    Attributes:
        first_token_s: from when the requests were handed in, right after loading, to the first
            token.
        prefill_tokens_per_s: of the tokens that were run through the model, with those of the
            prompts beside it.
        decode_tokens_per_s: of all candidates together, where there are several.
        reused_tokens: of the prompt, those that the model still had in its cache.
        passes: what guesses came to, of all candidates; ``None`` where none were to be made.
    """

    load_s: float
    first_token_s: float | None
    prefill_tokens_per_s: float | None
    decode_tokens_per_s: float | None
    reused_tokens: int = 0
    passes: Passes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One finished output.

    Attributes:
        request: the position of its request among those handed in.
        sample: the sample's index within that request.
        stop: the stop string that ended it, if one did.
        prompt_tokens: what was fed; a token that healing took back counts as sampled, not twice.
        seed: what repeats it; ``None`` where nothing was drawn.
    """

    request: int
    sample: int
    id: str | None
    model: str
    prompt: str
    text: str
    finish_reason: FinishReason
    stop: str | None
    prompt_tokens: int
    completion_tokens: int
    timing: Timing
    seed: int | None
    logprobs: tuple[TokenLogprob, ...] | None = None
