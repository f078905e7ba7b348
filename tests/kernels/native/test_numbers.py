"""Every format that weights are stored in, against a twin in float64."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from bigcode_cli.kernels.weights import Geometry, Matrix, Weights
from bigcode_cli.model.quantize import quantize_int4, quantize_int8
from tests.kernels.native.models import NativeModel, relative, sets_here
from tests.kernels.native.twin import head_of, logits_of, multiplied
from tests.kernels.shapes import Numbers, geometry

CPU = torch.device("cpu")
FLIPS = 3e-3
"""A code that the twin rounds the other way, of hundreds, costs less; a wrong sum costs more."""

SHAPES = (
    geometry(),
    geometry(heads=5, head_dim=18, width=90, inner=300, vocab=77),
    geometry(heads=3, kv_heads=3, head_dim=21, width=63, inner=257, activation="gelu"),
)


def drawn(shape: Geometry, bits: int, dtype: torch.dtype = torch.float32) -> Weights:
    torch.manual_seed(shape.width + bits)
    return Numbers(dtype, bits, CPU).weights(shape)


def ids_of(shape: Geometry, count: int = 33) -> list[int]:
    return torch.randint(0, shape.vocab, (count,)).tolist()


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.heads}x{shape.head_dim}")
@pytest.mark.parametrize("name", sets_here())
class TestExact:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_halves_are_what_they_say(self, name: str, shape: Geometry, dtype: torch.dtype) -> None:
        weights, ids = drawn(shape, 16, dtype), ids_of(shape)
        logits = NativeModel(weights, instructions=name).row().feed(ids)
        assert relative(logits, logits_of(weights, ids)) < 1e-5

    def test_codes_of_8_bits_times_their_factor(self, name: str, shape: Geometry) -> None:
        weights, ids = drawn(shape, 8), ids_of(shape)
        logits = NativeModel(weights, instructions=name).row().feed(ids)
        assert relative(logits, logits_of(weights, ids)) < 1e-5


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.heads}x{shape.head_dim}")
@pytest.mark.parametrize(("name", "bits"), list(product(sets_here(), (8, 4))))
class TestQuantised:
    def test_a_product_of_codes_is_the_twins(self, name: str, bits: int, shape: Geometry) -> None:
        """Of the very states that the engine tells: no code can be rounded otherwise."""
        weights = drawn(shape, 8)
        weight = torch.randn(shape.vocab + 5, shape.width)
        codes, scale = (quantize_int8 if bits == 8 else quantize_int4)(weight)
        weights = replace(weights, head=Matrix(codes, bits, shape.width, scale))
        for threads, count in ((1, 1), (2, 7), (2, 40)):
            model = NativeModel(weights, threads, quantises=True, instructions=name)
            done, states, logits = model.feed([model.row()], [ids_of(shape, count)], range(count))
            assert done == 0
            expected = multiplied(head_of(weights), states, quantises=True)
            assert relative(logits, expected) < 1e-6

    def test_a_model_is_the_twin_but_for_a_few_codes(
        self, name: str, bits: int, shape: Geometry
    ) -> None:
        weights, ids = drawn(shape, bits), ids_of(shape)
        expected = logits_of(weights, ids, quantises=True)
        model = NativeModel(weights, quantises=True, instructions=name)
        assert relative(model.row().feed(ids), expected) < FLIPS
        row = model.row()
        parts = [row.feed(part) for part in (ids[:9], ids[9:10], ids[10:])]
        assert relative(torch.cat(parts), expected) < FLIPS
        # Without codes it is another function: the bound above tells them apart.
        assert relative(logits_of(weights, ids), expected) > FLIPS or bits == 4


def test_int8_activations_of_many_chunks_are_the_twins() -> None:
    shape = geometry(heads=10, head_dim=60, width=600, inner=1100, layers=1)
    for bits in (8, 4):
        weights, ids = drawn(shape, bits), ids_of(shape, 5)
        expected = logits_of(weights, ids, quantises=True)
        for name in sets_here():
            model = NativeModel(weights, quantises=True, instructions=name)
            assert relative(model.row().feed(ids), expected) < FLIPS


def spoilt(weights: Weights, place: str, number: float) -> Weights:
    """One number of a tensor replaced, in the first layer if it is a layer's."""
    layer = weights.layers[0]

    def with_number(tensor: torch.Tensor, at: int = 0) -> torch.Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[at] = number
        return tensor

    shape, columns = weights.geometry, weights.geometry.width
    if place == "positions":
        return replace(weights, positions=with_number(weights.positions))
    if place in {"head", "tokens"}:
        table = weights.head
        table = replace(table, weight=with_number(table.weight, 3 * columns))
        if place == "head":
            return replace(weights, head=table)
        return replace(weights, tokens=table)
    if place == "last":
        return replace(weights, last=replace(weights.last, weight=with_number(weights.last.weight)))
    if place in {"query", "key", "value"}:
        row = {"query": 0, "key": shape.width, "value": shape.width + shape.head_dim}[place]
        matrix = layer.projection
        changed = replace(
            layer, projection=replace(matrix, weight=with_number(matrix.weight, row * columns))
        )
    elif place == "before_mlp":
        norm = layer.before_mlp
        changed = replace(layer, before_mlp=replace(norm, bias=with_number(norm.bias)))
    else:
        matrix = getattr(layer, place)
        changed = replace(layer, **{place: replace(matrix, weight=with_number(matrix.weight))})
    return replace(weights, layers=(changed, *weights.layers[1:]))


PLACES = (
    *("tokens", "positions", "query", "key", "value", "output", "up", "down", "before_mlp"),
    *("last", "head"),
)


@pytest.mark.parametrize("name", sets_here())
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu", "tanh"])
def test_what_is_no_number_is_told_where_the_twin_tells_it(
    name: str, place: str, activation: str
) -> None:
    weights = spoilt(drawn(geometry(activation=activation), 16), place, torch.nan)
    ids = [5, 3, 9, 11, 3]
    logits = NativeModel(weights, instructions=name).row().feed(ids)
    expected = logits_of(weights, ids)
    assert expected.isnan().any()
    # Beside tokens that see it, those may tell it that are worked at together with them.
    assert logits[expected.isnan()].isnan().all()


@pytest.mark.parametrize("name", sets_here())
@pytest.mark.parametrize("place", PLACES)
def test_what_is_infinite_never_becomes_a_likely_number(name: str, place: str) -> None:
    weights = spoilt(drawn(geometry(), 16), place, torch.inf)
    ids = [5, 3, 9, 11, 3]
    logits = NativeModel(weights, instructions=name).row().feed(ids)
    assert not logits[~logits_of(weights, ids).isfinite()].isfinite().any()


@pytest.mark.parametrize("name", sets_here())
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("place", ["positions", "before_mlp", "last"])
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_codes_hide_nothing(name: str, bits: int, place: str, number: float) -> None:
    weights = spoilt(drawn(geometry(), bits), place, number)
    model = NativeModel(weights, quantises=True, instructions=name)
    assert model.row().feed([5, 3, 9])[0].isnan().all()


@pytest.mark.parametrize("name", sets_here())
@pytest.mark.parametrize("size", [0.0, 1e-38, 1e-40, 1e-44])
def test_activations_of_next_to_nothing_count_as_next_to_nothing(name: str, size: float) -> None:
    """A factor too small to have an inverse."""
    weights = drawn(geometry(), 8)
    last = replace(weights.last, weight=weights.last.weight * size, bias=weights.last.bias * size)
    model = NativeModel(replace(weights, last=last), quantises=True, instructions=name)
    assert model.row().feed([5, 3, 9]).abs().max() < 1e-30
