"""The engine's own sides of a measurement: a backend on token ids, and a session on text."""

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bigcode_cli.bench.cases import Case
from bigcode_cli.bench.measure import Mark
from bigcode_cli.engine import protocol
from bigcode_cli.engine.protocol import Backend, Passage, Prompt, Rows, Sampler
from bigcode_cli.engine.session import Session
from bigcode_cli.errors import BigcodeError
from bigcode_cli.records import Completion, GenerateRequest, SamplingOptions

OURS = "bigcode"

DRAWN = SamplingOptions(temperature=0.8, top_p=0.95, seed=0)
"""How an end-to-end request samples: with filters, as people do."""

_GREEDY = Sampler(options=SamplingOptions(), seed=0)


class BackendSide:
    """``pp``, ``tg`` and ``sc`` on random ids, through what every backend offers.

    A token is chosen greedily, by the arg-max of its logits, and handed to the host: that much of
    choosing is part of a backend's step.
    """

    name = OURS

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.weight_bytes = backend.info.weight_bytes
        self.ids: list[list[int]] = []
        self.nll: float | None = None

    def can(self, case: Case) -> bool:
        """See ``measure.Side``."""
        return case.kind != "e2e"

    def tokens(self, case: Case) -> int:
        """See ``measure.Side``."""
        return case.tokens

    def release(self) -> None:
        """See ``measure.Side``."""
        self._backend.forget()

    def run(self, case: Case) -> Iterator[Mark]:
        """See ``measure.Side``."""
        ids = [tuple(row) for row in case.ids(self._backend.info.vocab_size)]
        work = {"pp": self._prefill, "tg": self._decode, "sc": self._score}[case.kind]
        yield from work(case, ids)

    def _prefill(self, case: Case, ids: list[tuple[int, ...]]) -> Iterator[Mark]:
        if case.n_depth:
            self._begin([row[: case.n_depth] for row in ids], 1)
        yield "begun"
        rows = self._begin(ids, 1)
        yield "ended"
        if rows.reused != case.n_depth:
            raise BigcodeError(f"of {case.n_depth} tokens held already, {rows.reused} were reused")
        rows.step()
        yield "first"

    def _decode(self, case: Case, ids: list[tuple[int, ...]]) -> Iterator[Mark]:
        rows = self._begin(ids, case.n_gen + 1)
        chosen = [rows.step()]  # reads the prompt's logits: no pass of its own
        yield "begun"
        chosen += [rows.step() for _ in range(case.n_gen)]
        yield "ended"
        self.ids = [[token.id for token in row] for row in zip(*chosen, strict=True)]

    def _score(
        self,
        case: Case,
        ids: list[tuple[int, ...]],
    ) -> Iterator[Mark]:
        passages = [Passage(row, 1) for row in ids]
        yield "begun"
        scores = self._backend.score(passages)
        yield "ended"
        self.nll = -math.fsum(map(math.fsum, (one.logprobs for one in scores))) / case.tokens

    def _begin(self, ids: list[tuple[int, ...]], max_new_tokens: int) -> Rows:
        prompts = [
            Prompt(ids=row, samplers=(_GREEDY,), max_new_tokens=max_new_tokens) for row in ids
        ]
        return self._backend.prefill(prompts)


class SessionSide:
    """``e2e``: source text in, sampled text out, everything between counted in."""

    name = OURS

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tokens = 0
        self.ids: list[list[int]] = []
        self.nll: float | None = None
        self.weight_bytes = session.info.weight_bytes

    def can(self, case: Case) -> bool:
        """See ``measure.Side``."""
        return case.kind == "e2e"

    def tokens(self, case: Case) -> int:  # noqa: ARG002
        """See ``measure.Side``: a text may end by itself."""
        return self._tokens

    def release(self) -> None:
        """See ``measure.Side``."""
        self._session.backend.forget()

    def run(self, case: Case) -> Iterator[Mark]:
        """See ``measure.Side``. The first token is known when its text is told."""
        prompt = self._prompt(case.n_prompt)
        request = GenerateRequest(prompt=prompt, max_new_tokens=case.n_gen, sampling=DRAWN)
        is_told = False
        yield "begun"
        for event in self._session.generate([request]):
            if not is_told:
                is_told = True
                yield "first"
            if isinstance(event, Completion):
                self._tokens = event.completion_tokens
        yield "ended"

    def _prompt(self, size: int) -> str:
        """Code of this very package, as much as makes that many tokens."""
        ids: list[int] = []
        while len(ids) < size:
            ids += self._session.tokenizer.encode(_source())
        return self._session.tokenizer.decode(ids[:size])


@cache
def _source() -> str:
    return Path(protocol.__file__).read_text(encoding="utf-8")
