"""Guessed tokens against the same session without guesses."""

import dataclasses
import random
from collections import Counter
from collections.abc import Sequence

import pytest
import torch

from bigcode_cli.backends.sampling import SamplingTensors, filtered_probabilities, penalised
from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.backends.torch_rows import TorchRows
from bigcode_cli.engine import drafts, speculate
from bigcode_cli.engine.pace import Pace
from bigcode_cli.engine.protocol import Backend, Prompt, Sampler, Token
from bigcode_cli.engine.session import Session
from bigcode_cli.engine.speculate import Speculation, require_same_vocabulary
from bigcode_cli.errors import UsageError
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import (
    Chunk,
    Completion,
    GenerateRequest,
    Infilled,
    InfillRequest,
    Passes,
    SamplingOptions,
    StopOptions,
)
from bigcode_cli.text.tokenizer import Tokenizer
from tests.sessions import random_model, random_session
from tests.tokenizers import starcoder_tokenizer, tiny_json, tiny_tokenizer

WARM = SamplingOptions(temperature=0.9, top_p=0.9, repetition_penalty=1.2, seed=3)
LINES = "x = a + b\ny = a + b\nz = a + b\nx = a + b\n"
PROMPTS = ("def foo(", LINES, "import os\n\n\nclass Thing:\n    def __init__(self", "a")


class Rash(Pace):
    """Guesses as far as there are guesses, now and then less far, whatever it costs."""

    def __init__(self) -> None:
        super().__init__()
        self._random = random.Random(1)

    def width(
        self,
        chances: Sequence[Sequence[float]],
        left: Sequence[int],
        *,
        guess_s: float = 0.0,
        begin_s: float = 0.0,
    ) -> int:
        assert len(left) == len(chances)
        assert guess_s >= 0
        assert begin_s >= 0
        return 1 + min(max(map(len, chances)), self._random.choice([0, 1, 2, 5, 15]))


def rash(plain: Session, draft: Backend | None = None) -> Session:
    speculation = Speculation(draft, 0.5)
    speculation._pace = Rash()
    return Session("random", plain.tokenizer, plain.backend, 0.0, speculation)


@pytest.fixture(scope="module")
def plain() -> Session:
    return random_session()


def nudged(backend: Backend, *, n_positions: int = 128) -> TorchBackend:
    """A draft that often agrees with the model: the same, its weights shaken."""
    assert isinstance(backend, TorchBackend)
    other = random_session(n_positions=n_positions).backend
    assert isinstance(other, TorchBackend)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in other._model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return other


def draft(kind: str, plain: Session) -> Backend | None:
    match kind:
        case "lookup":
            return None
        case "the model itself":
            return random_session().backend
        case "a model much like it":
            return nudged(plain.backend)
        case "another model":
            return random_session(seed=1).backend
        case _:
            return nudged(plain.backend, n_positions=40)


@pytest.fixture(
    params=["lookup", "the model itself", "a model much like it", "another model", "short context"]
)
def speculating(request: pytest.FixtureRequest, plain: Session) -> Session:
    return rash(plain, draft(request.param, plain))


def told(done: Completion) -> tuple[object, ...]:
    return (done.text, done.finish_reason, done.stop, done.completion_tokens, done.seed)


def run(session: Session, requests: Sequence[GenerateRequest]) -> list[Completion]:
    session.backend.forget()
    events = [e for e in session.generate(requests) if isinstance(e, Completion)]
    return sorted(events, key=lambda event: (event.request, event.sample))


def requests() -> list[GenerateRequest]:
    stops = StopOptions(texts=("e", "\n\n"))
    return [
        GenerateRequest(prompt=prompt, max_new_tokens=30 + 9 * place, heal=heal, **more)
        for heal in (False, True)
        for place, prompt in enumerate(PROMPTS)
        for more in (
            {},
            {"sampling": SamplingOptions(repetition_penalty=1.5)},
            {"sampling": WARM, "num_samples": 3},
            {"sampling": WARM, "stops": stops, "logprobs": 2},
            {"stops": StopOptions(at="line"), "logprobs": 0},
        )
    ]


def test_every_completion_is_that_without_guesses(plain: Session, speculating: Session) -> None:
    expected = run(plain, requests())
    got = run(speculating, requests())
    assert [told(done) for done in got] == [told(done) for done in expected]
    assert any(done.timing.passes and done.timing.passes.guessed for done in got)
    for done, other in zip(got, expected, strict=True):
        assert other.timing.passes is None
        passes = done.timing.passes
        assert passes is not None or done.completion_tokens == 1
        if passes is not None:
            # The last pass may have given more than was wanted.
            assert passes.count <= done.completion_tokens - 1 <= passes.count + passes.accepted
        if other.logprobs is not None:
            assert done.logprobs is not None
            values = [token.logprob for token in other.logprobs]
            assert [token.logprob for token in done.logprobs] == pytest.approx(values, abs=1e-4)
            assert [token.id for token in done.logprobs] == [token.id for token in other.logprobs]


def test_where_nothing_is_guessed_the_next_pass_is_on_its_way(
    plain: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only ``step`` lets a backend run ahead: a prompt without guesses is to lose nothing."""

    class Timid(Pace):
        def width(self, *_: object, **__: object) -> int:
            return 1

    stepped: list[int] = []
    step = TorchRows.step

    def counted(rows: TorchRows) -> list[Token]:
        stepped.append(len(rows))
        return step(rows)

    monkeypatch.setattr(TorchRows, "step", counted)
    speculation = Speculation()
    speculation._pace = Timid()
    session = Session("random", plain.tokenizer, plain.backend, 0.0, speculation)
    request = GenerateRequest(prompt=LINES, max_new_tokens=12, sampling=WARM)
    (got,) = run(session, [request])
    # The first token is read from the prompt's state, before its rows join those under way.
    assert len(stepped) == got.completion_tokens - 1 > 0
    assert got.timing.passes is not None
    assert got.timing.passes.guessed == 0


def test_every_guess_of_the_model_itself_holds(plain: Session) -> None:
    """It filters, penalises and heals as the model does, and draws by the same numbers."""
    for done in run(rash(plain, random_session().backend), requests()):
        if (passes := done.timing.passes) is not None:
            assert passes.accepted == passes.guessed


def test_one_request_after_the_other_gives_the_same(plain: Session, speculating: Session) -> None:
    for request in requests()[::7]:
        (got, *_), (expected, *_) = run(speculating, [request]), run(plain, [request])
        assert told(got) == told(expected)


def test_what_is_kept_of_a_speculated_prompt_serves_the_next(
    plain: Session, speculating: Session
) -> None:
    asked = [r for r in requests() if r.num_samples == 1][::8]
    expected = [told(run(plain, [request])[0]) for request in asked]
    speculating.backend.forget()
    for _ in range(2):
        events = [list(speculating.generate([request])) for request in asked]
        got = [told(e) for one in events for e in one if isinstance(e, Completion)]
        assert got == expected


def test_middles_are_those_without_guesses(plain: Session, speculating: Session) -> None:
    asked = [
        InfillRequest(prefix=LINES + "y = ", suffix="\n" + LINES, max_new_tokens=20, **more)
        for more in (
            {},
            {"order": "psm", "span": "block"},
            {"sampling": WARM, "candidates": 4},
            {"sampling": WARM, "logprobs": 1},
        )
    ]
    plain.backend.forget()
    expected = [e for e in plain.infill(asked) if isinstance(e, Infilled)]
    got = [e for e in speculating.infill(asked) if isinstance(e, Infilled)]
    by_request = [sorted(events, key=lambda e: e.request) for events in (got, expected)]
    assert len(got) == len(asked)
    for one, other in zip(*by_request, strict=True):
        assert [c.text for c in one.candidates] == [c.text for c in other.candidates]
        scores = [c.score for c in other.candidates]
        assert [c.score for c in one.candidates] == [
            None if score is None else pytest.approx(score, abs=1e-3) for score in scores
        ]


def test_an_interrupt_between_tokens_of_a_pass_hands_over_what_is_there(plain: Session) -> None:
    session = rash(plain, random_session().backend)
    whole = run(plain, [GenerateRequest(prompt="a", max_new_tokens=40)])[0]
    events = session.generate([GenerateRequest(prompt="a", max_new_tokens=40)])
    chunks = [next(events) for _ in range(7)]
    assert all(isinstance(chunk, Chunk) for chunk in chunks)
    done = events.throw(KeyboardInterrupt)
    while not isinstance(done, Completion):
        done = next(events)
    assert done.finish_reason == "interrupted"
    assert whole.text.startswith(done.text)
    with pytest.raises(KeyboardInterrupt):
        next(events)


def test_a_draft_is_not_read_a_prompt_before_it_is_to_guess(plain: Session) -> None:
    drafting = random_session().backend
    speculation = Speculation(drafting, 0.5)
    session = Session("random", plain.tokenizer, plain.backend, 0.0, speculation)
    # One token comes of the prompt itself: there is nothing to guess.
    run(session, [GenerateRequest(prompt=LINES * 2, max_new_tokens=1)])
    ids = tuple(plain.tokenizer.encode(LINES * 2))
    sampler = Sampler(options=SamplingOptions(), seed=0)
    rows = drafting.prefill([Prompt(ids=ids, samplers=(sampler,), max_new_tokens=1)])
    assert rows.reused == 0


def test_passes_add_up() -> None:
    one = Passes().plus(0, 1).plus(3, 1).plus(3, 4)
    assert one == Passes(without=1, held=(1, 0, 0, 1), guessed=6)
    both = one + Passes(without=2, held=(1, 1), guessed=2)
    assert both == Passes(without=3, held=(2, 1, 0, 1), guessed=8)
    assert (both.count, both.accepted, both.tokens_per_pass) == (7, 4, 1 + 4 / 7)
    assert Passes().tokens_per_pass is None


class TestVocabulary:
    def other(self, old: str, new: str) -> Tokenizer:
        return Tokenizer.from_json(tiny_json().replace(old, new))

    def test_the_same_is_taken(self) -> None:
        require_same_vocabulary(tiny_tokenizer(), tiny_tokenizer(), "big", "small")

    def test_one_token_that_is_spelled_otherwise_is_told(self) -> None:
        own = tiny_tokenizer()
        ids = own.control_ids - {own.eos_id}
        other = self.other("<gh_stars>", "<gh_moons>")
        with pytest.raises(
            UsageError, match="small cannot draft for big: token 6 is b'<gh_moons>'"
        ):
            require_same_vocabulary(own, other, "big", "small")
        assert 6 in ids

    def test_another_size_is_told(self) -> None:
        with pytest.raises(UsageError, match=r"it has 49,152 tokens, not 384"):
            require_same_vocabulary(tiny_tokenizer(), starcoder_tokenizer(), "big", "small")

    def test_a_draft_without_weights_for_some_ids_is_refused(self, plain: Session) -> None:
        info = dataclasses.replace(plain.info, vocab_size=384 + 8)
        with pytest.raises(UsageError, match="small cannot draft: it knows 384 ids, not 392"):
            Speculation.by_draft(plain.backend, info, "small")


TINY = 12
SEEDS = 6_000


@pytest.mark.parametrize("kind", ["lookup", "draft"])
def test_sampled_tokens_are_distributed_as_the_filtered_model_says(kind: str) -> None:
    """Pearson's chi-squared of the third token, behind guesses that hold now and then.

    With 6,000 draws, 11 degrees of freedom and the bound of 34 (p = 0.0004), a distribution that
    is off by 0.05 in total variation is found with a probability of 0.98: its statistic has the
    noncentrality ``n * sum((p - q) ** 2 / q) >= 4 * n * 0.05 ** 2 = 60``.
    """
    backend, other = tiny_backend(4), tiny_backend(5)
    options = SamplingOptions(
        temperature=0.9, top_k=9, top_p=0.95, min_p=0.01, repetition_penalty=1.3
    )
    chance = random.Random(2)
    ids = tuple(chance.randrange(8) for _ in range(90))
    samplers = tuple(Sampler(options=options, seed=seed) for seed in range(SEEDS))
    asked = Prompt(ids=ids, samplers=samplers, max_new_tokens=8)
    speculation = Speculation(other if kind == "draft" else None, 0.5)
    speculation._pace = Always()
    rows = speculation.begin([asked], backend.prefill([asked]), 0, 0.0)
    got: list[list[int]] = [[] for _ in samplers]
    several = 0
    while min(map(len, got)) < 3:
        for own, one in zip(got, rows.advance([8] * SEEDS), strict=True):
            own += [token.id for token in one.tokens]
            several += len(one.tokens) > 1
    assert several > SEEDS / 20
    expected = third_token(backend, ids, options)
    counts = Counter(row[2] for row in got)
    assert set(counts) <= {id_ for id_, p in enumerate(expected) if p > 0}
    statistic = sum(
        (counts[id_] - SEEDS * p) ** 2 / (SEEDS * p) for id_, p in enumerate(expected) if p > 0
    )
    assert statistic < 34


class Always(Pace):
    """Three guesses, wherever there are any."""

    def width(
        self,
        chances: Sequence[Sequence[float]],
        left: Sequence[int],
        *,
        guess_s: float = 0.0,
        begin_s: float = 0.0,
    ) -> int:
        assert len(left) == len(chances)
        assert guess_s + begin_s >= 0
        return 1 + min(3, max(map(len, chances)))


def tiny_backend(seed: int) -> TorchBackend:
    config = GPTBigCodeConfig.from_dict(
        {
            "model_type": "gpt_bigcode",
            "vocab_size": TINY,
            "n_positions": 120,
            "n_embd": 8,
            "n_layer": 1,
            "n_head": 2,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }
    )
    info = dataclasses.replace(random_session().info, n_positions=120, vocab_size=TINY)
    return TorchBackend(random_model(config, seed=seed), info)


def third_token(backend: TorchBackend, ids: Sequence[int], options: SamplingOptions) -> list[float]:
    """Its probabilities, summed over all first and second ones."""
    weights = {tuple(ids): 1.0}
    for _ in range(3):
        texts = torch.tensor(list(weights))
        with torch.no_grad():
            logits = backend._model(texts).logits[:, -1]
        seen = torch.zeros(logits.shape, dtype=torch.bool).scatter_(1, texts, value=True)
        tensors = SamplingTensors.of([options] * len(texts), TINY, logits.device)
        p = filtered_probabilities(penalised(logits, seen, tensors.penalty), tensors).double()
        weights = {
            (*text, id_): weight * row[id_]
            for (text, weight), row in zip(weights.items(), p.tolist(), strict=True)
            for id_ in range(TINY)
        }
    return [sum(w for text, w in weights.items() if text[-1] == id_) for id_ in range(TINY)]


class Clock:
    """A clock that work moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


PREPARED_S, PASS_S = 1000.0, 1.0


@pytest.mark.parametrize("kind", ["lookup", "the model itself"])
def test_what_is_done_once_is_not_taken_for_the_cost_of_a_pass(
    kind: str, plain: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend compiles and captures what it has not run before: for one pass it would not pay."""
    clock, asked = Clock(), list[int]()
    verify = TorchRows.verify

    def slow_once(_: TorchRows, guesses: int) -> None:
        asked.append(guesses)
        clock.now += PREPARED_S

    def timed(rows: TorchRows, guesses: Sequence[Sequence[int]]) -> list[list[Token]]:
        clock.now += PASS_S
        return verify(rows, guesses)

    monkeypatch.setattr(TorchRows, "prepare", slow_once)
    monkeypatch.setattr(TorchRows, "verify", timed)
    for module in (speculate, drafts):
        monkeypatch.setattr(module, "perf_counter", clock)
    speculation = Speculation(draft(kind, plain), 0.5)
    speculation._pace = Rash()
    sampler = Sampler(options=SamplingOptions(), seed=1)
    prompt = Prompt(ids=(3, 4, 5, 6) * 4, samplers=(sampler,), max_new_tokens=90)
    stepping = speculation.begin([prompt], plain.backend.prefill([prompt]), 16, 1.0)
    done = 0
    while done < 80:
        done += len(stepping.advance([90 - done])[0].tokens)
    costs = [one for known in speculation._pace._costs.values() for one in known]
    assert set(costs) == {PASS_S}
    assert max(asked) > 1
    if kind != "lookup":
        assert speculation._draft_times.mean == PASS_S


def test_a_pass_counts_from_the_end_of_the_last_one_unless_something_else_was_done(
    plain: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that is on its way while its caller works on text takes no less for it."""
    clock, step = Clock(), TorchRows.step

    def timed(rows: TorchRows) -> list[Token]:
        clock.now += 1
        return step(rows)

    monkeypatch.setattr(TorchRows, "step", timed)
    monkeypatch.setattr(speculate, "perf_counter", clock)
    speculation = Speculation()
    sampler = Sampler(options=SamplingOptions(), seed=1)
    prompt = Prompt(ids=(3, 4, 5), samplers=(sampler,), max_new_tokens=9)
    stepping = speculation.begin([prompt], plain.backend.prefill([prompt]), 3, 1.0)
    stepping.advance([9])
    for text_s in (0, 2, 4):
        clock.now += text_s
        stepping.advance([8])
    clock.now += 100
    stepping.pause()
    stepping.advance([5])
    assert list(speculation._pace._costs[1, 1]) == [1, 3, 5, 1]
