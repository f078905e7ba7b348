"""One measurement of speed: what is timed, on which sides, and what came of it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bigcode_cli.bench import peers
from bigcode_cli.bench.cases import Case
from bigcode_cli.bench.environment import environment
from bigcode_cli.bench.limits import Limits, measure_limits
from bigcode_cli.bench.measure import DeviceMemory, Samples, Side, device_clock, measure
from bigcode_cli.bench.shapes import Subject
from bigcode_cli.bench.sides import BackendSide, SessionSide
from bigcode_cli.bench.speed_rows import Engine, Row, rows
from bigcode_cli.engine.protocol import BackendInfo
from bigcode_cli.errors import UsageError
from bigcode_cli.records import LoadOptions, Reporter


def parse_peers(text: str | None) -> tuple[str, ...]:
    """The peers that are named, with commas between them.

    Raises:
        UsageError: one is unknown, or not installed.
    """
    names = () if text is None else tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in peers.PEERS:
            raise UsageError(f"no such peer: {name!r}", f"there are {', '.join(peers.PEERS)}")
    if names:
        peers.peer_version()
    return names


class Bench:
    """Cases and sides in memory.

    Args:
        told: what is said of the run's model, program and machine.
    """

    def __init__(
        self,
        subject: Subject,
        cases: Sequence[Case],
        sides: Sequence[Side],
        engines: Sequence[Engine],
        limits: Limits,
        *,
        device: str,
        repetitions: int,
        told: dict[str, Any],
    ) -> None:
        self._subject, self._cases, self._sides = subject, cases, sides
        self._engines = {engine.name: engine for engine in engines}
        self._limits, self._device, self._repetitions = limits, device, repetitions
        self._told = told
        self._done: list[Samples] = []

    @classmethod
    def open(
        cls,
        subject: Subject,
        cases: Sequence[Case],
        names: Sequence[str],
        options: LoadOptions,
        *,
        revision: str | None,
        repetitions: int,
        report: Reporter,
    ) -> "Bench":
        """Bring all sides into memory and measure the device's limits.

        Raises:
            ModelError: a model is not to be had, or too large.
            UsageError: the device, kernel or backend asked for is not here.
        """
        backend, session = subject.open(options, report)
        info = backend.info
        ours = BackendSide(backend)
        others = _open_peers(names, subject, info)
        clock = device_clock(info.device)
        limits = measure_limits(info.device, info.dtype, clock)
        told = {
            **environment(
                info,
                session.load_s if session is not None else None,
                model=subject.name,
                revision=revision,
                options=options,
            ),
            "random_weights": subject.folder is None,
            "parameters": subject.config.parameter_count(),
            "repetitions": repetitions,
            **({"transformers": peers.peer_version()} if others else {}),
            "limits": asdict(limits),
        }
        return cls(
            subject,
            cases,
            [ours, *([SessionSide(session)] if session is not None else []), *others],
            [_engine(ours, info.name, info.dtype, info.weights)]
            + [_engine(other, peers.TRANSFORMERS, info.dtype, info.dtype) for other in others],
            limits,
            device=info.device,
            repetitions=repetitions,
            told=told,
        )

    def run(self, report: Reporter) -> None:
        """Time all cases; what is there is kept if a Ctrl-C ends it."""
        measure(
            self._cases,
            self._sides,
            repetitions=self._repetitions,
            clock=device_clock(self._device),
            memory=DeviceMemory(self._device, is_shared=len(self._engines) > 1),
            report=report,
            done=self._done,
        )

    def rows(self) -> list[Row]:
        """What is known so far."""
        return rows(self._done, self._engines, self._subject.config, self._limits)

    def content(self, *, is_interrupted: bool) -> dict[str, Any]:
        """The answer as JSON has it."""
        return {
            "environment": self._told,
            "interrupted": is_interrupted,
            "results": self.rows(),
        }


def _open_peers(names: Sequence[str], subject: Subject, info: BackendInfo) -> list[Side]:
    """On a GPU compiled too: that is how transformers decodes best there."""
    if not names:
        return []
    if info.device.startswith("cuda") and peers.TRANSFORMERS in names:
        names = list(dict.fromkeys((*names, peers.COMPILED)))
    return peers.open_peers(
        names, subject, device=info.device, dtype=info.dtype, vocab_size=info.vocab_size
    )


def _engine(side: Side, backend: str, dtype: str, weights: str) -> Engine:
    return Engine(
        name=side.name,
        backend=backend,
        dtype=dtype,
        weights=weights,
        weight_bytes=side.weight_bytes,
    )
