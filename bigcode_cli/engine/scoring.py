"""Teacher-forced likelihood of texts of any length: each token counts exactly once.

Negative log-likelihoods are summed and divided once, at the end; the mean of windows' means, a
recipe often copied, weighs tokens by the window they happen to fall into.
"""

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from bigcode_cli.engine.ahead import begun, made_ahead, mapped_ahead
from bigcode_cli.engine.places import Places
from bigcode_cli.engine.progress import ByteProgress
from bigcode_cli.engine.protocol import Backend, Passage, PassageScores, Pending
from bigcode_cli.engine.windows import run_batched, window_sizes, windows
from bigcode_cli.errors import BigcodeError, ModelCorruptError
from bigcode_cli.records import (
    Failure,
    Reporter,
    Scored,
    ScoredTokens,
    ScoreOptions,
    ScoreRequest,
    TokenScore,
)
from bigcode_cli.text.tokenizer import Tokenizer

PARTS_AHEAD = 256
"""Windows that are made while the model runs; a few megabytes."""


def log_probabilities(
    backend: Backend, ids: Sequence[int], *, context: int, stride: int
) -> list[float]:
    """Of ``ids[1:]``, in nats, in windows where they exceed the context."""
    passages = windows([ids], context=context, stride=stride, first=1)
    results = run_batched(
        ((None, passage) for passage in passages), backend.begin_score, backend.info.batch_tokens
    )
    return [logprob for _, scores in results if scores for logprob in scores.logprobs]


@dataclass(slots=True)
class _Sheet:
    """One text's sums, and where in it the next token begins."""

    position: int
    request: ScoreRequest
    places: Places | None
    tokens: int = 0
    scored: int = 0
    n_bytes: int = 0
    nll_sums: list[float] = field(default_factory=list)
    error: BigcodeError | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    """The next tokens of a text.

    Attributes:
        ids: these tokens.
        n_bytes: that they stand for.
        lead: how many of them, at the text's start, are context alone.
        places: line and column of each, where anyone asks.
        counts: whether each counts; ``None`` where all but the lead do.
        last: whether no more come: the text ended, or failed.
    """

    sheet: _Sheet
    ids: tuple[int, ...] = ()
    n_bytes: int = 0
    lead: int = 0
    places: tuple[tuple[int, int], ...] = ()
    counts: tuple[bool, ...] | None = None
    last: bool = False


_Item = tuple[_Part, Passage | None]


class Scorer:
    """Scores texts with one model.

    Args:
        name: of the model, for the records.

    Raises:
        UsageError: context and stride fit neither the model nor each other.
    """

    def __init__(
        self, name: str, tokenizer: Tokenizer, backend: Backend, options: ScoreOptions
    ) -> None:
        self._name = name
        self._tokenizer = tokenizer
        self._backend = backend
        self._options = options
        self._context, self._stride = window_sizes(
            options.context, options.stride, backend.info.n_positions
        )

    def run(
        self, requests: Iterable[ScoreRequest], report: Reporter, total_bytes: int | None
    ) -> Generator[ScoredTokens | Scored | Failure]:
        """See ``Session.score``."""
        progress = ByteProgress(report, "scoring", total_bytes)
        batch_tokens = self._backend.info.batch_tokens
        with closing(made_ahead(self._all_parts(requests), PARTS_AHEAD)) as parts:
            for part, scores in run_batched(parts, self._begin_batch, batch_tokens):
                sheet = part.sheet
                if part.last:
                    yield self._end(sheet)
                    continue
                self._count(part, scores)
                if self._options.tokens:
                    yield ScoredTokens(sheet.position, tuple(self._told(part, scores)))
                progress.count(part.n_bytes)
        progress.end()

    def _begin_batch(self, passages: Sequence[Passage]) -> Pending[list[PassageScores]]:
        return self._backend.begin_score(passages, detail=self._options.tokens)

    def _all_parts(self, requests: Iterable[ScoreRequest]) -> Iterator[_Item]:
        encoded = mapped_ahead(self._begin, requests)
        for position, (request, chunks) in enumerate(encoded):
            yield from self._parts(position, request, chunks)

    def _begin(self, request: ScoreRequest) -> tuple[ScoreRequest, Iterator[Sequence[int]]]:
        """Encode the first chunk of a text: all of it, as a rule."""
        count = 2 if self._options.bos else 1
        return request, begun(self._chunks(request.pieces), count)

    def _parts(
        self, position: int, request: ScoreRequest, chunks: Iterable[Sequence[int]]
    ) -> Iterator[_Item]:
        """A text's parts in order, each with the passage that scores it if anything in it counts.

        What goes wrong ends it: the text is gone, or holds what the tokenizer cannot encode.
        """
        watched = self._options.tokens or request.lines is not None
        sheet = _Sheet(position, request, Places() if watched else None)
        # Without an end of text before it, a text's first token is nobody's target.
        first = 1 if self._options.bos else 0
        try:
            for window in windows(chunks, context=self._context, stride=self._stride, first=first):
                part = self._part(sheet, window)
                yield part, self._passage(window, part)
        except BigcodeError as error:
            sheet.error = error
        yield _Part(sheet, last=True), None

    def _chunks(self, pieces: Iterable[str]) -> Iterator[Sequence[int]]:
        """The ids of a text, behind one end of text where that is asked for."""
        known = self._backend.info.vocab_size
        if self._options.bos:
            yield [self._tokenizer.eos_id]
        for ids in self._tokenizer.encode_pieces(pieces):
            if ids and max(ids) >= known:
                raise ModelCorruptError(
                    f"the tokenizer knows the id {max(ids)}, the model {known} tokens"
                )
            yield ids

    def _part(self, sheet: _Sheet, window: Passage) -> _Part:
        ids = window.ids[window.counted :]
        lead = 0 if window.counted else 1
        lengths = self._tokenizer.byte_lengths
        n_bytes = sum(lengths[id_] for id_ in ids)
        sheet.tokens += len(ids)
        if sheet.places is None:
            return _Part(sheet, ids, n_bytes, lead)
        places = tuple(map(sheet.places.take, map(self._tokenizer.token_bytes, ids)))
        lines = sheet.request.lines
        counts = None if lines is None else tuple(line in lines for line, _ in places)
        return _Part(sheet, ids, n_bytes, lead, places, counts)

    def _passage(self, window: Passage, part: _Part) -> Passage | None:
        """What the model is to run for a part; nothing where nothing of it counts."""
        if len(part.ids) == part.lead or (part.counts is not None and not any(part.counts)):
            return None
        return Passage(window.ids, window.counted + part.lead)

    def _count(self, part: _Part, scores: PassageScores | None) -> None:
        """Add what counts to the text's sums."""
        if scores is None:
            return
        sheet, lengths = part.sheet, self._tokenizer.byte_lengths
        logprobs, n_bytes = scores.logprobs, part.n_bytes
        n_bytes -= sum(lengths[id_] for id_ in part.ids[: part.lead])
        if part.counts is not None:
            counted = [at for at, counts in enumerate(part.counts[part.lead :]) if counts]
            logprobs = [logprobs[at] for at in counted]
            n_bytes = sum(lengths[part.ids[part.lead + at]] for at in counted)
        sheet.scored += len(logprobs)
        sheet.n_bytes += n_bytes
        sheet.nll_sums.append(-math.fsum(logprobs))

    def _told(self, part: _Part, scores: PassageScores | None) -> Iterator[TokenScore]:
        for at, (id_, (line, column)) in enumerate(zip(part.ids, part.places, strict=True)):
            data, place = self._tokenizer.token_bytes(id_), at - part.lead
            counts = place >= 0 and (part.counts is None or part.counts[at])
            if scores is None or not counts:
                yield TokenScore(id_, data, line, column, None, None, None)
                continue
            logprob, rank = scores.logprobs[place], scores.ranks[place]
            yield TokenScore(id_, data, line, column, logprob, rank, scores.entropies[place])

    def _end(self, sheet: _Sheet) -> Scored | Failure:
        error, nll_sum = sheet.error, math.fsum(sheet.nll_sums)
        if error is None and not math.isfinite(nll_sum):
            error = ModelCorruptError("the model's logits are not numbers", "try --dtype float32")
        if error is not None:
            return Failure(sheet.position, sheet.request.id, error)
        return Scored(
            request=sheet.position,
            id=sheet.request.id,
            model=self._name,
            tokens=sheet.tokens,
            scored_tokens=sheet.scored,
            n_bytes=sheet.n_bytes,
            nll_sum=nll_sum,
            context=self._context,
            stride=self._stride,
            bos=self._options.bos,
        )
