import inspect
from dataclasses import dataclass

import pytest

from bigcode_cli.cli.decoding_flags import SamplingFlags, StopFlags
from bigcode_cli.cli.params import ModelFlags, spread
from bigcode_cli.errors import UsageError
from bigcode_cli.records import GenerateRequest, LoadOptions, SamplingOptions, StopOptions


def test_flags_default_to_what_the_records_do() -> None:
    assert ModelFlags().load_options() == LoadOptions()
    assert SamplingFlags().sampling_options() == SamplingOptions()
    assert StopFlags().stop_options() == StopOptions()
    assert StopFlags().max_new_tokens == GenerateRequest(prompt="x").max_new_tokens


def test_several_samples_need_a_temperature_and_get_one() -> None:
    assert SamplingFlags().sampling_options(2).temperature == 0.8
    assert SamplingFlags(temperature=0.3).sampling_options(2).temperature == 0.3
    assert SamplingFlags(temperature=0).sampling_options(2).temperature == 0


def test_flags_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="--threads"):
        ModelFlags(threads=0).load_options()


@dataclass(frozen=True, kw_only=True)
class Flags:
    first: int = 1
    second: str = "two"


def test_spread_shows_the_fields_and_hands_over_the_record() -> None:
    @spread
    def command(name: str = "x", *, flags: Flags, last: bool = False) -> tuple[str, Flags, bool]:
        """What it does."""
        return name, flags, last

    signature = inspect.signature(command)
    assert list(signature.parameters) == ["name", "first", "second", "last"]
    assert signature.parameters["second"].default == "two"
    assert command.__doc__ == "What it does."
    assert command(name="y", first=5, second="z", last=True) == (
        "y",
        Flags(first=5, second="z"),
        True,
    )
