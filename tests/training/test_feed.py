from itertools import islice

import pytest

from bigcode_cli.training.bpe import Pieces
from bigcode_cli.training.data.corpus import Corpus
from bigcode_cli.training.feed import FeedOptions, Place, batches, plan_epoch
from bigcode_cli.training.objective import Objective


@pytest.fixture(scope="module")
def options(corpus: Corpus) -> FeedOptions:
    return FeedOptions(
        corpus=corpus.folder,
        tokenizer=corpus.folder,
        objective=Objective(),
        n_positions=128,
        seed=3,
        block_tokens=4000,
    )


def test_an_epoch_holds_every_piece_once_in_another_order(corpus: Corpus) -> None:
    pieces = Pieces.load(corpus.folder / "pieces.idx")
    first, second = (plan_epoch(pieces, 3, epoch, 4000) for epoch in (0, 1))
    everything = list(range(len(pieces.starts)))
    flat = [piece for block in first for piece in block]
    assert sorted(flat) == everything
    assert flat != everything
    assert flat != [piece for block in second for piece in block]


def test_any_place_can_be_gone_back_to(options: FeedOptions) -> None:
    stream = list(islice(batches(options, Place(), batch=24), 80))
    assert {len(flat) for flat, _ in stream} == {24 * 129}
    assert stream[-1][1].epoch >= 1
    for at in (0, 7, 60):
        again = list(islice(batches(options, stream[at][1], batch=24), 3))
        assert again == stream[at + 1 : at + 4]


def test_worker_processes_change_nothing(options: FeedOptions) -> None:
    alone = list(islice(batches(options, Place(), batch=16), 5))
    stream = batches(options, Place(), batch=16, workers=2)
    assert list(islice(stream, 5)) == alone
    stream.close()
