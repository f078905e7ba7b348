"""Who sees whom, against loops that are told it slot by slot."""

import itertools
import random

import pytest
import torch
from torch import Tensor

from bigcode_cli.errors import UsageError
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.masks import CausalMask, additive, positions_of
from tests.model.mask_cases import BATCH, SLOTS, block_causal, draw, in_chunks, small_model
from tests.model.models import random_ids, relative_difference, small_config, wide_model
from tests.model.oracle_loops import HIDDEN, causal, hiding, loop_weights, padded, run_loops

TOLERANCE = 1e-5
SEEDS = range(6)
KERNELS = ["eager", "sdpa"]


@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_padding_and_holes_hide_what_the_loops_hide(seed: int, attention: str) -> None:
    case = draw(seed, attention)
    for positions in (None, positions_of(case.mask)):
        expected = run_loops(
            loop_weights(case.model),
            case.model.config,
            case.ids,
            padded(case.mask),
            positions=positions,
        ).hidden
        for mask in (case.mask, case.mask.bool(), case.mask * 0.25):
            hidden = case.model.transformer(
                case.ids, attention_mask=mask, position_ids=positions
            ).last_hidden_state
            assert relative_difference(hidden, expected) < TOLERANCE
        hidden = in_chunks(case.model, case.ids, case.mask, case.chunks, positions)
        assert relative_difference(hidden, expected) < TOLERANCE


@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("with_mask", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_rows_of_different_length_hide_what_the_loops_hide(
    seed: int, attention: str, *, with_mask: bool
) -> None:
    """Chunks are padded on the right, cropped and overwritten; a 2-D mask speaks of slots."""
    case = draw(seed, attention)
    mask = case.mask if with_mask else torch.ones_like(case.mask)
    expected = run_loops(loop_weights(case.model), case.model.config, case.ids, padded(mask)).hidden
    rng = random.Random(seed)
    cache = KVCache.allocate(case.model.config, BATCH, SLOTS, dtype=torch.float32, device="cpu")
    while min(cache.lengths) < SLOTS:
        held = cache.lengths
        counts = [min(rng.randrange(4), SLOTS - length) for length in held]
        time = max(counts)
        if time == 0:
            continue
        new = torch.full((BATCH, time), 7)
        for row, (length, count) in enumerate(zip(held, counts, strict=True)):
            new[row, :count] = case.ids[row, length : length + count]
        # Beyond the last slot of a row lies nothing but what is about to be cropped.
        wide = torch.cat([mask, torch.ones_like(mask)], dim=1)[:, : max(held) + time]
        hidden = case.model.transformer(
            new, past_key_values=cache, attention_mask=wide if with_mask else None
        ).last_hidden_state
        assert hidden.isfinite().all()
        cache.crop([length + count for length, count in zip(held, counts, strict=True)])
        for row, (length, count) in enumerate(zip(held, counts, strict=True)):
            wanted = expected[row, length : length + count]
            if count:
                assert relative_difference(hidden[row, :count], wanted) < TOLERANCE


@pytest.mark.parametrize("kind", ["boolean", "float"])
@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_a_4d_mask_is_taken_as_it_is(seed: int, attention: str, kind: str) -> None:
    """Causal or not, of its own for each head and row or not; never quite empty."""
    case = draw(seed, attention)
    rng = random.Random(seed)
    torch.manual_seed(seed)
    rows, heads = rng.choice([1, BATCH]), rng.choice([1, 3])
    seen = torch.rand(rows, heads, SLOTS, SLOTS) < 0.6
    seen |= torch.eye(SLOTS, dtype=torch.bool)
    bias = torch.randn(seen.shape) * 2
    for chunks in ([SLOTS], case.chunks):
        if kind == "boolean":
            mask = block_causal(seen, chunks)
            sees = hiding(mask)
        else:
            mask = block_causal(bias.masked_fill(~seen, HIDDEN), chunks)
            sees = mask
        expected = run_loops(loop_weights(case.model), case.model.config, case.ids, sees).hidden
        hidden = in_chunks(case.model, case.ids, mask, chunks)
        assert relative_difference(hidden, expected) < TOLERANCE
        if kind == "float":
            lowest = mask.clamp(min=torch.finfo(torch.float32).min)
            assert torch.equal(in_chunks(case.model, case.ids, lowest, chunks), hidden)


@pytest.mark.parametrize("attention", KERNELS)
@torch.no_grad()
def test_a_causal_4d_mask_changes_nothing(attention: str) -> None:
    model = small_model(attention)
    ids = random_ids(model.config, BATCH, SLOTS)
    plain = model(ids).logits
    for mask in (
        causal(SLOTS) == 0,
        causal(SLOTS).float(),
        (causal(SLOTS) == 0).expand(3, 3, -1, -1),
    ):
        shaped = mask if mask.dim() == 4 else mask[None, None]
        assert relative_difference(model(ids, attention_mask=shaped).logits, plain) < 1e-6


@pytest.mark.parametrize("attention", KERNELS)
@torch.no_grad()
def test_cache_position_says_what_is_seen_and_where_it_stands(attention: str) -> None:
    model = small_model(attention)
    ids = random_ids(model.config, BATCH, SLOTS)
    columns = torch.arange(SLOTS)
    for given in (columns, torch.tensor([3, 4, 5, 5, 6, 9, 9, 2]), columns + 4):
        for positions in (None, torch.arange(SLOTS)[None]):
            expected = run_loops(
                loop_weights(model),
                model.config,
                ids,
                hiding(columns <= given[:, None]),
                positions=(given[None] if positions is None else positions).expand(BATCH, -1),
            ).hidden
            hidden = model.transformer(
                ids, cache_position=given, position_ids=positions
            ).last_hidden_state
            assert relative_difference(hidden, expected) < TOLERANCE
    full = model(ids).logits
    cache = model(ids[:, :5]).past_key_values
    rest = model(ids[:, 5:], past_key_values=cache, cache_position=columns[5:]).logits
    assert relative_difference(rest, full[:, 5:]) < TOLERANCE


@pytest.mark.parametrize("lengths", [[0, 0, 0], [4, 4, 4], [4, 2, 3]])
@torch.no_grad()
def test_cache_position_and_padding_hide_together(lengths: list[int]) -> None:
    """A column is hidden by either, a query's own no less; one left with nothing gets numbers."""
    model = small_model("auto")
    ids = random_ids(model.config, BATCH, SLOTS)
    longest = max(lengths)
    for seed in range(4):
        torch.manual_seed(seed)
        given = torch.randint(longest, longest + 4, (4,))
        mask = torch.rand(BATCH, longest + 4) < 0.6
        cache = model.transformer(ids[:, : max(longest, 1)]).past_key_values
        cache.crop(lengths)
        options = {"attention_mask": mask, "cache_position": given, "past_key_values": cache}
        fused = model.transformer(ids[:, -4:], use_cache=False, **options).last_hidden_state
        output = model.transformer(ids[:, -4:], output_attentions=True, **options)
        assert relative_difference(fused, output.last_hidden_state) < TOLERANCE
        assert all(layer.isfinite().all() for layer in cache.layers)
        seen = mask[:, None] & (torch.arange(longest + 4) <= given[:, None])
        seen |= ~seen.any(dim=-1, keepdim=True)
        assert not output.attentions[0][~seen[:, None].expand(-1, 3, -1, -1)].any()
        assert output.attentions[0][seen[:, None].expand(-1, 3, -1, -1)].all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_numbers_at_padding_never_reach_real_positions(
    seed: int, attention: str, dtype: torch.dtype
) -> None:
    """Bit for bit: what stands at padding weighs nothing at all."""
    case = draw(seed, attention)
    model = case.model.to(dtype)
    real = case.mask != 0
    other = torch.where(real, case.ids, random_ids(model.config, BATCH, SLOTS, seed + 100))
    for chunks in ([SLOTS], case.chunks):
        told = [in_chunks(model, ids, case.mask, chunks) for ids in (case.ids, other)]
        assert all(hidden.isfinite().all() for hidden in told)
        assert torch.equal(told[0][real], told[1][real])
        assert not torch.equal(told[0], told[1])


@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("chunks", [[SLOTS], [3, 4, 1]])
@torch.no_grad()
def test_padding_on_either_side_changes_nothing(attention: str, chunks: list[int]) -> None:
    model = small_model(attention)
    ids = random_ids(model.config, BATCH, SLOTS)
    for count in (1, 4, 7):
        left = torch.ones(BATCH, SLOTS, dtype=torch.int64)
        left[:, :count] = 0
        for mask, real in ((left, slice(count, None)), (left.flip(1), slice(0, SLOTS - count))):
            alone = model.transformer(ids[:, real]).last_hidden_state
            hidden = in_chunks(model, ids, mask, chunks, positions_of(mask))[:, real]
            assert relative_difference(hidden, alone) < TOLERANCE
        hidden = in_chunks(model, ids, left.flip(1), chunks)[:, : SLOTS - count]
        assert relative_difference(hidden, alone) < TOLERANCE


@torch.no_grad()
def test_a_mask_without_padding_changes_nothing() -> None:
    for attention in KERNELS:
        model = small_model(attention)
        ids = random_ids(model.config, BATCH, SLOTS)
        for chunks in ([SLOTS], [3, 1, 4]):
            plain = in_chunks(model, ids, None, chunks)
            masked = in_chunks(model, ids, torch.ones(BATCH, SLOTS), chunks)
            assert relative_difference(masked, plain) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("softmax_in_fp32", [True, False])
@pytest.mark.parametrize("attention", KERNELS)
@torch.no_grad()
def test_all_numbers_are_finite_whatever_is_hidden(
    attention: str, dtype: torch.dtype, *, softmax_in_fp32: bool
) -> None:
    config = small_config(n_layer=2, attention_softmax_in_fp32=softmax_in_fp32)
    model = wide_model(config, attention).to(dtype)
    ids = random_ids(config, BATCH, SLOTS)
    nothing = torch.zeros(1, 1, SLOTS, SLOTS)
    masks = [
        torch.zeros(BATCH, SLOTS),
        nothing.bool(),
        nothing + HIDDEN,
        nothing + torch.finfo(dtype).min,
        torch.where(torch.rand(BATCH, 4, SLOTS, SLOTS) < 0.3, HIDDEN, 0.0),
    ]
    for mask, chunks in itertools.product(masks, ([SLOTS], [5, 1, 2])):
        assert in_chunks(model, ids, mask, chunks).isfinite().all()


def test_positions_count_real_tokens() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 0, 1], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    expected = [[0, 0, 0, 1, 1, 2], [0, 1, 2, 2, 2, 2], [0, 0, 0, 0, 0, 0]]
    for given in (mask, mask.bool(), mask * 0.5):
        assert positions_of(given).tolist() == expected
    assert positions_of(mask.bool()).dtype == torch.int64


def test_the_causal_square_grows_and_is_kept() -> None:
    kept = CausalMask()
    cpu = torch.device("cpu")
    places = set()
    for past, time in [(0, 3), (2, 1), (0, 1), (4, 2), (7, 4), (11, 1), (1, 9)]:
        rows = kept.rows(past, time, cpu)
        assert rows.shape == (1, 1, time, past + time)
        for query, slot in itertools.product(range(time), range(past + time)):
            assert bool(rows[0, 0, query, slot]) == (slot <= past + query)
        places.add(rows.untyped_storage().data_ptr())
    assert len(places) <= 3


def test_a_mask_to_add_is_finite_and_of_the_dtype_of_the_scores() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        lowest = torch.finfo(dtype).min
        hidden = additive(torch.tensor([True, False]), dtype)
        assert hidden.dtype == dtype
        assert hidden.tolist() == [0.0, lowest]
        given = torch.tensor([0.5, HIDDEN, torch.finfo(torch.float32).min, -3.0])
        assert additive(given, dtype).tolist() == [0.5, lowest, lowest, -3.0]
    assert additive(torch.tensor([-1e300], dtype=torch.float64), torch.float32).isfinite().all()


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (
            torch.ones(3, 4),
            "a 2-D attention_mask covers the cache and the new tokens: (3, 5), not (3, 4)",
        ),
        (
            torch.ones(2, 5),
            "a 2-D attention_mask covers the cache and the new tokens: (3, 5), not (2, 5)",
        ),
        (torch.ones(5), "attention_mask has 2 or 4 dimensions, not 1"),
        (torch.ones(3, 2, 5), "attention_mask has 2 or 4 dimensions, not 3"),
        (
            torch.ones(2, 1, 2, 5),
            "a 4-D attention_mask is (1 or 3, 1 or 4, 2, 5), not (2, 1, 2, 5)",
        ),
        (
            torch.ones(3, 2, 2, 5),
            "a 4-D attention_mask is (1 or 3, 1 or 4, 2, 5), not (3, 2, 2, 5)",
        ),
        (
            torch.ones(3, 1, 5, 5),
            "a 4-D attention_mask is (1 or 3, 1 or 4, 2, 5), not (3, 1, 5, 5)",
        ),
        (
            torch.ones(3, 1, 2, 2),
            "a 4-D attention_mask is (1 or 3, 1 or 4, 2, 5), not (3, 1, 2, 2)",
        ),
        (
            torch.ones(3, 1, 2, 5, dtype=torch.int64),
            "a 4-D attention_mask is boolean or float, not torch.int64",
        ),
    ],
)
@torch.no_grad()
def test_a_mask_that_means_nothing_is_refused(mask: Tensor, told: str) -> None:
    config = small_config()
    model = wide_model(config)
    ids = random_ids(config, 3, 5)
    cache = model(ids[:, :3]).past_key_values
    with pytest.raises(UsageError) as caught:
        model(ids[:, 3:], past_key_values=cache, attention_mask=mask)
    assert caught.value.message == told
    assert cache.lengths == [3, 3, 3]
