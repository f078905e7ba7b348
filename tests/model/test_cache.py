import itertools
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bigcode_cli.errors import UsageError
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.losses import causal_lm_loss
from tests.model.golden import unsynchronised
from tests.model.models import (
    DEVICES,
    blocks_of,
    random_ids,
    relative_difference,
    small_config,
    wide_model,
)

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


@cache
def by_full_passes(*, multi_query: bool) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts, and the 128 most likely tokens after each, one full pass a token."""
    model = wide_model(small_config(multi_query=multi_query, n_positions=160), "eager")
    lengths = (1, 17, 9, 30)
    prompts = [random_ids(model.config, 1, time, seed=time)[0].tolist() for time in lengths]
    told = []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(128):
            logits = model(torch.tensor([ids]), use_cache=False).logits
            ids.append(int(logits[0, -1].argmax()))
        told.append(ids[len(prompt) :])
    return prompts, told


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
@torch.no_grad()
def test_cached_decode_equals_full_forward(attention: str, *, multi_query: bool) -> None:
    """Greedy, token for token, for 128 tokens, alone and beside rows of other lengths."""
    config = small_config(multi_query=multi_query, n_positions=160)
    model = wide_model(config, attention)
    prompts, expected = by_full_passes(multi_query=multi_query)
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


@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("heads", [1, 4])
@torch.no_grad()
def test_the_legacy_tuple_has_one_merged_tensor_a_layer(heads: int, *, multi_query: bool) -> None:
    config = small_config(multi_query=multi_query, n_head=heads)
    model = wide_model(config)
    ids = random_ids(config, 2, 9)
    cache = model(ids[:, :5]).past_key_values
    legacy = cache.to_legacy_cache()
    size = config.head_dim
    shape = (2, 5, 2 * size) if multi_query else (2, heads, 5, 2 * size)
    assert [layer.shape for layer in legacy] == [shape] * config.n_layer
    for layer, merged in enumerate(legacy):
        block = blocks_of(model)[layer]
        held = cache.layers[layer][:, :, :5]
        assert torch.equal(merged if merged.dim() == 4 else merged[:, None], held)
        assert held.data_ptr() != merged.data_ptr()
        if layer == 0:
            hidden = model.transformer.wte(ids[:, :5]) + model.transformer.wpe.weight[:5]
            rows = block.attn.c_attn(block.ln_1(hidden))
            expected = rows[..., config.n_embd :] if multi_query else rows.view(2, 5, heads, -1)
            expected = expected if multi_query else expected[..., size:].transpose(1, 2)
            assert torch.equal(merged, expected)
    again = KVCache.from_legacy_cache(legacy)
    assert again.lengths == [5, 5]
    for ours, theirs in zip(again.to_legacy_cache(), legacy, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
@torch.no_grad()
def test_decoding_goes_on_from_any_legacy_form(attention: str, *, multi_query: bool) -> None:
    """Merged tensors, pairs of keys and values, and lists of either; none is written to."""
    config = small_config(multi_query=multi_query)
    model = wide_model(config, attention)
    ids = random_ids(config, 2, 9)
    merged = model(ids[:, :5]).past_key_values.to_legacy_cache()
    expected = model(ids).logits[:, 5:]
    width = config.head_dim
    wide = [layer if layer.dim() == 4 else layer[:, None] for layer in merged]
    pairs = tuple((layer[..., :width], layer[..., width:]) for layer in wide)
    for legacy in (merged, pairs, list(merged), [list(pair) for pair in pairs]):
        before = [torch.cat([*layer], dim=-1).clone() for layer in legacy]
        output = model(ids[:, 5:7], past_key_values=legacy)
        cache = output.past_key_values
        assert isinstance(cache, KVCache)
        last = [model(ids[:, at : at + 1], past_key_values=cache).logits for at in (7, 8)]
        assert relative_difference(torch.cat([output.logits, *last], dim=1), expected) < 1e-5
        for held, layer in zip(before, legacy, strict=True):
            assert torch.equal(held, torch.cat([*layer], dim=-1))


def test_what_is_no_legacy_cache_is_refused() -> None:
    good = torch.zeros(2, 5, 16)
    for legacy in ((), (good, good[:, :4]), (good[0], good[0]), (good, good[:, None, None])):
        with pytest.raises(UsageError, match="one tensor of keys and values a layer, all alike"):
            KVCache.from_legacy_cache(legacy)
    config = small_config()
    model = wide_model(config)
    with pytest.raises(UsageError, match=r"\(2, 2, 1, 16\), not \(3, 2, 1, 16\)"):
        model(random_ids(config, 2, 1), past_key_values=(good, good))


def test_rows_of_different_length_have_no_legacy_cache() -> None:
    cache = new_cache(small_config(), 2)
    cache.advance(3)
    cache.crop([3, 2])
    with pytest.raises(UsageError, match="rows of different length"):
        cache.to_legacy_cache()


def chunked_loss(model: GPTBigCodeForCausalLM, ids: Tensor, sizes: list[int]) -> Tensor:
    """Of every token but the first, from passes over chunks that share a cache."""
    cache, start, pieces = None, 0, []
    for size in sizes:
        output = model(ids[:, start : start + size], past_key_values=cache, use_cache=True)
        cache, start = output.past_key_values, start + size
        pieces.append(output.logits)
    return causal_lm_loss(torch.cat(pieces, dim=1), ids)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
def test_gradients_through_the_cache_equal_those_of_one_pass(
    attention: str, *, multi_query: bool
) -> None:
    model = wide_model(small_config(multi_query=multi_query), attention)
    ids = random_ids(model.config, 2, 12)
    names, parameters = zip(*model.named_parameters(), strict=True)
    whole = torch.autograd.grad(model(ids, labels=ids, use_cache=False).loss, parameters)
    for sizes in ([5, 4, 1, 2], [1] * 12):
        told = torch.autograd.grad(chunked_loss(model, ids, sizes), parameters)
        for name, got, wanted in zip(names, told, whole, strict=True):
            # The key bias has no gradient but rounding.
            assert (got - wanted).norm() < 1e-4 * wanted.norm().clamp(min=1e-3), name


def test_gradients_reach_rows_of_different_length() -> None:
    model = wide_model(small_config(n_layer=2))
    ids = random_ids(model.config, 2, 8)
    names, parameters = zip(*model.named_parameters(), strict=True)
    cache = new_cache(model.config, 2)
    model(ids[:, :5], past_key_values=cache)
    cache.crop([5, 2])
    new = torch.stack([ids[0, 5:8], ids[1, 2:5]])
    told = torch.autograd.grad(
        model(new, past_key_values=cache).logits.square().sum(), parameters, allow_unused=True
    )
    alone = [model(ids[:1, :8]).logits[0, 5:], model(ids[1:, :5]).logits[0, 2:]]
    whole = torch.autograd.grad(torch.stack(alone).square().sum(), parameters)
    for name, got, wanted in zip(names, told, whole, strict=True):
        assert (got - wanted).norm() < 1e-4 * wanted.norm().clamp(min=1e-3), name


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
def test_a_learned_prefix_gets_its_gradient(attention: str, *, multi_query: bool) -> None:
    """Prefix tuning: against differences of the loss along a random direction, in float64."""
    config = small_config(multi_query=multi_query, n_layer=2, attention_softmax_in_fp32=False)
    model = wide_model(config, attention).double()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    ids = random_ids(config, 2, 4)
    prefix = model(random_ids(config, 2, 3, seed=1)).past_key_values.to_legacy_cache()
    leaves = tuple(layer.requires_grad_() for layer in prefix)

    def loss(legacy: tuple[Tensor, ...]) -> Tensor:
        first = model(ids[:, :2], past_key_values=legacy)
        second = model(ids[:, 2:], past_key_values=first.past_key_values)
        return torch.cat([first.logits, second.logits], dim=1).square().mean()

    told = torch.autograd.grad(loss(leaves), leaves)
    for at, gradient in enumerate(told):
        torch.manual_seed(at)
        direction = torch.randn_like(gradient)
        step = 1e-6 * direction
        ends = [
            loss(tuple(leaf + sign * step * (at == own) for own, leaf in enumerate(leaves)))
            for sign in (1, -1)
        ]
        measured = ((ends[0] - ends[1]) / 2e-6).item()
        assert (gradient * direction).sum().item() == pytest.approx(measured, rel=1e-5)


@pytest.mark.parametrize("lengths", [[4, 4], [4, 2]])
def test_inference_writes_in_place_where_there_is_room(lengths: list[int]) -> None:
    config = small_config()
    model = wide_model(config)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            cache = new_cache(config, 2, 12)
            places = [layer.data_ptr() for layer in cache.layers]
            cache.advance(4)
            cache.crop(lengths)
            for time in (3, 1, 4):
                output = model(random_ids(config, 2, time), past_key_values=cache)
                assert output.past_key_values is cache
                assert [layer.data_ptr() for layer in cache.layers] == places
            model(random_ids(config, 2, 1), past_key_values=cache)
            assert [layer.data_ptr() for layer in cache.layers] != places


@pytest.mark.parametrize("cropped", [[5, 5], [5, 3]])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
def test_steps_without_gradients_spare_what_a_backward_pass_needs(
    attention: str, cropped: list[int], *, multi_query: bool
) -> None:
    """A graph is recorded over the cache, and used after the cache has gone on without it."""
    model = wide_model(small_config(multi_query=multi_query), attention)
    ids = random_ids(model.config, 2, 8)
    parameters = list(model.parameters())
    whole = torch.autograd.grad(model(ids).logits.square().sum(), parameters)
    output = model(ids)
    cache = output.past_key_values
    with torch.no_grad():
        cache.crop(cropped)
        for _ in range(3):
            model(ids[:, :1], past_key_values=cache)
    told = torch.autograd.grad(output.logits.square().sum(), parameters)
    assert all(torch.equal(*pair) for pair in zip(told, whole, strict=True))


@pytest.mark.parametrize("cropped", [[4, 4], [4, 2]])
@pytest.mark.parametrize("gradients", [True, False])
def test_a_cache_made_in_inference_mode_serves_outside_of_it(
    cropped: list[int], *, gradients: bool
) -> None:
    config = small_config(n_layer=2)
    model = wide_model(config)
    ids = random_ids(config, 2, 7)
    with torch.inference_mode():
        cache = model(ids[:, :4]).past_key_values
        for _ in range(2):
            cache.crop(cropped)
            model(ids[:, 4:], past_key_values=cache)
        cache.crop(cropped)
    new = torch.stack([row[at : at + 3] for row, at in zip(ids, cropped, strict=True)])
    with torch.set_grad_enabled(gradients):
        logits = model(new, past_key_values=cache).logits
        if gradients:
            told = torch.autograd.grad(logits.sum(), list(model.parameters()))
            assert all(gradient.isfinite().all() for gradient in told)
    for row, at in enumerate(cropped):
        expected = model(ids[row : row + 1, : at + 3]).logits[0, at:]
        assert relative_difference(logits[row], expected) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("multi_query", [True, False])
def test_rows_that_were_put_into_a_cache_and_moved_there_go_on_as_if_alone(
    *, multi_query: bool
) -> None:
    config = small_config(multi_query=multi_query)
    model = wide_model(config)
    texts = [[5, 6, 7], [8, 9], [1, 2, 3, 4, 11], [12]]
    lone = [new_cache(config, 1, capacity=8) for _ in texts]
    for own, ids in zip(lone, texts, strict=True):
        feed(model, own, [ids])
    shared = KVCache.allocate(config, 0, 8, dtype=torch.float32, device="cpu", room=5)
    assert (shared.batch, shared.room) == (0, 5)
    tensors = [layer.data_ptr() for layer in shared.layers]
    for row, place in ((0, 0), (1, 1), (2, 3), (3, 2)):
        shared.put(lone[row], [place])
    assert shared.lengths == [3, 2, 1, 5]
    shared.keep([0, 3, 2])
    assert shared.lengths == [3, 5, 1]
    shared.put(lone[1], [3])
    assert [layer.data_ptr() for layer in shared.layers] == tensors
    ours = feed(model, shared, [[20], [21], [22], [23]])
    for row, (which, id_) in enumerate(((0, 20), (2, 21), (3, 22), (1, 23))):
        (expected,) = feed(model, lone[which], [[id_]])
        torch.testing.assert_close(ours[row], expected)
    shared.keep([2, 0])
    assert shared.lengths == [2, 4]
    ours = feed(model, shared, [[30], [31]])
    for row, which in enumerate((3, 0)):
        (expected,) = feed(model, lone[which], [[30 + row]])
        torch.testing.assert_close(ours[row], expected)


def test_rows_without_room_are_refused() -> None:
    config = small_config()
    cache = new_cache(config, 1, capacity=4)
    shared = KVCache.allocate(config, 1, 3, dtype=torch.float32, device="cpu", room=2)
    with pytest.raises(UsageError, match="3 rows of 0 tokens have no room in a cache of 2 x 3"):
        shared.put(cache, [2])
    feed(wide_model(config), cache, [[1, 2, 3, 4]])
    with pytest.raises(UsageError, match="2 rows of 4 tokens"):
        shared.put(cache, [1])
