"""The same holes filled with and without guessing tokens ahead, by turns, one at a time.

What guesses are worth depends on how often a text repeats itself and on how often the model does:
a small one strays from what an editor would have written. So it is also counted what lookup would
give if the model wrote the right middle, which takes no model and no clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

from bigcode_cli.bench.infill_run import exact_match, request_for
from bigcode_cli.bench.infill_tasks import InfillTask, spaced
from bigcode_cli.engine import infill
from bigcode_cli.engine.drafts import MAX_GUESSES
from bigcode_cli.engine.lookup import Lookup, lookup_rates
from bigcode_cli.engine.protocol import Prompt
from bigcode_cli.engine.session import Session
from bigcode_cli.errors import BigcodeError
from bigcode_cli.records import Failure, Infilled, InfillRequest, Passes, Reporter
from bigcode_cli.text.tokenizer import Tokenizer

WARM_UPS = 8
"""Tasks that both ways fill before the first that counts: kernels, graphs and the cost of passes
are as they will be then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One task, filled once.

    Attributes:
        tokens: that were sampled up to the middle's end, the first included.
        whole_s: from the request to the middle.
        decode_s: from the first token to the last.
        passes: what came of guesses; ``None`` where none were to be made.
    """

    text: str
    tokens: int
    whole_s: float
    decode_s: float
    passes: Passes | None


@dataclass(slots=True, kw_only=True)
class Pair:
    """One task, filled both ways.

    Attributes:
        plain: the turns without guesses, in their order.
        guessed: the turns with them, each right after its plain one.
        forced: what lookup would come to if the model wrote the right middle; ``None`` where it
            cannot, since the prompt makes another beginning.
        error: why there are no turns, or no more.
    """

    task: InfillTask
    plain: list[Turn] = field(default_factory=list)
    guessed: list[Turn] = field(default_factory=list)
    forced: Passes | None = None
    error: str | None = None

    @property
    def is_equal(self) -> bool:
        """Whether every turn gave one text."""
        return len({turn.text for turn in (*self.plain, *self.guessed)}) == 1

    @property
    def is_exact(self) -> bool:
        """Whether the plain middle is the right one."""
        return exact_match(self.plain[0].text, self.task.middle)


def measure_guesses(
    guessing: Session,
    tasks: Sequence[InfillTask],
    template: InfillRequest,
    *,
    rounds: int,
    report: Reporter,
) -> list[Pair]:
    """Fill all tasks both ways, A B A B …, as often as there are rounds.

    Between two turns of one task lie all others. Every turn reads its whole prompt anew. What a
    session learns of guessing it keeps from one task to the next, as it does where it serves many.

    Args:
        guessing: a session that guesses.
        template: what is asked for each task, which its texts are put into; greedy.
    """
    plain = Session("plain", guessing.tokenizer, guessing.backend)
    pairs = [Pair(task=task, forced=_forced(guessing, task, template)) for task in tasks]
    for task in spaced(tasks, WARM_UPS):
        for session in (plain, guessing):
            _turn(session, request_for(task, template))
    for number in range(rounds):
        for done, pair in enumerate(pairs):
            report.progress(f"round {number + 1} of {rounds}", done, len(pairs), "tasks")
            if pair.error is None:
                _fill_both(pair, plain, guessing, template)
        report.progress(f"round {number + 1} of {rounds}", len(pairs), len(pairs), "tasks")
    return pairs


def _fill_both(pair: Pair, plain: Session, guessing: Session, template: InfillRequest) -> None:
    request = request_for(pair.task, template)
    turns = [_turn(plain, request), _turn(guessing, request)]
    failed = next((turn for turn in turns if isinstance(turn, BigcodeError)), None)
    if failed is not None:
        pair.error = failed.message
        return
    one, other = turns
    assert isinstance(one, Turn)
    assert isinstance(other, Turn)
    pair.plain.append(one)
    pair.guessed.append(other)


def _turn(session: Session, request: InfillRequest) -> Turn | BigcodeError:
    """A task whose prompt is all new."""
    session.backend.forget()
    began = perf_counter()
    events = list(session.infill([request]))
    whole_s = perf_counter() - began
    done = events[-1]
    if isinstance(done, Failure):
        return done.error
    assert isinstance(done, Infilled)
    (middle,) = done.candidates
    tokens, rate = middle.completion_tokens, done.timing.decode_tokens_per_s
    return Turn(
        text=middle.text,
        tokens=tokens,
        whole_s=whole_s,
        decode_s=(tokens - 1) / rate if rate else 0.0,
        passes=done.timing.passes,
    )


def _forced(session: Session, task: InfillTask, template: InfillRequest) -> Passes | None:
    request = request_for(task, template)
    try:
        planned = infill.plan(request, session.tokenizer, session.info.n_positions)
        ids = _right_ids(planned, task, session.tokenizer)
    except BigcodeError:
        return None  # filling it will tell why
    return forced_passes(planned.prompt, ids) if ids else None


def _right_ids(planned: infill.Plan, task: InfillTask, tokenizer: Tokenizer) -> list[int]:
    lead = planned.opening.lead
    if not task.middle.startswith(lead):
        return []
    return tokenizer.encode(planned.healed + task.middle.removeprefix(lead))


def forced_passes(prompt: Prompt, ids: Sequence[int]) -> Passes:
    """What lookup comes to where a row samples these very ids, always guessing all that it can.

    The first one is read from the prompt's state: no pass's. The end of the text is not guessed.
    """
    one_row = replace(prompt, samplers=prompt.samplers[:1])
    (lookup,) = Lookup.of(one_row, lookup_rates())
    lookup.learn(ids[:1])
    passes, place = Passes(), 1
    while place < len(ids):
        left = ids[place:]
        guess = lookup.guess(MAX_GUESSES)[: len(left) - 1]
        held = next(
            (at for at, pair in enumerate(zip(guess, left, strict=False)) if pair[0] != pair[1]),
            len(guess),
        )
        passes = passes.plus(len(guess), held + 1)
        lookup.learn(left[: held + 1])
        place += held + 1
    return passes
