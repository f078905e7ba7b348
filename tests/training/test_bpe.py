from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.text.tokenizer import Tokenizer
from bigcode_cli.training.bpe import (
    CONTROL_TOKENS,
    Pieces,
    cut_at_lines,
    cut_corpus,
    train_tokenizer,
)
from bigcode_cli.training.data.corpus import Corpus
from tests.training.conftest import BUDGET


def test_control_tokens_are_starcoders(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_id(text) for text in CONTROL_TOKENS] == list(range(19))
    assert tokenizer.control_ids == frozenset(range(19))
    assert tokenizer.vocab_size == 512


def test_training_twice_gives_the_same_tokenizer(corpus: Corpus, tmp_path: Path) -> None:
    train_tokenizer(corpus, tmp_path, vocab_size=512, sample_bytes=10**6)
    again = (tmp_path / "tokenizer.json").read_bytes()
    assert again == (corpus.folder / "tokenizer.json").read_bytes()


@given(st.text())
def test_any_text_survives(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_pieces_are_the_corpus_and_fit(corpus: Corpus, tokenizer: Tokenizer) -> None:
    pieces = Pieces.load(corpus.folder / "pieces.idx")
    blob = (corpus.folder / "corpus.bin").read_bytes()
    spans = list(zip(pieces.starts, pieces.sizes, strict=True))
    assert b"".join(blob[start : start + size] for start, size in spans) == blob
    assert max(pieces.tokens) <= BUDGET
    lengths = [len(tokenizer.encode(blob[a : a + size].decode())) for a, size in spans]
    assert all(abs(n - m) <= 3 for n, m in zip(lengths, pieces.tokens, strict=True))
    assert all(blob[a + size - 1 :][:1] == b"\n" for a, size in spans if size < BUDGET)


@given(st.lists(st.sampled_from(["a", "bb", "\n", "é"]), max_size=60), st.integers(1, 20))
def test_cuts_keep_to_the_budget_and_to_line_ends(tokens: list[str], budget: int) -> None:
    text = "".join(tokens)
    starts = [sum(map(len, tokens[:index])) for index in range(len(tokens))]
    cuts = cut_at_lines(text, starts, budget)
    assert cuts[0] == 0
    assert cuts[-1] == len(text)
    for first, last in pairwise(cuts):
        assert sum(first <= start < last for start in starts) <= budget
        if last < len(text) and "\n" in text[first:last]:
            assert text[last - 1] == "\n"


def test_cutting_in_processes_changes_nothing(corpus: Corpus) -> None:
    pieces = cut_corpus(corpus, corpus.folder, budget=BUDGET, workers=2)
    assert pieces == Pieces.load(corpus.folder / "pieces.idx")
