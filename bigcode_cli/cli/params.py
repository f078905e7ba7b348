"""Options that several commands share, each written once.

An option is an ``Annotated`` alias. Options that always come together are a frozen dataclass of
such aliases; a command takes the dataclass as one parameter, and ``@spread`` shows its fields to
Typer as single options. The names of the fields are the keys of ``bigcode.toml``.
"""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from bigcode_cli.cli.help import INPUT, MODEL, OUTPUT
from bigcode_cli.errors import UsageError
from bigcode_cli.records import (
    Attention,
    BackendName,
    Dtype,
    LoadOptions,
    Quantize,
)

MODEL_VARIABLE = "BIGCODE_MODEL"

ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        envvar=MODEL_VARIABLE,
        metavar="NAME",
        help="A built-in or a saved name, a folder, or a Hub id (owner/name).",
        rich_help_panel=MODEL,
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        "--revision",
        metavar="REV",
        help="Branch, tag or commit of a Hub model.",
        rich_help_panel=MODEL,
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        envvar="HF_HUB_OFFLINE",
        help="Never use the network.",
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="BIGCODE_DEVICE",
        metavar="auto|cpu|cuda|cuda:N|mps",
        help="Where the model runs.",
        rich_help_panel=MODEL,
    ),
]
DtypeName = Annotated[
    Dtype,
    typer.Option(
        "--dtype",
        metavar="auto|float32|float16|bfloat16",
        help="Of weights and activations; auto: bfloat16 on GPUs that have it, else float16; "
        "float32 on CPUs, where the native engine takes weights as they are stored.",
        rich_help_panel=MODEL,
    ),
]
QuantizeName = Annotated[
    Quantize,
    typer.Option(
        "--quantize",
        metavar="none|int8|int4",
        help="Store the weights smaller. On GPUs wide models decode faster by it, narrow ones "
        "slower; the native engine keeps what it has quantised once.",
        rich_help_panel=MODEL,
    ),
]
BackendOption = Annotated[
    BackendName,
    typer.Option(
        "--backend",
        metavar="auto|torch|native",
        help="What does the arithmetic; auto: the native engine on CPUs, PyTorch elsewhere.",
        rich_help_panel=MODEL,
    ),
]
AttentionOption = Annotated[
    Attention,
    typer.Option(
        "--attention",
        metavar="auto|eager|sdpa|flash",
        help="How attention is computed.",
        rich_help_panel=MODEL,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        help="CPU threads.",
        show_default="as many as cores",
        rich_help_panel=MODEL,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object for one input, JSON Lines for several.",
        rich_help_panel=OUTPUT,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="No notes, no progress; errors are still told.",
        rich_help_panel=OUTPUT,
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        envvar="BIGCODE_DEBUG",
        help="Show the traceback of an error.",
        rich_help_panel=OUTPUT,
    ),
]
Encoding = Annotated[
    str,
    typer.Option(
        "--encoding",
        metavar="NAME",
        help="Of files, stdin and stdout.",
        rich_help_panel=INPUT,
    ),
]
InputFile = Annotated[
    Path | None,
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="Read the input from FILE (-: stdin).",
        rich_help_panel=INPUT,
    ),
]
OutputFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write the answer to FILE instead of stdout: whole or not at all.",
        rich_help_panel=OUTPUT,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFlags:
    """Which model, and how it is brought into memory."""

    model: ModelName = "mini"
    revision: Revision = None
    offline: Offline = False
    device: Device = "auto"
    dtype: DtypeName = "auto"
    quantize: QuantizeName = "none"
    backend: BackendOption = "auto"
    attention: AttentionOption = "auto"
    threads: Threads = None

    def load_options(self) -> LoadOptions:
        """The record of these flags.

        Raises:
            UsageError: a value makes no sense.
        """
        return LoadOptions(
            device=self.device,
            dtype=self.dtype,
            quantize=self.quantize,
            backend=self.backend,
            attention=self.attention,
            threads=self.threads,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFlags:
    """How a command speaks. ``debug`` is read by the error boundary."""

    json: Json = False
    quiet: Quiet = False
    debug: Debug = False

    def check_logprobs(self, wanted: int | None) -> None:
        """Refuse what text has no place for.

        Raises:
            UsageError: log-probabilities are wanted without JSON.
        """
        if wanted is not None and not self.json:
            raise UsageError("--logprobs needs --json", "text has no place for them")


Result = TypeVar("Result")


def spread(command: Callable[..., Result]) -> Callable[..., Result]:
    """Show the fields of a command's dataclass parameters as parameters of its own.

    >>> @app.command()
    ... @spread
    ... def generate(prompt: Prompt = None, *, model: ModelFlags, output: OutputFlags) -> None: ...
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, type[Any]] = {}
    shown: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if is_dataclass(parameter.annotation) and isinstance(parameter.annotation, type):
            groups[parameter.name] = parameter.annotation
            shown.extend(_parameters_of(parameter.annotation))
        else:
            shown.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def spread_command(**values: Any) -> Result:  # noqa: ANN401
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        return command(**values)

    spread_command.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    vars(spread_command)["__signature__"] = signature.replace(parameters=shown)
    return spread_command


def _parameters_of(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default if field.default_factory is MISSING else field.default_factory(),
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]
