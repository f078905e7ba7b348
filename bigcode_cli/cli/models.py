"""``bigcode models``: which models there are; bring, check, hand on and remove them."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bigcode_cli.cli.params import Offline, OutputFlags, Revision, spread
from bigcode_cli.cli.render import TerminalReporter, is_terminal, one_line
from bigcode_cli.errors import UsageError

if TYPE_CHECKING:
    from bigcode_cli.hub.facts import ModelFacts

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="List, pull, show, verify, export and remove models.",
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A built-in or a saved name, a folder, or a Hub id.")
]
Removable = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A saved model's name, a Hub id (owner/name), or quantised weights (mini@int4).",
    ),
]
HubId = Annotated[str, typer.Argument(metavar="NAME", help="A Hub id: owner/name.")]


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


@app.command(
    "list",
    epilog=_examples("bigcode models list", "bigcode models list --json | jq -r .name"),
)
@spread
def list_(*, speech: OutputFlags) -> None:
    """List the models on this machine.

    These are the built-in ones, those that `bigcode train here` saved, and those of this family
    in the Hugging Face cache; then what --quantize has made of them and keeps, as NAME@int8 or
    NAME@int4. In a pipe, a line is NAME, REVISION, BYTES and STATE, separated by tabs.
    """
    from bigcode_cli.hub.inventory import list_models
    from bigcode_cli.hub.sizes import format_size

    models = list_models()
    if speech.json:
        for model in models:
            _print_json(
                name=model.name,
                kind=model.kind,
                revision=model.revision,
                refs=model.refs,
                bytes=model.size,
                complete=model.complete,
                path=str(model.path),
            )
        return
    terminal = is_terminal(sys.stdout)
    rows = [
        (
            model.name,
            _revision(model.revision, model.refs) if terminal else model.revision or "",
            format_size(model.size) if terminal else str(model.size),
            ("complete" if model.kind == "hub" else model.kind) if model.complete else "incomplete",
        )
        for model in models
    ]
    _print_table(("name", "revision", "size", "state"), rows)


@app.command(
    epilog=_examples(
        "bigcode models pull bigcode/tiny_starcoder_py",
        "bigcode models pull bigcode/gpt_bigcode-santacoder --revision main",
        "HF_TOKEN=… bigcode models pull bigcode/starcoderbase-1b",
    )
)
@spread
def pull(
    name: HubId, *, revision: Revision = None, offline: Offline = False, speech: OutputFlags
) -> None:
    """Download a model from the Hub, or bring it up to date.

    Its folder is printed. Only what is needed comes: configuration, tokenizer and weights,
    safetensors where there are any. It goes into the cache that all Hugging Face programs share
    (HF_HOME). A pull that was cut off goes on where it stopped. Once here, a model is used
    without asking the Hub again.
    """
    from bigcode_cli.hub.inventory import require_hub_name
    from bigcode_cli.hub.pull import pull as pull_model

    with TerminalReporter(speech.quiet) as report:
        require_hub_name(name, revision)
        folder = pull_model(name, revision=revision, offline=offline, report=report)
    if speech.json:
        _print_json(
            name=folder.name,
            revision=folder.revision,
            licence=folder.licence,
            path=str(folder.path),
        )
    else:
        print(folder.path)


@app.command(
    epilog=_examples(
        "bigcode models show mini",
        "bigcode models show bigcode/starcoder    # fetches only what describes it",
        "bigcode models show mini --json | jq .memory",
    )
)
@spread
def show(
    name: Name, *, revision: Revision = None, offline: Offline = False, speech: OutputFlags
) -> None:
    """Show what a model is: its configuration, licence and size.

    Memory is that of the loaded weights; fill in the middle names the dialect. Of a Hub model
    that was not pulled yet, only configuration and tokenizer are fetched.
    """
    from bigcode_cli.hub.facts import describe

    with TerminalReporter(speech.quiet) as report:
        facts = describe(name, revision=revision, offline=offline, report=report)
    if speech.json:
        _print_json(
            name=facts.name,
            path=str(facts.path),
            revision=facts.revision,
            base=None if facts.base is None else str(facts.base),
            licence=facts.licence,
            complete=facts.here,
            parameters=facts.parameters,
            context=facts.config.n_positions,
            vocabulary=facts.config.vocab_size,
            tokens=facts.tokens,
            fim=facts.fim,
            memory=facts.memory,
            config=facts.config.to_dict(),
        )
    else:
        _print_pairs(_show_rows(facts))


def _show_rows(facts: "ModelFacts") -> list[tuple[str, str]]:
    from bigcode_cli.hub.sizes import format_size

    config = facts.config
    heads = "multi-query" if config.multi_query else "multi-head"
    tied = "tied" if config.tie_word_embeddings else "its own"
    return [
        ("name", facts.name),
        ("folder", str(facts.path)),
        *([] if facts.base is None else [("differs from", str(facts.base))]),
        ("revision", facts.revision or "-"),
        ("weights here", "yes" if facts.here else "no"),
        ("licence", facts.licence or "not known here"),
        ("parameters", f"{facts.parameters:,}"),
        ("context", f"{config.n_positions:,} tokens"),
        ("vocabulary", f"{config.vocab_size:,} rows, {facts.tokens:,} tokens"),
        ("fill in the middle", facts.fim or "no"),
        ("layers", f"{config.n_layer}"),
        ("width", f"{config.n_embd:,}, feed-forward {config.inner_dim:,}"),
        ("attention", f"{heads}, {config.n_head} heads of {config.head_dim}"),
        ("activation", config.activation_function),
        ("output matrix", tied),
        *((f"memory {row}", format_size(size)) for row, size in facts.memory.items()),
    ]


@app.command(epilog=_examples("bigcode models verify mini", "bigcode models verify ./my-model"))
@spread
def verify(name: Name, *, revision: Revision = None, speech: OutputFlags) -> None:
    """Read a model again from end to end, and name what is wrong.

    Headers, names, shapes and hashes are checked, and every number of the weights. The hash of
    a file is known for models from the Hub. Nothing is downloaded; the first thing that is
    wrong is named, and the exit code is 3. In a pipe, a line is FILE, BYTES and HASH, separated
    by tabs.
    """
    from bigcode_cli.hub.resolve import resolve
    from bigcode_cli.hub.sizes import format_size
    from bigcode_cli.hub.verify import verify as verify_model

    with TerminalReporter(speech.quiet) as report:
        folder = resolve(name, revision=revision, offline=True, report=report)
        verified = verify_model(folder, report)
        if speech.json:
            files = [
                {"name": file.name, "bytes": file.size, "hash": file.digest}
                for file in verified.files
            ]
            _print_json(
                name=folder.name,
                path=str(folder.path),
                revision=folder.revision,
                files=files,
                tensors=verified.tensors,
            )
            return
        terminal = is_terminal(sys.stdout)
        rows = [
            (
                file.name,
                format_size(file.size) if terminal else str(file.size),
                file.digest or "-",
            )
            for file in verified.files
        ]
        _print_table(("file", "size", "hash"), rows)
        report.note(f"{folder.name} is whole: {verified.tensors} tensors, every number finite")


@app.command(
    epilog=_examples(
        "bigcode models export mini ./mini",
        "bigcode models export bigcode/tiny_starcoder_py ./tiny",
    )
)
@spread
def export(
    name: Name,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new or an empty folder.", show_default=False)
    ],
    *,
    revision: Revision = None,
    offline: Offline = False,
    speech: OutputFlags,
) -> None:
    """Write a model as a plain folder that transformers loads.

    It holds bfloat16 safetensors, the configuration, the tokenizer and the model card; it
    appears whole or not at all. The folder is printed.
    """
    from bigcode_cli.hub.export import check_target
    from bigcode_cli.hub.export import export as export_model
    from bigcode_cli.hub.resolve import resolve

    check_target(folder)
    with TerminalReporter(speech.quiet) as report:
        source = resolve(name, revision=revision, offline=offline, report=report)
        export_model(source, folder, report)
    if speech.json:
        _print_json(name=source.name, revision=source.revision, path=str(folder))
    else:
        print(folder)


@app.command(
    epilog=_examples(
        "bigcode models remove bigcode/tiny_starcoder_py",
        "bigcode models remove flask-tuned --yes",
        "bigcode models remove mini@int4",
    )
)
@spread
def remove(
    name: Removable,
    *,
    revision: Revision = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    speech: OutputFlags,
) -> None:
    """Delete a saved model, a model of the cache or one revision of it, or quantised weights.

    Built-in models and folders are left alone, and quantised weights are made again when they are
    needed. On a terminal, it asks first.
    """
    from bigcode_cli.hub.inventory import find_removable, remove_model
    from bigcode_cli.hub.sizes import format_size

    target = find_removable(name, revision)
    if not yes:
        if not is_terminal(sys.stdin):
            raise UsageError("there is no terminal to ask on", "add --yes to remove it")
        typer.confirm(f"delete {one_line(str(target))}?", abort=True, err=True)
    with TerminalReporter(speech.quiet) as report:
        freed = remove_model(name, revision)
        report.note(f"removed {name}, {format_size(freed)} freed")
    if speech.json:
        _print_json(name=name, revision=revision, freed_bytes=freed)


@app.command(epilog=_examples("bigcode models path mini", 'ls "$(bigcode models path mini)"'))
@spread
def path(name: Name, *, revision: Revision = None, speech: OutputFlags) -> None:
    """Print the folder of a model; nothing is downloaded."""
    from bigcode_cli.hub.resolve import resolve

    with TerminalReporter(speech.quiet) as report:
        folder = resolve(name, revision=revision, offline=True, report=report)
    if speech.json:
        _print_json(name=folder.name, revision=folder.revision, path=str(folder.path))
    else:
        print(folder.path)


def _revision(commit: str | None, refs: Sequence[str]) -> str:
    """A commit for people: its names and its first digits."""
    return "-" if commit is None else " ".join([*refs, commit[:8]])


def _print_json(**values: object) -> None:
    print(json.dumps(values))


def _print_table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Aligned under titles on a terminal, separated by tabs in a pipe."""
    if not is_terminal(sys.stdout):
        for row in rows:
            print("\t".join(row))
        return
    shown = [tuple(one_line(cell) for cell in row) for row in (titles, *rows)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(titles))]
    for row in shown:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _print_pairs(rows: Sequence[tuple[str, str]]) -> None:
    """A label and its value on each line, aligned or separated by a tab."""
    terminal = is_terminal(sys.stdout)
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        print(f"{label.ljust(width)}  {one_line(value)}" if terminal else f"{label}\t{value}")
