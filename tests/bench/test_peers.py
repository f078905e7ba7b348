"""The peer beside ours on the same weights, where it is installed."""

from importlib.metadata import PackageNotFoundError

import pytest

from bigcode_cli.bench import peers
from bigcode_cli.bench.cases import Case
from bigcode_cli.bench.shapes import Subject
from bigcode_cli.bench.sides import BackendSide
from bigcode_cli.bench.speed_rows import agreement
from bigcode_cli.bench.speed_run import parse_peers
from bigcode_cli.errors import BigcodeError, ModelTooLargeError, UsageError
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import LoadOptions, Silence

CONFIG = GPTBigCodeConfig(
    vocab_size=300, n_positions=128, n_embd=32, n_layer=2, n_head=4, initializer_range=0.4,
    bos_token_id=0, eos_token_id=0,
)  # fmt: skip
SUBJECT = Subject("tiny", CONFIG)


@pytest.fixture
def _absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(peers, "version", missing)


@pytest.mark.usefixtures("_absent")
def test_a_missing_peer_is_told_before_anything_is_loaded() -> None:
    with pytest.raises(UsageError, match="needs transformers") as told:
        parse_peers("transformers")
    assert told.value.hint == "pip install 'bigcode-cli[bench]'"
    assert parse_peers(None) == ()


def test_an_unknown_peer_names_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="no such peer: 'vllm'") as told:
        parse_peers("vllm")
    assert told.value.hint == "there are transformers, transformers-compiled"


def test_a_peer_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "version", lambda _: "5")
    monkeypatch.setattr(peers, "free_bytes", lambda _: 10)
    with pytest.raises(ModelTooLargeError, match=r"tiny in transformers needs .* more"):
        peers.open_peers(["transformers"], SUBJECT, device="cpu", dtype="float32", vocab_size=300)


@pytest.mark.filterwarnings("ignore")  # of transformers' own making
@pytest.mark.parametrize("config", [CONFIG, CONFIG.with_changes(multi_query=False)])
@pytest.mark.parametrize(
    "case", [Case(kind="tg", n_gen=20, n_depth=8, batch_size=2), Case(kind="tg", n_gen=12)]
)
def test_both_choose_the_same_ids(config: GPTBigCodeConfig, case: Case) -> None:
    pytest.importorskip("transformers")
    subject = Subject("tiny", config)
    backend, _ = subject.open(LoadOptions(device="cpu"), Silence())
    ours = BackendSide(backend)
    (theirs,) = peers.open_peers(
        ["transformers"], subject, device="cpu", dtype="float32", vocab_size=300
    )
    for _ in range(2):  # what a run leaves behind does not show in the next
        for side in (ours, theirs):
            assert list(side.run(case)) == ["begun", "ended"]
            side.release()
        assert agreement(ours.ids, theirs.ids) == 1


@pytest.mark.filterwarnings("ignore")
def test_whatever_a_peer_fails_with_is_its_own_matter() -> None:
    pytest.importorskip("transformers")
    (side,) = peers.open_peers(
        ["transformers"], SUBJECT, device="cpu", dtype="float32", vocab_size=300
    )
    with pytest.raises(BigcodeError, match="IndexError"):
        list(side.run(Case(kind="pp", n_prompt=129)))


@pytest.mark.filterwarnings("ignore")
def test_the_peer_does_every_kind_of_work_but_requests() -> None:
    pytest.importorskip("transformers")
    backend, _ = SUBJECT.open(LoadOptions(device="cpu"), Silence())
    ours = BackendSide(backend)
    (side,) = peers.open_peers(
        ["transformers"], SUBJECT, device="cpu", dtype="float32", vocab_size=300
    )
    for case, marks in (
        (Case(kind="pp", n_prompt=16, n_depth=20), ["begun", "ended", "first"]),
        (Case(kind="sc", n_prompt=16, batch_size=2), ["begun", "ended"]),
    ):
        assert side.can(case)
        assert list(side.run(case)) == list(ours.run(case)) == marks
    assert side.nll == pytest.approx(ours.nll, rel=1e-5)
    assert not side.can(Case(kind="e2e", n_prompt=9, n_gen=9))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("config", [CONFIG, CONFIG.with_changes(multi_query=False)])
def test_what_has_no_room_at_once_gives_the_same_in_parts(
    config: GPTBigCodeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    (side,) = peers.open_peers(
        ["transformers"], Subject("tiny", config), device="cpu", dtype="float32", vocab_size=300
    )
    decoding = Case(kind="tg", n_gen=5, n_depth=20, batch_size=3)
    scoring = Case(kind="sc", n_prompt=16, batch_size=5)
    list(side.run(decoding))
    list(side.run(scoring))
    ids, nll = side.ids, side.nll
    passes: list[tuple[int, int]] = []
    assert isinstance(side, peers.TransformersSide)
    model = side._model
    trunk = model.transformer  # type: ignore[attr-defined]
    trunk.register_forward_pre_hook(lambda _, args: passes.append(tuple(args[0].shape)))
    monkeypatch.setattr(peers, "_PASS_TOKENS", 3 * 8)
    monkeypatch.setattr(peers, "free_bytes", lambda _: 4 * 2 * 16 * 300 * 4 * 4)
    list(side.run(decoding))
    assert passes[:4] == [(3, 8), (3, 8), (3, 5), (3, 1)]
    passes.clear()
    list(side.run(scoring))
    assert passes == [(2, 16), (2, 16), (1, 16)]
    assert side.ids == ids
    assert side.nll == pytest.approx(nll, rel=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_prompt_has_logits_of_its_last_position_alone() -> None:
    pytest.importorskip("transformers")
    (side,) = peers.open_peers(
        ["transformers"], SUBJECT, device="cpu", dtype="float32", vocab_size=300
    )
    assert isinstance(side, peers.TransformersSide)
    shapes: list[tuple[int, ...]] = []
    head = side._model.lm_head  # type: ignore[attr-defined]
    head.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
    list(side.run(Case(kind="pp", n_prompt=16, batch_size=2)))
    assert shapes == [(2, 1, 300)]
