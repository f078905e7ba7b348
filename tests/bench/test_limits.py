import importlib.util
import time

import pytest
import torch

from bigcode_cli.bench import limits
from bigcode_cli.bench.cases import Case
from bigcode_cli.bench.limits import decode_bytes, measure_limits, pass_flops
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig

CONFIG = GPTBigCodeConfig(
    vocab_size=300, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
)
UNTIED = CONFIG.with_changes(tie_word_embeddings=False)
WIDE = CONFIG.with_changes(multi_query=False)


def test_the_limits_are_those_of_real_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_BUFFER", {"cpu": 2**24})
    monkeypatch.setattr(limits, "_SIDE", {"cpu": 128})
    found = measure_limits("cpu", "float32", time.perf_counter_ns)
    assert found.buffer_bytes == 2**24
    assert 1e8 < found.copy <= found.read < 1e13
    assert 1e7 < found.flops < 1e15
    assert found.read_one is not None
    assert 1e8 < found.read_one <= found.read
    assert found.threads == torch.get_num_threads()


@pytest.mark.parametrize("config", [CONFIG, UNTIED, WIDE])
@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("bfloat16", 2)])
def test_a_step_reads_every_weight_but_embeddings(
    config: GPTBigCodeConfig, dtype: str, width: int
) -> None:
    model = GPTBigCodeForCausalLM(config)
    read = {id(p): p.numel() for name, p in model.named_parameters() if "wpe" not in name}
    if not config.tie_word_embeddings:
        del read[id(model.transformer.wte.weight)]
    case = Case(kind="tg", n_gen=3, n_depth=10, batch_size=5)
    heads = 4 if config is WIDE else 1
    # Each step reads what is held with its own token: 12, 13 and 14 slots.
    cache = (12 + 13 + 14) * 5 * 2 * config.n_layer * heads * config.head_dim
    assert decode_bytes(case, config, dtype, dtype) == (sum(read.values()) * 3 + cache) * width


def test_quantised_weights_are_read_as_they_are_stored() -> None:
    case = Case(kind="tg", n_gen=1)
    full = decode_bytes(case, CONFIG, "float32", "float32")
    assert full / 4 < decode_bytes(case, CONFIG, "float32", "int8") < full / 2
    assert decode_bytes(case, CONFIG, "float32", "int4") < decode_bytes(
        case, CONFIG, "float32", "int8"
    )


@pytest.mark.parametrize("config", [CONFIG, WIDE])
@pytest.mark.parametrize("depth", [0, 7])
def test_operations_are_those_of_the_matrix_products(config: GPTBigCodeConfig, depth: int) -> None:
    """Against a count by hand of every product that the reference makes, causal ones by halves."""
    case = Case(kind="pp", n_prompt=5, n_depth=depth, batch_size=2)
    linear = [
        module.weight
        for name, module in GPTBigCodeForCausalLM(config).named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    ]
    products = sum(2 * weight.numel() * 5 for weight in linear)
    attended = sum(depth + token + 1 for token in range(5))
    attention = config.n_layer * config.n_head * attended * 2 * 2 * config.head_dim
    last = 2 * config.vocab_size * config.n_embd
    assert pass_flops(case, config) == 2 * (products + attention + last)
    scored = Case(kind="sc", n_prompt=5, batch_size=2)
    if not depth:
        assert pass_flops(scored, config) - pass_flops(case, config) == 2 * 3 * last


def test_a_limit_is_that_of_the_fastest_round_and_of_one_call() -> None:
    ticks = iter([0, 1, 1, 2, 2, 3, *(t for n in range(10) for t in (100 * n, 100 * n + 40 - n))])
    calls: list[None] = []

    def work() -> torch.Tensor:
        calls.append(None)
        return torch.empty(0)

    assert limits._seconds(work, lambda: next(ticks), 4) == pytest.approx((40 - 9) / 4 / 1e9)
    assert len(calls) == 13 * 4


def test_kernels_that_cannot_be_built_leave_the_other_ways_to_read() -> None:
    assert limits._readers(torch.empty(8)) == []
    if torch.cuda.is_available() and importlib.util.find_spec("triton"):
        assert limits._readers(torch.rand(2**20, device="cuda"))
