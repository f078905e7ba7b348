"""The grouped Muon against the library's."""

import torch

from bigcode_cli.training.muon import GroupedMuon, orthogonal

SHAPES = ((32, 16), (16, 64), (32, 16), (16, 16), (32, 16))


def test_grouped_updates_are_the_librarys_up_to_its_rounding() -> None:
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in SHAPES]
    slow = [torch.nn.Parameter(weight.clone()) for weight in start]
    fast = [torch.nn.Parameter(weight.clone()) for weight in start]
    options = {"lr": 2e-2, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    library: torch.optim.Optimizer = torch.optim.Muon(slow, **options)  # type: ignore[arg-type]
    grouped = GroupedMuon(fast, **options)  # type: ignore[arg-type]
    for step in range(5):
        for number, (one, other) in enumerate(zip(slow, fast, strict=True)):
            # One matrix has no gradient in some steps, as a frozen one.
            gradient = None if step % 2 and number == 2 else torch.randn_like(one)
            one.grad = gradient
            other.grad = None if gradient is None else gradient.clone()
        library.step()
        grouped.step()
        for one, other in zip(slow, fast, strict=True):
            # The library iterates in bfloat16 on a CPU too.
            torch.testing.assert_close(one, other, rtol=0, atol=2e-3)
    moved = max((one - first).abs().max().item() for one, first in zip(slow, start, strict=True))
    assert moved > 5e-2


def test_singular_values_go_through_the_polynomial_and_nothing_else_changes() -> None:
    torch.manual_seed(1)
    for shape in ((2, 24, 16), (3, 16, 40)):
        matrices = torch.randn(shape)
        left, values, right = torch.linalg.svd(matrices.double(), full_matrices=False)
        values /= values.norm(dim=-1, keepdim=True)
        for _ in range(5):
            values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
        expected = left @ torch.diag_embed(values) @ right
        found = orthogonal(matrices, (3.4445, -4.775, 2.0315), 5, 1e-7)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


def test_either_reads_the_others_state() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(8, 4))
    library = torch.optim.Muon([weight], 1e-2, adjust_lr_fn="match_rms_adamw")
    grouped = GroupedMuon([weight], 1e-2, adjust_lr_fn="match_rms_adamw")
    weight.grad = torch.randn_like(weight)
    grouped.step()
    library.load_state_dict(grouped.state_dict())
    grouped.load_state_dict(library.state_dict())
    assert torch.equal(
        library.state[weight]["momentum_buffer"], grouped.state[weight]["momentum_buffer"]
    )
