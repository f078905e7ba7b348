"""What a model is, told without loading it: configuration, licence, size, dialect."""

from dataclasses import dataclass, replace
from pathlib import Path

from bigcode_cli.errors import ModelError, ModelUnsupportedError
from bigcode_cli.hub import cache
from bigcode_cli.hub.card import read_licence
from bigcode_cli.hub.contents import missing_files
from bigcode_cli.hub.listing import list_files
from bigcode_cli.hub.names import HubName, check_revision, parse_name
from bigcode_cli.hub.pull import pull_description
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.tensor_index import TensorIndex, read_tensor_index
from bigcode_cli.records import ModelFolder, Quantize, Reporter
from bigcode_cli.text.fim import DialectName, find_dialect
from bigcode_cli.text.tokenizer import Tokenizer

LICENCE_TIMEOUT_S = 3.0
WTE_NAMES = ("transformer.wte.weight", "wte.weight")
MEMORY_ROWS: dict[str, tuple[str, Quantize]] = {
    "float32": ("float32", "none"),
    "bfloat16": ("bfloat16", "none"),
    "int8": ("bfloat16", "int8"),
    "int4": ("bfloat16", "int4"),
}
"""What memory is told for: the dtype and the quantisation of each row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What ``bigcode models show`` tells.

    Attributes:
        here: whether all its files are on this machine.
        parameters: a tied ``lm_head`` counted once.
        tokens: ids that the tokenizer knows; the configuration's ``vocab_size`` counts the rows
            of the embedding, which may be more.
        fim: dialect of its fill-in-the-middle tokens; ``None`` where it has none.
        memory: bytes of the loaded weights for each row of ``MEMORY_ROWS``.
        base: the folder that this one differs from; ``None`` where it is whole.
    """

    name: str
    path: Path
    revision: str | None
    licence: str | None
    here: bool
    config: GPTBigCodeConfig
    parameters: int
    tokens: int
    fim: DialectName | None
    memory: dict[str, int]
    base: Path | None = None


def describe(
    name: str, *, revision: str | None = None, offline: bool = False, report: Reporter
) -> ModelFacts:
    """Tell what a model is. Of one on the Hub, only configuration and tokenizer are fetched.

    Raises:
        ModelError: it is not to be had, or another architecture.
        UsageError: as for ``resolve``.
    """
    meaning = parse_name(name)
    if isinstance(meaning, HubName):
        if revision is not None:
            check_revision(revision)
        folder = _describe_repo(meaning.repo, revision, offline=offline, report=report)
    else:
        folder = resolve(name, revision=revision, report=report)
    here = not missing_files(folder.path, has_tokenizer=folder.base is None)
    index = read_tensor_index(folder.path) if here else TensorIndex(folder.path, "bin", (), {})
    if folder.base is not None:
        index = index.over(read_tensor_index(folder.base))
    config = _trust_rows(GPTBigCodeConfig.from_file(folder.path), index)
    tokenizer = Tokenizer.load(folder.tokenizer_path)
    return ModelFacts(
        name=folder.name,
        path=folder.path,
        revision=folder.revision,
        licence=folder.licence,
        here=here,
        config=config,
        parameters=config.parameter_count(),
        tokens=tokenizer.vocab_size,
        fim=_fim(tokenizer),
        memory={row: index.weight_bytes(*how) for row, how in MEMORY_ROWS.items()},
        base=folder.base,
    )


def _fim(tokenizer: Tokenizer) -> DialectName | None:
    try:
        return find_dialect(tokenizer).name
    except ModelUnsupportedError:
        return None


def _describe_repo(
    repo: str, revision: str | None, *, offline: bool, report: Reporter
) -> ModelFolder:
    path, listing = pull_description(repo, revision=revision, offline=offline, report=report)
    licence = listing.licence if listing else read_licence(path)
    if licence is None and listing is None and not (offline or cache.forced_offline()):
        try:
            licence = list_files(repo, path.name, timeout=LICENCE_TIMEOUT_S).licence
        except ModelError:
            licence = None  # the model is here: that the Hub is not is no reason to fail
    return ModelFolder(name=repo, path=path, revision=path.name, licence=licence)


def _trust_rows(config: GPTBigCodeConfig, index: TensorIndex) -> GPTBigCodeConfig:
    """The configuration with as many rows of vocabulary as the weights really have."""
    for name in WTE_NAMES:
        if name in index.entries and len(index.entries[name].shape) == 2:
            return replace(config, vocab_size=index.entries[name].shape[0])
    return config
