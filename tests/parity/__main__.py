"""``python -m tests.parity``: see the package."""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from bigcode_cli.model.pretrained import GPTBigCodePreTrainedModel
from tests.parity import oracle, ours
from tests.parity.cases import Case, draw_case
from tests.parity.compare import FEW, TOLERANCES, Difference, differences
from tests.parity.results import ARGUMENTS, CLASSES, Results

NARROW = 0.3
"""Outputs that deviate less than this cannot tell models apart."""


@dataclass
class Report:
    """What was seen so far; ``worst`` by quantity and implementation, ``excess`` by argument."""

    worst: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    excess: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cases: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failures: list[str] = field(default_factory=list)

    def add(self, case: Case, attention: str, found: list[Difference]) -> None:
        """Count the differences of one run."""
        for difference in found:
            key = difference.quantity, attention
            self.worst[key] = max(self.worst[key], difference.size)
            for argument in case.plan.arguments():
                self.excess[argument] = max(self.excess[argument], difference.excess)
        bad = sorted((d for d in found if d.excess > 1), key=lambda difference: -difference.size)
        if bad:
            named = ", ".join(f"{d.name} {d.size:.1e}" for d in bad[:3])
            self.fail(case, attention, f"{len(bad)} of {len(found)} tensors differ: {named}")

    def fail(self, case: Case, attention: str, message: str) -> None:
        """Note a failure."""
        self.failures.append(f"case {case.plan.number} ({attention}): {message}")

    def show(self) -> None:
        """Print the tables."""
        print(f"\n{'quantity':20} {'eager':>9} {'fused':>9} {'tolerance':>9}")
        for quantity, tolerance in TOLERANCES.items():
            sizes = [self.worst[quantity, name] for name in ("eager", "fused")]
            print(f"{quantity:20} {sizes[0]:9.1e} {sizes[1]:9.1e} {tolerance:9.0e}")
        print(f"\n{'argument':34} {'cases':>5} {'of tolerance':>12}")
        for argument, count in sorted(self.cases.items()):
            print(f"{argument:34} {count:5} {self.excess[argument]:12.0%}")


def exchange(case: Case, attention: str) -> tuple[nn.Module, GPTBigCodePreTrainedModel]:
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
    for argument in case.plan.arguments():
        report.cases[argument] += 1
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


def main() -> int:
    """Run what the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=240)
    parser.add_argument("--only", type=int, metavar="N")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started, report = time.monotonic(), Report()
    for kind in CLASSES:
        if oracle.arguments_of(kind) != ARGUMENTS[kind]:
            report.failures.append(f"{CLASSES[kind]}.forward takes other arguments")
    numbers = range(options.cases) if options.only is None else [options.only]
    for number in numbers:
        case = draw_case(options.seed, number)
        if options.verbose:
            print(f"case {number}: {case.plan}\n    {case.config}")
        check(case, report)
    report.show()
    print(f"\n{len(numbers)} cases, seed {options.seed}, {time.monotonic() - started:.0f} s")
    for failure in report.failures:
        print(failure)
    print(f"{len(report.failures)} failures")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
