"""The attention kernels at the size of a real model, in half precision, on a GPU.

24 layers of SantaCoder's shape with random weights, a text of 2,048 tokens.
"""

import importlib.util
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

TOLERANCE = 2e-2
"""Relative to the largest logit; margins below it may go either way."""

KERNELS = [
    "sdpa",
    pytest.param(
        "flash_attention_2",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("flash_attn") is None, reason="needs the flash-attn package"
        ),
    ),
]
TEXT, NEW = 2048, 64


@pytest.fixture(scope="module", params=[torch.bfloat16, torch.float16], ids=str)
def santacoder(request: pytest.FixtureRequest) -> Iterator[GPTBigCodeForCausalLM]:
    config = GPTBigCodeConfig(
        vocab_size=49280, n_positions=TEXT + NEW, n_embd=2048, n_layer=24, n_head=16
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = GPTBigCodeForCausalLM(config, "eager")
    yield model.to(request.param).eval()
    torch.cuda.empty_cache()


@pytest.fixture(scope="module")
def ids() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(49280, (1, TEXT), generator=generator).cuda()


@torch.inference_mode()
def logits_of(model: GPTBigCodeForCausalLM, kernel: str, ids: Tensor) -> Tensor:
    model.set_attn_implementation(kernel)
    logits: Tensor = model(ids, use_cache=False).logits
    return logits.float()


@torch.inference_mode()
def stepwise(model: GPTBigCodeForCausalLM, kernel: str, ids: Tensor, text: Tensor) -> Tensor:
    """Logits ``(NEW, vocab)`` after the text, each step fed the next of ``ids`` ``(1, NEW)``."""
    model.set_attn_implementation(kernel)
    output = model(text, use_cache=True)
    steps = [output.logits[0, -1]]
    for at in range(NEW - 1):
        output = model(ids[:, at : at + 1], past_key_values=output.past_key_values)
        steps.append(output.logits[0, -1])
    return torch.stack(steps).float()


@pytest.mark.parametrize("kernel", KERNELS)
def test_logits_agree_with_eager(
    santacoder: GPTBigCodeForCausalLM, ids: Tensor, kernel: str
) -> None:
    expected = logits_of(santacoder, "eager", ids)
    difference = (logits_of(santacoder, kernel, ids) - expected).abs().max()
    largest = expected.abs().max()
    print(f"{kernel} {santacoder.dtype}: {difference:.4f} of {largest:.2f}")
    assert difference / largest <= TOLERANCE


@pytest.mark.parametrize("kernel", KERNELS)
def test_greedy_ids_agree_wherever_the_margin_is_wide(
    santacoder: GPTBigCodeForCausalLM, ids: Tensor, kernel: str
) -> None:
    santacoder.set_attn_implementation("eager")
    greedy = santacoder.generate(ids, max_new_tokens=NEW, eos_token_id=-1)[:, TEXT:]
    expected = stepwise(santacoder, "eager", greedy, ids)
    assert torch.equal(expected.argmax(-1), greedy[0])
    best, second = expected.topk(2).values.unbind(-1)
    wide = best - second > TOLERANCE * expected.abs().max()
    got = stepwise(santacoder, kernel, greedy, ids).argmax(-1)
    print(
        f"{kernel} {santacoder.dtype}: {int(wide.sum())} of {NEW} margins are wide, "
        f"{int((got == greedy[0]).sum())} ids agree"
    )
    assert torch.equal(got[wide], greedy[0][wide])
    assert int(wide.sum()) >= NEW // 4
