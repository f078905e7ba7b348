"""``python -m tests.parity``: see the package."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from transformers import PreTrainedModel

from bigcode_cli.model.pretrained import GPTBigCodePreTrainedModel
from tests.parity import golden, oracle, ours
from tests.parity.cases import Case, draw_case
from tests.parity.compare import FEW, differences, verdict
from tests.parity.mutants import MUTANTS, hunt
from tests.parity.report import Report
from tests.parity.results import ARGUMENTS, CLASSES, Results

NARROW = 0.3
"""Outputs that deviate less than this cannot tell models apart."""


def exchange(case: Case, attention: str) -> tuple[PreTrainedModel, GPTBigCodePreTrainedModel]:
    """The oracle's and this package's model, the same weights having gone across and back."""
    if case.plan.transfer == "saved here":
        with tempfile.TemporaryDirectory() as folder:
            ours.build(case, attention).save_pretrained(folder, max_shard_size=20_000)
            return oracle.load(case, Path(folder)), ours.load(case, Path(folder), attention)
    theirs = oracle.build(case)
    if case.plan.transfer == "saved there":
        with tempfile.TemporaryDirectory() as folder:
            theirs.save_pretrained(folder)
            return theirs, ours.load(case, Path(folder), attention)
    model = ours.empty(case, attention)
    model.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(model.state_dict(), strict=True)
    return theirs, model


def check(case: Case, report: Report) -> None:
    """Run one case on both sides, here by eager and by fused attention."""
    report.begin(case)
    for name, attention in (("eager", "eager"), ("fused", case.plan.attention)):
        try:
            theirs, model = exchange(case, attention)
            expected = oracle.run(case, theirs)
            found = list(differences(ours.run(case, model), expected))
        except Exception as error:  # A failure of either side is one of this case.
            report.fail(case, name, f"{type(error).__name__}: {error}")
            continue
        report.add(case, name, found)
        if is_narrow(expected):
            report.fail(case, name, "the oracle's outputs are too narrow to tell models apart")


def is_narrow(expected: Results) -> bool:
    """Whether the outputs deviate too little, where there are enough of them to say."""
    outputs = [
        tensor.flatten()
        for name, tensor in expected.tensors.items()
        if name.endswith(("logits", "last_hidden_state"))
    ]
    numbers = torch.cat(outputs)
    return numbers.numel() > FEW and numbers.std().item() < NARROW


def compare(seed: int, numbers: Sequence[int], *, is_verbose: bool) -> bool:
    """Run the suite; whether all is well."""
    report = Report()
    for kind, name in CLASSES.items():
        if oracle.arguments_of(kind) != ARGUMENTS[kind]:
            report.failures.append(f"{name}.forward takes {oracle.arguments_of(kind)}")
    for number in numbers:
        case = draw_case(seed, number)
        if is_verbose:
            print(f"case {number}: {case.plan}\n    {case.config}")
        check(case, report)
    report.show()
    print(f"{len(numbers)} cases of seed {seed}, {len(report.failures)} failures")
    return not report.failures


def plant(seed: int, numbers: Sequence[int]) -> bool:
    """Plant each mistake in turn; whether all are seen."""

    @cache
    def expected(number: int) -> Results:
        case = draw_case(seed, number)
        return oracle.run(case, oracle.build(case))

    def judge(case: Case, results: Results) -> str | None:
        return verdict(list(differences(results, expected(case.plan.number))))

    unseen = 0
    for name in MUTANTS:
        seen = hunt(name, (draw_case(seed, number) for number in numbers), judge)
        unseen += seen is None
        print(f"{name:50} {'not seen' if seen is None else f'seen by case {seen}'}")
    print(f"{len(MUTANTS)} mistakes planted, {unseen} not seen")
    return not unseen


def write_golden() -> None:
    """Write the share that ``test_golden.py`` compares."""
    golden.write(
        {case.plan.number: oracle.run(case, oracle.build(case)) for case in golden.cases()}
    )


def main() -> int:
    """Do what the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity")
    parser.add_argument("--seed", type=int, default=0, help="draws the suite (default 0)")
    parser.add_argument("--cases", type=int, default=240, help="how many of it (default 240)")
    parser.add_argument("--only", type=int, metavar="N", help="case N alone")
    parser.add_argument("--verbose", action="store_true", help="print what each case combines")
    parser.add_argument("--mutants", action="store_true", help="show that mistakes are seen")
    parser.add_argument("--write-golden", action="store_true", help="write test_golden.py's share")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    numbers = range(options.cases) if options.only is None else [options.only]
    is_well = True
    if options.write_golden:
        write_golden()
    elif options.mutants:
        is_well = plant(options.seed, numbers)
    else:
        is_well = compare(options.seed, numbers, is_verbose=options.verbose)
    print(f"{time.monotonic() - started:.0f} s")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
