"""What a run of the suite has to tell."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.parity.cases import Case
from tests.parity.compare import TOLERANCES, Difference, verdict

IMPLEMENTATIONS = ("eager", "fused")


@dataclass
class Report:
    """The worst differences so far, by quantity and by argument, and all failures."""

    worst: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    excess: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cases: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failures: list[str] = field(default_factory=list)

    def begin(self, case: Case) -> None:
        """Count a case under its arguments."""
        for argument in case.plan.arguments():
            self.cases[argument] += 1

    def add(self, case: Case, implementation: str, found: Sequence[Difference]) -> None:
        """Take down the differences of one run of a case."""
        for one in found:
            key = one.quantity, implementation
            self.worst[key] = max(self.worst[key], one.size)
        largest = max(one.excess for one in found)
        for argument in case.plan.arguments():
            self.excess[argument] = max(self.excess[argument], largest)
        message = verdict(found)
        if message is not None:
            self.fail(case, implementation, message)

    def fail(self, case: Case, implementation: str, message: str) -> None:
        """Take down a failure."""
        self.failures.append(f"case {case.plan.number} ({implementation}): {message}")

    def show(self) -> None:
        """Print both tables and the failures."""
        print(f"{'quantity':24} {'eager':>9} {'fused':>9} {'tolerance':>9}")
        for quantity, tolerance in TOLERANCES.items():
            sizes = [self.worst[quantity, name] for name in IMPLEMENTATIONS]
            print(f"{quantity:24} {sizes[0]:9.1e} {sizes[1]:9.1e} {tolerance:9.0e}")
        print(f"\n{'argument':40} {'cases':>5} {'worst, of tolerance':>19}")
        for argument, count in sorted(self.cases.items()):
            print(f"{argument:40} {count:5} {self.excess[argument]:19.1%}")
        print()
        for failure in self.failures:
            print(failure)
