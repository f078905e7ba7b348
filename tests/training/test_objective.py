from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.errors import UsageError
from bigcode_cli.text.fim import psm, spm
from bigcode_cli.text.tokenizer import Tokenizer
from bigcode_cli.training.data.corpus import Corpus
from bigcode_cli.training.objective import (
    Objective,
    Vocabulary,
    fim_sample,
    pack,
    samples,
    split_anywhere,
    split_lines,
    windows,
)

N_POSITIONS = 128
LINES = ["def f(x):\n", "    return x\n", "\n", "é = 'ü'\n", "  "]
TEXTS = st.lists(st.sampled_from(LINES)).map("".join)
SEEDS = st.integers(0, 2**32)


def reassemble(ids: list[int], vocabulary: Vocabulary, tokenizer: Tokenizer) -> str:
    """The document of a sample, by what the control tokens mean."""
    dialect = vocabulary.dialect
    assert ids[-1] == vocabulary.eos_id
    body = ids[:-1]
    if body[:1] != [dialect.prefix_id]:
        return tokenizer.decode(body)
    suffix, middle = body.index(dialect.suffix_id), body.index(dialect.middle_id)
    if suffix == 1:  # suffix, then prefix and middle in one go
        return tokenizer.decode(body[middle + 1 :]) + tokenizer.decode(body[2:middle])
    parts = body[1:suffix], body[middle + 1 :], body[suffix + 1 : middle]
    return "".join(map(tokenizer.decode, parts))


@given(TEXTS, SEEDS)
def test_splits_join_to_the_text(text: str, seed: int) -> None:
    assert "".join(split_anywhere(text, Random(seed))) == text
    assert "".join(split_lines(text, Random(seed))) == text


@given(TEXTS, SEEDS)
def test_line_middles_begin_and_end_where_lines_do(text: str, seed: int) -> None:
    prefix, middle, suffix = split_lines(text, Random(seed))
    if text.strip():
        assert middle.endswith("\n") or suffix.startswith("\n") or not suffix
        assert prefix.endswith("\n") or not prefix or middle.count("\n") == 0


@given(TEXTS, SEEDS)
def test_both_orders_are_those_of_the_family(
    vocabulary: Vocabulary, tokenizer: Tokenizer, text: str, seed: int
) -> None:
    split = split_anywhere(text, Random(seed))
    prefix, middle, suffix = map(vocabulary.encode, split)
    for order, arrange in (("psm", psm), ("spm", spm)):
        sample = fim_sample(split, order, vocabulary)  # type: ignore[arg-type]
        assert sample == [*arrange(vocabulary.dialect, prefix, suffix), *middle, vocabulary.eos_id]
        assert reassemble(sample, vocabulary, tokenizer) == text


@given(TEXTS.filter(bool), SEEDS, st.sampled_from([0.0, 0.5, 1.0]))
def test_samples_reassemble_to_the_document_and_fit(
    vocabulary: Vocabulary, tokenizer: Tokenizer, text: str, seed: int, fim_rate: float
) -> None:
    objective = Objective(fim_rate=fim_rate, shortest=20, longest=100)
    found = list(samples(text, objective, vocabulary, N_POSITIONS, Random(seed)))
    assert "".join(reassemble(ids, vocabulary, tokenizer) for ids in found) == text
    assert max(map(len, found)) <= N_POSITIONS


def test_a_text_without_line_ends_is_cut_hard(vocabulary: Vocabulary, tokenizer: Tokenizer) -> None:
    text = "x = " + "ab1" * 400
    found = list(samples(text, Objective(fim_rate=1), vocabulary, N_POSITIONS, Random(0)))
    assert "".join(reassemble(ids, vocabulary, tokenizer) for ids in found) == text
    assert max(map(len, found)) <= N_POSITIONS


@given(st.lists(st.integers(1, 50), max_size=80))
def test_packing_places_every_sample_once_and_never_overfills(lengths: list[int]) -> None:
    bins = pack(lengths, 50)
    assert sorted(index for members in bins for index in members) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in members) <= 50 for members in bins)
    # Best fit never leaves two bins that would go into one.
    loads = sorted(sum(lengths[index] for index in members) for members in bins)
    assert len(loads) < 2 or loads[0] + loads[1] > 50


def test_a_sample_longer_than_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pack([51], 50)


def test_windows_hold_whole_samples_and_padding_only_behind_them(
    corpus: Corpus, vocabulary: Vocabulary, tokenizer: Tokenizer
) -> None:
    # Short enough for a window: what comes out is what went in.
    texts = [text[:150] for text in corpus.texts()]
    flat = windows(texts, Objective(), vocabulary, N_POSITIONS, Random(1))
    width = N_POSITIONS + 1
    assert len(flat) % width == 0
    found, begun = [], 0
    for start in range(0, len(flat), width):
        window = list(flat[start : start + width])
        used = [id_ for id_ in window if id_ != vocabulary.pad_id]
        assert window == used + [vocabulary.pad_id] * (width - len(used))
        assert used[-1] == vocabulary.eos_id
        if used[0] == vocabulary.eos_id:
            begun += 1
            used = used[1:]
        sample: list[int] = []
        for id_ in used:
            sample.append(id_)
            if id_ == vocabulary.eos_id:
                found.append(reassemble(sample, vocabulary, tokenizer))
                sample = []
        assert not sample
    assert sorted(found) == sorted(texts)
    assert 0 < begun < len(flat) // width


def test_rates_are_kept(corpus: Corpus, vocabulary: Vocabulary) -> None:
    texts = [text[at : at + 200] for text in corpus.texts() for at in range(0, len(text), 200)]
    random, dialect = Random(0), vocabulary.dialect
    objective = Objective(fim_rate=0.5, spm_rate=0.25)
    found = [next(samples(text, objective, vocabulary, 1000, random)) for text in texts if text]
    filled = [ids for ids in found if ids[0] == dialect.prefix_id]
    other = [ids for ids in filled if ids[1] == dialect.suffix_id and ids[2] != dialect.middle_id]
    assert len(filled) / len(found) == pytest.approx(0.5, abs=0.06)
    assert len(other) / len(filled) == pytest.approx(0.25, abs=0.08)


def test_rates_outside_their_range_are_refused() -> None:
    with pytest.raises(UsageError):
        Objective(fim_rate=1.5)
    with pytest.raises(UsageError):
        Objective(shortest=10, longest=5)
