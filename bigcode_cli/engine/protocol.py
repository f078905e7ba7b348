"""What a backend is: the one narrow bridge between the torch-free engine and the arithmetic.

A backend holds one model. It is handed token ids and hands back token ids; text, stop strings and
requests are unknown to it, and tensors are unknown to its callers.
"""

from array import array
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self, TypeVar

from bigcode_cli.records import ChangeCosts, SamplingOptions

ResultT = TypeVar("ResultT")
ResultT_co = TypeVar("ResultT_co", covariant=True)

HeadKind = Literal["sequence", "token"]
Activation = Literal["softmax", "sigmoid", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendInfo:
    """What a loaded model is and can take.

    Attributes:
        name: ``torch``, ``native`` …
        dtype: of the activations; ``weights`` names how the weights are stored.
        n_positions: the longest sequence.
        batch_tokens: tokens, padding counted in, that a pass over several sequences does best with.
        prefill_tokens: tokens, padding counted in, that fill a pass over prompts: with more it
            takes longer in proportion, and rows under way wait for it.
        max_rows: rows to decode side by side. More would gain little and cost each its cache.
        vocab_size: ids that may be sampled: ``0 … vocab_size - 1``.
        weight_bytes: what the weights occupy.
    """

    name: str
    device: str
    dtype: str
    weights: str
    n_positions: int
    batch_tokens: int
    prefill_tokens: int
    max_rows: int
    vocab_size: int
    weight_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """How one row draws its tokens: the options and the seed of its own random stream.

    A row's draws are the doubles of ``random.Random(seed)`` in ``[0, 1)``, one a token, each
    mapped to a token by the inverse of the filtered distribution's cumulative sum in id order: so
    a result depends neither on the rows beside it nor on the device.
    """

    options: SamplingOptions
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Token ids to continue, by as many rows as there are samplers, over one shared prefill.

    Attributes:
        max_new_tokens: how many tokens a row will be asked for at most.
        first_ids: the only ids allowed as each row's first new token; ``None`` allows all.
        logprobs: alternatives to report beside each token; ``None`` reports no log-probability.
    """

    ids: tuple[int, ...]
    samplers: tuple[Sampler, ...]
    max_new_tokens: int
    first_ids: tuple[int, ...] | None = None
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """One sampled id, with natural log-probabilities before any filter where they were asked for.

    Attributes:
        top: the most probable (id, log-probability) pairs, best first.
    """

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """Token ids that are run through the model at once.

    Attributes:
        counted: ``ids[counted:]`` are what the pass is for; those before are their context.
    """

    ids: tuple[int, ...]
    counted: int


@dataclass(frozen=True, slots=True)
class PassageScores:
    """How likely the model found the ids of a passage that count, in their order.

    Attributes:
        logprobs: natural log-probabilities, computed in float32.
        ranks: how many ids the model found more probable, and 1; of equals the lower id is more
            probable. Empty unless asked for.
        entropies: of the distributions over the ids, in nats. Empty unless asked for.
    """

    logprobs: list[float]
    ranks: list[int]
    entropies: list[float]


class Pending(Protocol[ResultT_co]):
    """Work that was begun, and that a device may still be at."""

    def is_done(self) -> bool:
        """Whether ``wait`` would give its result at once."""

    def wait(self) -> ResultT_co:
        """The result."""


class Rows(Protocol):
    """Sequences that are decoded side by side, each in its own part of the KV cache.

    Attributes:
        reused: prompt tokens that an earlier prefill had run through the model already.
    """

    reused: int

    def __len__(self) -> int:
        """How many rows are left."""

    def step(self) -> list[Token]:
        """Feed the token that each row sampled last (none, the first time) and sample the next.

        Raises:
            ModelCorruptError: the logits of a row are not numbers.
        """

    def prepare(self, guesses: int) -> None:
        """Do what takes time but once: before passes that are timed.

        Args:
            guesses: as many a row are to be verified; 0 before a step.
        """

    def verify(self, guesses: Sequence[Sequence[int]]) -> list[list[Token]]:
        """Several steps in one pass, as far as it was guessed what they would sample.

        Each row's last token is fed with the guess behind it, and the row is sampled behind each:
        its tokens are those of one ``step`` after the other, up to the first that was guessed
        wrong, or that there was no guess for. They depend on the guesses in their number alone:
        in what they are, by no more than rounding (a pass over several tokens sums otherwise).

        The first tokens are read from the prompt's state: nothing is fed, and no guess looked at.

        Args:
            guesses: a row's next ids, any number of them; where the context ends, fewer may be
                looked at.

        Returns:
            at least one token a row, and at most one more than its guess has.

        Raises:
            ModelCorruptError: as ``step``.
        """

    def replace(self, dropped: Sequence[int], tokens: Sequence[Sequence[int]]) -> None:
        """Go on behind other tokens, as if they and none but they had been sampled.

        What follows is drawn as if so: by the same place in the row's random stream, with the same
        penalties.

        Args:
            dropped: how many of a row's sampled tokens, from the last, are taken back.
            tokens: what comes in their place, more or fewer; each row has sampled at least one
                then.
        """

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in this order; the others' cache is free for who joins.

        It costs least where rows stay in their places, and the last ones fill the others' places.
        """

    def join(self, other: Self) -> None:
        """Go on with the rows of ``other`` too, behind these; it is not to be used any more.

        Nothing but the rows beside a row changes: it goes on as it would have alone, but for
        rounding.

        Args:
            other: of the same backend. Each row of both has sampled a token at least.

        Raises:
            ModelTooLargeError: there is no memory for so many; both are as they were.
        """


class Backend(Protocol):
    """One loaded model."""

    @property
    def info(self) -> BackendInfo:
        """What it is and can take."""

    def prefill(self, prompts: Sequence[Prompt]) -> Rows:
        """Run the prompts through the model and make one row for each sampler.

        Rows stand in the order of the prompts and, within one, of its samplers. What a prompt has
        in common with earlier ones may be reused: the results are those of a fresh run.

        Raises:
            as ``prefilling``.
        """

    def prefilling(self, prompts: Sequence[Prompt]) -> Generator[tuple[int, int], None, Rows]:
        """``prefill`` in chunks, between which other rows may be stepped.

        Yields:
            behind each chunk, how many tokens of the longest prompt are done, and how many it has.

        Returns:
            the rows.

        Raises:
            UsageError: a prompt is empty or longer than ``n_positions``.
            ModelTooLargeError: the KV cache does not fit into memory.
        """

    def forget(self) -> None:
        """Give back what is kept of earlier prompts: the next ones are run through afresh."""

    def score(self, passages: Sequence[Passage], *, detail: bool = False) -> list[PassageScores]:
        """Log-probabilities of the ids that count, each given all ids before it in its passage.

        The passages go through the model side by side, in one pass; each gets what it would get
        alone.

        Args:
            detail: tell ranks and entropies too.

        Raises:
            UsageError: a passage is longer than ``n_positions``.
        """

    def begin_score(
        self, passages: Sequence[Passage], *, detail: bool = False
    ) -> Pending[list[PassageScores]]:
        """``score``, not waited for: so that a device has the next passages before it is done."""

    def score_tails(
        self, ids: Sequence[int], tails: Sequence[Sequence[int]], count: int
    ) -> list[list[float]]:
        """The log-probabilities of the last ``count`` ids of each tail behind ``ids``.

        The common ``ids`` are run through the model once.

        Args:
            ids: at least one.
            tails: of at least ``count`` ids each.

        Raises:
            UsageError: ``ids`` and the longest tail exceed ``n_positions``.
            ModelTooLargeError: the KV cache does not fit into memory.
        """


def at_once(chunks: Generator[object, None, ResultT]) -> ResultT:
    """What comes of work that is done in chunks, with nothing done between them."""
    while True:
        try:
            next(chunks)
        except StopIteration as end:
            result: ResultT = end.value
            return result


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierInfo:
    """What a loaded classifier is and can take.

    Attributes:
        name: ``torch``, ``native`` …
        dtype: of the activations; ``weights`` names how the weights are stored.
        kind: it labels whole sequences, or each token.
        labels: in the order of their ids.
        activation: what makes scores of logits: ``softmax`` where one label is right, ``sigmoid``
            where any number may be, ``none`` where the logits are the values that are wanted.
        n_positions: the longest sequence.
        context: tokens of a window of a longer text, unless others are asked for.
        change_costs: by which a token head's labels are read as a path; ``None`` reads each by
            itself.
        batch_tokens: tokens, padding counted in, that a pass over several sequences does best with.
        vocab_size: rows of the embedding: ids are ``0 … vocab_size - 1``.
        weight_bytes: what the weights occupy.
    """

    name: str
    device: str
    dtype: str
    weights: str
    kind: HeadKind
    labels: tuple[str, ...]
    activation: Activation
    n_positions: int
    context: int
    change_costs: ChangeCosts | None
    batch_tokens: int
    vocab_size: int
    weight_bytes: int


class Classifier(Protocol):
    """One loaded model with a head that classifies.

    The passages of a call go through the model side by side, in one pass; each gets what it would
    get alone.
    """

    @property
    def info(self) -> ClassifierInfo:
        """What it is and can take."""

    def logits(self, passages: Sequence[Passage]) -> list[list[float]]:
        """Of a sequence head: the logits of each passage, read at its last id.

        Raises:
            UsageError: a passage is empty or longer than ``n_positions``, or the head is of the
                other kind.
            ModelCorruptError: an id has no row in the model, or logits are not numbers.
            ModelTooLargeError: there is no memory for the pass.
        """

    def token_scores(self, passages: Sequence[Passage]) -> "list[array[float]]":
        """Of a token head: the log-probabilities of the labels, for each id that counts.

        Returns:
            for each passage one ``array("f")``: float32 in nats, of all labels of the first id,
            then of all labels of the second, and so on.

        Raises:
            as ``logits``.
        """
