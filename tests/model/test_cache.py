import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bigcode_cli.errors import UsageError
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.gpt_bigcode import GPTBigCodeForCausalLM
from tests.model.golden import unsynchronised
from tests.model.models import DEVICES, random_ids, relative_difference, small_config, wide_model

CAPACITY = 40


def new_cache(
    config: GPTBigCodeConfig, batch: int, capacity: int = CAPACITY, device: str = "cpu"
) -> KVCache:
    return KVCache.allocate(config, batch, capacity, dtype=torch.float32, device=device)


def feed(model: GPTBigCodeForCausalLM, cache: KVCache, rows: list[list[int]]) -> list[Tensor]:
    """Feed each row its new tokens, padded on the right; the logits of the real ones."""
    time = max(len(row) for row in rows)
    padded = torch.tensor([row + [7] * (time - len(row)) for row in rows])
    padded = padded.to(cache.layers[0].device)
    held = cache.lengths
    with unsynchronised(padded.device):
        logits = model(padded, past_key_values=cache).logits
        cache.crop([length + len(row) for length, row in zip(held, rows, strict=True)])
    return [logits[at, : len(row)] for at, row in enumerate(rows)]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
@torch.no_grad()
def test_cached_decode_equals_full_forward(attention: str, *, multi_query: bool) -> None:
    """Greedy, token for token, for 128 tokens, alone and beside rows of other lengths."""
    config = small_config(multi_query=multi_query, n_positions=160)
    model = wide_model(config, attention)
    prompts = [random_ids(config, 1, time, seed=time)[0].tolist() for time in (1, 17, 9, 30)]
    expected = []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(128):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        expected.append(ids[len(prompt) :])
    for group in ([0], [1], [0, 1, 2, 3]):
        cache = new_cache(config, len(group), 160)
        last = [logits[-1] for logits in feed(model, cache, [prompts[row] for row in group])]
        decoded: list[list[int]] = [[] for _ in group]
        for _ in range(128):
            for row, logits in enumerate(last):
                decoded[row].append(int(logits.argmax()))
            last = [logits[-1] for logits in feed(model, cache, [row[-1:] for row in decoded])]
        assert decoded == [expected[row] for row in group]


pieces = st.lists(
    st.lists(st.integers(0, 6), min_size=3, max_size=3).filter(any), min_size=1, max_size=6
)


@settings(deadline=None, max_examples=40)
@given(
    pieces=pieces,
    multi_query=st.booleans(),
    attention=st.sampled_from(["eager", "sdpa"]),
    device=st.sampled_from(DEVICES),
)
@torch.no_grad()
def test_chunks_of_any_lengths_equal_full_forward(
    pieces: list[list[int]], attention: str, device: str, *, multi_query: bool
) -> None:
    config = small_config(multi_query=multi_query, n_layer=2)
    model = wide_model(config, attention, device=device)
    ids = random_ids(config, 3, 36).tolist()
    cache = new_cache(config, 3, 48, device)
    seen: list[list[Tensor]] = [[], [], []]
    for counts in pieces:
        chunk = [ids[row][cache.lengths[row] :][: counts[row]] for row in range(3)]
        for row, logits in enumerate(feed(model, cache, chunk)):
            seen[row].append(logits)
    for row in range(3):
        length = cache.lengths[row]
        if length:
            full = model(torch.tensor([ids[row][:length]], device=device)).logits[0].cpu()
            assert relative_difference(torch.cat(seen[row]), full) < 1e-5


@pytest.mark.parametrize("multi_query", [True, False])
@torch.no_grad()
def test_selected_rows_go_on_as_if_alone(*, multi_query: bool) -> None:
    config = small_config(multi_query=multi_query)
    model = wide_model(config)
    ids = random_ids(config, 3, 30).tolist()
    for rows in itertools.chain(itertools.permutations(range(3)), [(1, 1, 2, 1), (2,), (0, 0)]):
        cache = new_cache(config, 3)
        feed(model, cache, [ids[0][:4], ids[1][:9], ids[2][:6]])
        cache.select(rows)
        assert cache.batch == len(rows)
        tails = [[at + 1, at + 2, at + 3][: 1 + at % 3] for at in range(len(rows))]
        for got, row, tail in zip(feed(model, cache, tails), rows, tails, strict=True):
            prompt = ids[row][: (4, 9, 6)[row]]
            expected = model(torch.tensor([prompt + tail])).logits[0, len(prompt) :]
            assert relative_difference(got, expected) < 1e-5


def test_forked_rows_share_no_memory() -> None:
    config = small_config()
    cache = new_cache(config, 1)
    cache.select([0, 0])
    for layer in cache.layers:
        layer[0] = 1
        assert not layer[1].any()


@torch.no_grad()
def test_a_full_cache_grows_and_loses_nothing() -> None:
    config = small_config(n_positions=300)
    model = wide_model(config)
    ids = random_ids(config, 2, 290)
    cache = new_cache(config, 2, 10)
    feed(model, cache, [ids[0, :8].tolist(), ids[1, :3].tolist()])
    assert cache.capacity == 10
    first, second = feed(model, cache, [ids[0, 8:11].tolist(), ids[1, 3:6].tolist()])
    assert cache.capacity == 256
    assert relative_difference(first, model(ids[:1, :11]).logits[0, 8:]) < 1e-5
    assert relative_difference(second, model(ids[1:, :6]).logits[0, 3:]) < 1e-5
    (last, _) = feed(model, cache, [ids[0, 11:280].tolist(), ids[1, 6:].tolist()])
    assert cache.capacity == 512
    assert relative_difference(last, model(ids[:1, :280]).logits[0, 11:]) < 1e-5


def test_a_cache_of_another_model_or_batch_is_refused() -> None:
    config = small_config()
    model = wide_model(config)
    with pytest.raises(
        UsageError, match=r"has \(layers, rows, heads, width\) \(3, 2, 1, 16\), not"
    ):
        model(random_ids(config, 1, 1), past_key_values=new_cache(config, 2))
    other = new_cache(small_config(multi_query=False), 1)
    with pytest.raises(UsageError, match=r"\(3, 1, 4, 16\), not \(3, 1, 1, 16\)"):
        model(random_ids(config, 1, 1), past_key_values=other)


def test_cropping_takes_back_and_cannot_invent() -> None:
    config = small_config()
    model = wide_model(config)
    cache = new_cache(config, 2)
    feed(model, cache, [[1] * 8, [1] * 3])
    cache.crop([2, 3])
    assert cache.lengths == [2, 3]
    for lengths in ([3, 3], [2, -1]):
        with pytest.raises(UsageError, match="cannot be cropped"):
            cache.crop(lengths)
    assert cache.lengths == [2, 3]


@pytest.mark.parametrize("multi_query", [True, False])
def test_size_is_what_is_allocated(*, multi_query: bool) -> None:
    config = small_config(multi_query=multi_query)
    cache = KVCache.allocate(config, 3, 20, dtype=torch.float16, device="cpu")
    assert {layer.shape for layer in cache.layers} == {
        (3, config.kv_heads, 20, 2 * config.head_dim)
    }
    held = sum(layer.nbytes for layer in cache.layers)
    assert KVCache.size(config, 3, 20, dtype=torch.float16) == held


def test_keys_and_values_are_views_of_the_cache() -> None:
    config = small_config(multi_query=False)
    for lengths in ([4, 4], [4, 1]):
        cache = new_cache(config, 2)
        cache.advance(4)
        cache.crop(lengths)
        new = torch.randn(2, config.kv_heads, 2, 2 * config.head_dim)
        keys, values = cache.append(1, new)
        assert keys.shape == values.shape == (2, config.kv_heads, 6, config.head_dim)
        assert keys.untyped_storage().data_ptr() == cache.layers[1].untyped_storage().data_ptr()
        for row, length in enumerate(lengths):
            at = slice(length, length + 2)
            assert torch.equal(torch.cat([keys, values], -1)[row, :, at], new[row])
