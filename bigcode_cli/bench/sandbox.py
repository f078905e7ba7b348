"""Programs that a model wrote, run where they can do no harm: a script for each, ``jail.py``.

What a program is kept from: the network; all files but Python's own library, which it may read;
writing anywhere but in an empty ``/tmp`` of its own, in memory; seeing or signalling any other
process; more time, memory, processes, open files and disk than ``Limits`` says. All that it
started is gone when its result is known. It sees no environment variable and no input.

What is not covered: a hole in the kernel itself; time that other programs lose while this one
runs; memory is limited for each process, so that all together may take ``processes`` times as
much. A program that finds out how ``jail.py`` tells success could feign it.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import Literal

from bigcode_cli.bench import jail
from bigcode_cli.errors import UsageError

Verdict = Literal["pass", "fail", "timeout", "memory"]

_VERDICTS: dict[int, Verdict] = {
    jail.PASSED: "pass",
    jail.FAILED: "fail",
    jail.TIMED_OUT: "timeout",
    jail.OUT_OF_MEMORY: "memory",
}
GRACE_S = 10
"""How long the kernel may take to clear away a program's processes."""

_HINT = "it needs Linux 5.12 or later that grants namespaces; nothing is run without"

_PROBE = """
import errno, os, socket
assert os.getpid() == 2 and os.listdir(".") == [] and not os.environ
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 9))
except OSError as error:
    assert error.errno == errno.ENETUNREACH
else:
    raise AssertionError
"""
"""Passes in a sandbox that is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one program may take.

    Attributes:
        cpu_s: seconds of processor time, of each process.
        wall_s: seconds from start to end, all in.
        memory_bytes: address space of each process.
        processes: and threads, at one time, up to three that keep watch counted in; started by
            root, those of all programs under way together.
        file_bytes: of each file.
        disk_bytes: of all files.
    """

    cpu_s: int = 5
    wall_s: float = 15.0
    memory_bytes: int = 512 << 20
    processes: int = 8
    open_files: int = 64
    file_bytes: int = 16 << 20
    disk_bytes: int = 32 << 20


def check_sandbox() -> None:
    """Make sure that programs can be kept from doing harm here.

    Raises:
        UsageError: they cannot.
    """
    if not sys.platform.startswith("linux"):
        raise UsageError(f"--execute cannot protect this machine: {sys.platform}", _HINT)
    if run_programs([_PROBE]) != ["pass"]:
        raise UsageError("--execute cannot protect this machine: the sandbox leaks", _HINT)


def run_programs(
    programs: Sequence[str],
    limits: Limits | None = None,
    *,
    workers: int | None = None,
    told: Callable[[int], None] | None = None,
) -> list[Verdict]:
    """Run Python programs, several side by side, and say how each ended.

    A program has passed when it got to its end; ``sys.exit`` in it does not count.

    Args:
        workers: how many run at one time; ``None`` is one for each core.
        told: called with the number of programs that have ended.

    Raises:
        UsageError: one could not be protected from; it was not run.
    """
    limits = limits or Limits()
    verdicts: dict[int, Verdict] = {}
    places = iter(range(len(programs)))
    most = workers or len(os.sched_getaffinity(0))
    with selectors.DefaultSelector() as selector:
        running: set[_Run] = set()
        try:
            while len(verdicts) < len(programs):
                while len(running) < most and (place := next(places, None)) is not None:
                    run = _Run(place, programs[place], limits)
                    selector.register(run.errors, selectors.EVENT_READ, run)
                    running.add(run)
                patience = min(run.deadline for run in running) - monotonic()
                ended = {key.data for key, _ in selector.select(max(0.0, patience))}
                late = {run for run in running if run.deadline <= monotonic()}
                for run in ended | late:
                    if run in late or run.has_ended():
                        selector.unregister(run.errors)
                        running.discard(run)
                        verdicts[run.place] = "timeout" if run in late else run.verdict()
                        run.close()
                if told is not None and (ended or late):
                    told(len(verdicts))
        finally:
            for run in running:
                run.close()
    return [verdicts[place] for place in range(len(programs))]


class _Run:
    """One program under way.

    Attributes:
        place: of it among all.
        deadline: when it is too late.
        errors: ends when the program has; says why where there was no sandbox.
    """

    def __init__(self, place: int, program: str, limits: Limits) -> None:
        self.place = place
        self.deadline = monotonic() + limits.wall_s
        self._said = b""
        words = json.dumps({**asdict(limits), "parent": os.getpid()})
        with TemporaryFile() as source:
            source.write(program.encode("utf-8", "surrogatepass"))
            source.seek(0)
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", str(Path(jail.__file__)), words],
                stdin=source,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                env={},
                start_new_session=True,
            )
        assert self._process.stderr is not None
        self.errors = self._process.stderr

    def has_ended(self) -> bool:
        """Whether the pipe that had news is at its end."""
        said = os.read(self.errors.fileno(), 1 << 12)
        self._said += said
        return not said

    def verdict(self) -> Verdict:
        """How it ended.

        Raises:
            UsageError: there was no sandbox, and it was not run.
        """
        code = self._process.wait()
        if code in _VERDICTS:
            return _VERDICTS[code]
        reason = self._said.decode(errors="replace").strip().rpartition("\n")[2]
        raise UsageError(f"--execute cannot protect this machine: {reason or code}", _HINT)

    def close(self) -> None:
        """End what is left of it, and wait until it is gone."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self.errors.close()
