"""A hole becomes a prompt, and its outputs become middles, best first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from bigcode_cli.engine.jobs import Clock, Job
from bigcode_cli.engine.output import Output
from bigcode_cli.engine.prompts import row_seed, told_seed
from bigcode_cli.engine.protocol import Backend, Prompt, Sampler
from bigcode_cli.engine.ranking import rank
from bigcode_cli.records import (
    Candidate,
    Infilled,
    InfillOrder,
    InfillRequest,
    SamplingOptions,
    Span,
)
from bigcode_cli.text.fim import Assembly, Section, assemble, find_dialect
from bigcode_cli.text.middle import MiddleScanner, Opening, choose_span, open_middle
from bigcode_cli.text.tokenizer import Tokenizer

ORDER: InfillOrder = "spm"
"""What ``None`` stands for. The models were trained on both; the built-in one fills more single
lines exactly this way (16.3 % against 12.7 %), and whoever types at the hole changes the prompt's
end alone, so that the cache holds the rest."""

PYTHON = frozenset({"", ".py", ".pyi", ".pyw"})
"""Extensions of files that are looked at as Python; without one, a file may be anything."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A hole made ready for a backend.

    Attributes:
        assembly: of the prompt, which it tells whole.
        opening: how the middle begins.
        healed: what the first new token repeats of the prefix.
        seed: what the samplers were derived from; ``None`` where nothing is drawn.
    """

    prompt: Prompt
    assembly: Assembly
    span: Span
    is_python: bool
    opening: Opening
    healed: str
    seed: int | None


def plan(request: InfillRequest, tokenizer: Tokenizer, n_positions: int) -> Plan:
    """Assemble the prompt and choose how the middle begins, is drawn, and ends.

    The middle's budget is kept free, but no more than half of the context.

    Raises:
        ModelUnsupportedError: the model cannot infill.
        UsageError: the dialect asked for is not the model's, or there is no room for any text.
        InputError: a text holds what the tokenizer cannot encode.
    """
    is_python = request.path is None or PurePath(request.path).suffix.lower() in PYTHON
    span = request.span or choose_span(request.suffix)
    opening = open_middle(request.prefix, request.suffix, span=span, is_python=is_python)
    # The model spells an indentation's last blank together with the word behind it.
    begun, healed = opening.begun[:-1], opening.begun[-1:]
    begun_ids = tokenizer.encode(begun)
    assembly = assemble(
        tokenizer,
        find_dialect(tokenizer, request.dialect),
        opening.prefix,
        request.suffix,
        order=request.order or ORDER,
        room=n_positions - min(request.max_new_tokens, n_positions // 2) - len(begun_ids),
        path=request.path,
        repo=request.repo,
        context=request.context,
    )
    if begun:
        assembly = _begun(assembly, begun, begun_ids)
    seed = told_seed(request.sampling)
    prompt = Prompt(
        ids=assembly.ids,
        samplers=tuple(
            Sampler(options=_options(request, candidate), seed=row_seed(seed, candidate))
            for candidate in range(request.candidates)
        ),
        max_new_tokens=min(request.max_new_tokens, n_positions - len(assembly.ids)),
        first_ids=tokenizer.ids_starting_with(healed.encode()) if healed else None,
        logprobs=0 if request.candidates > 1 and request.logprobs is None else request.logprobs,
    )
    return Plan(prompt, assembly, span, is_python, opening, healed, seed)


def _begun(assembly: Assembly, text: str, ids: Sequence[int]) -> Assembly:
    """The prompt with the middle's beginning behind it."""
    section = Section("prefix", "", text, len(ids))
    return replace(
        assembly,
        ids=(*assembly.ids, *ids),
        sections=(*assembly.sections, section),
        prefix=assembly.prefix + text,
        prefix_tokens=assembly.prefix_tokens + len(ids),
    )


def _options(request: InfillRequest, candidate: int) -> SamplingOptions:
    """The first of several candidates is the most probable middle, the others are sampled."""
    if request.candidates > 1 and candidate == 0:
        return replace(request.sampling, temperature=0.0)
    return request.sampling


def infill_job(
    position: int, request: InfillRequest, tokenizer: Tokenizer, backend: Backend, model: str
) -> Job[Infilled]:
    """Everything that one request needs.

    Raises:
        see ``plan``.
    """
    planned = plan(request, tokenizer, backend.info.n_positions)
    outputs = tuple(
        Output(
            request=position,
            sample=sample,
            tokenizer=tokenizer,
            scanner=MiddleScanner(
                request.prefix,
                request.suffix,
                span=planned.span,
                texts=request.stop_texts,
                is_python=planned.is_python,
                cut_overlap=request.cut_overlap,
                lead=planned.opening.lead,
            ),
            budget=planned.prompt.max_new_tokens,
            healed=planned.healed,
            lead=planned.opening.lead,
        )
        for sample in range(request.candidates)
    )
    due = DueInfill(request, planned, outputs, tokenizer, backend, model)
    return Job(position, request.id, planned.prompt, (due,))


@dataclass(frozen=True, slots=True, eq=False)
class DueInfill:
    """The middles of an ``InfillRequest``; see ``jobs.Due``."""

    request: InfillRequest
    plan: Plan
    outputs: tuple[Output, ...]
    tokenizer: Tokenizer
    backend: Backend
    model: str

    @property
    def streams(self) -> bool:
        """Which of several candidates is best is known at the end alone."""
        return len(self.outputs) == 1

    def answer(self, clock: Clock, *, interrupted: bool) -> Infilled:
        """Several middles in the order of their ranks; of their drawing, if interrupted."""
        assembly = self.plan.assembly
        timing = clock.timing(self.outputs)
        ranked: Sequence[tuple[Output, float | None]]
        if self.streams or interrupted:
            ranked = [(output, None) for output in self.outputs]
        else:
            ranked = rank(
                self.outputs,
                assembly.prefix.removesuffix(self.plan.opening.lead) + self.plan.healed,
                assembly.suffix,
                self.tokenizer,
                self.backend,
                line_end=self._line_end(),
            )
        return Infilled(
            request=self.outputs[0].request,
            id=self.request.id,
            model=self.model,
            candidates=tuple(self._candidate(output, score) for output, score in ranked),
            prompt=assembly.text,
            prompt_tokens=len(assembly.ids),
            prefix_tokens=assembly.prefix_tokens,
            suffix_tokens=assembly.suffix_tokens,
            prefix_dropped=assembly.prefix_dropped,
            suffix_dropped=assembly.suffix_dropped,
            dialect=assembly.dialect.name,
            order=assembly.order,
            span=self.plan.span,
            timing=timing,
            seed=self.plan.seed,
        )

    def _line_end(self) -> str:
        """What a line in front of a whole line leaves to whoever puts it there."""
        prefix, suffix = self.request.prefix, self.request.suffix
        starts_line = not prefix or prefix.endswith("\n")
        is_line = self.plan.span == "line" and bool(suffix.partition("\n")[0].strip())
        return "\n" if starts_line and is_line else ""

    def _candidate(self, output: Output, score: float | None) -> Candidate:
        assert output.finish_reason is not None
        return Candidate(
            text=output.text,
            finish_reason=output.finish_reason,
            stop=output.stop,
            completion_tokens=output.tokens,
            score=score,
            logprobs=tuple(output.logprobs) if self.request.logprobs is not None else None,
        )
