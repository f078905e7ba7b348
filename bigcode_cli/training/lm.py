"""From a recipe and data folders to a model folder: corpus, tokenizer, pieces, training, export.

Each stage leaves its result in the output folder. A resumed run takes what is there, and checks
by a fingerprint of recipe, seed, corpus and tokenizer that it belongs together.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from bigcode_cli.backends.devices import free_bytes
from bigcode_cli.backends.memory import gigabytes, require_memory
from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model, save_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import ModelFolder, Reporter, Silence
from bigcode_cli.text.tokenizer import Tokenizer
from bigcode_cli.training.bpe import cut_corpus, train_tokenizer
from bigcode_cli.training.checkpoints import CHECKPOINT
from bigcode_cli.training.circles import token_kinds
from bigcode_cli.training.data.corpus import Corpus, CorpusOptions, build_corpus
from bigcode_cli.training.devices import local_device
from bigcode_cli.training.feed import FeedOptions, load_vocabulary
from bigcode_cli.training.loop import Ending, LoopOptions, Observer, Trainer
from bigcode_cli.training.objective import ROOM
from bigcode_cli.training.processes import Processes, joined
from bigcode_cli.training.recipe import Recipe
from bigcode_cli.training.validation import encode_held_out, held_out_files, load_held_out

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
BYTES_A_PARAMETER = 16
"""Of a float32 weight, its gradient and the two moments of AdamW; Muon has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What one invocation is asked for.

    Attributes:
        data: folders of packages, files and patterns; not read again when resuming.
        corpus: what becomes of them, and other data.
        out: where everything goes.
        init: a model to start from: its weights and its tokenizer.
        validate: a folder of held-out packages.
        pause_after: minutes, from ``started`` on, after which to save and stop.
        started: when the invocation began, by ``time.monotonic``.
    """

    recipe: Recipe
    data: tuple[Path, ...]
    out: Path
    seed: int = 0
    resume: bool = False
    init: ModelFolder | None = None
    validate: Path | None = None
    corpus: CorpusOptions = field(default_factory=CorpusOptions)
    pause_after: float | None = None
    device: str = "auto"
    workers: int = 0
    started: float = 0.0


def train_lm(
    request: TrainRequest,
    *,
    report: Reporter,
    observer: Observer,
    should_stop: Callable[[], bool] = lambda: False,
) -> Ending:
    """Build what is missing, train, and export the model into ``out/model``.

    A pause exports too: the weights so far can begin another run if this one cannot be resumed.

    Raises:
        InputError: data, checkpoint or held-out files are not to be had.
        ModelError: the model to start from cannot be loaded, or is too large to train here.
        OutputError: a checkpoint or the model cannot be written.
        UsageError: there is a checkpoint in the output folder, and it is not to be resumed.
        BigcodeError: training diverged.
    """
    if not request.resume and (request.out / CHECKPOINT).exists():
        raise UsageError(
            f"{request.out} holds a run that would be lost",
            "go on with --resume, or name another --out",
        )
    if request.validate is not None:
        held_out_files(request.validate)  # what is not there is told before hours of work
    device = local_device(request.device)
    if device.type == "cuda":
        # cuDNN's attention is not made for keys that all heads share by a stride of 0.
        torch.backends.cuda.enable_cudnn_sdp(False)
    with joined(device) as processes:
        if not processes.is_first:
            report, observer = Silence(), _look_away
        ending, model = _train(
            request, device, processes, report=report, observer=observer, should_stop=should_stop
        )
        if ending != "interrupted" and processes.is_first:
            export(model, request.recipe, request.out)
        processes.wait()
    return ending


def _look_away(line: dict[str, Any]) -> None:
    """Observe nothing: the first of several processes does."""


def _train(
    request: TrainRequest,
    device: torch.device,
    processes: Processes,
    *,
    report: Reporter,
    observer: Observer,
    should_stop: Callable[[], bool],
) -> tuple[Ending, GPTBigCodeForCausalLM]:
    """Train as far as it goes."""
    recipe, out = request.recipe, request.out
    if processes.is_first and not request.resume:
        _prepare(request, report)
    processes.wait()
    corpus = Corpus.open(out)
    torch.manual_seed(request.seed)
    model = _model(request, device)
    tokenizer, longest = Tokenizer.load(out), recipe.model.n_positions
    held_out = encode_held_out(corpus.held_out(), tokenizer, longest)
    if request.validate is not None:
        held_out += load_held_out(request.validate, tokenizer, longest)
    vocabulary = load_vocabulary(out)
    feed = FeedOptions(
        corpus=corpus.folder,
        tokenizer=out,
        objective=recipe.objective,
        n_positions=recipe.model.n_positions,
        seed=request.seed,
    )
    pause = request.pause_after
    options = LoopOptions(
        folder=out,
        resume=request.resume,
        pause_at=None if pause is None else request.started + 60 * pause,
        workers=request.workers,
        compiled=device.type == "cuda",
        held_out=tuple(held_out),
        eos_id=vocabulary.eos_id,
        pad_id=vocabulary.pad_id,
        fingerprint=_fingerprint(request),
        kinds=token_kinds(tokenizer),
        processes=processes,
        should_stop=should_stop,
    )
    trainer = Trainer(model, recipe.training, feed, options, observer)
    parameters = sum(weight.numel() for weight in model.parameters())
    report.note(
        f"training {parameters / 1e6:.1f}M parameters on {device.type}, from step "
        f"{trainer.progress.step}"
    )
    return trainer.run(), model


def export(model: GPTBigCodeForCausalLM, recipe: Recipe, out: Path) -> None:
    """Write ``out/model`` in the recipe's first storage, ``out/model-STORAGE`` in any others."""
    for index, storage in enumerate(recipe.export.storage):
        folder = out / ("model" if index == 0 else f"model-{storage}")
        save_model(
            model,
            model.config,
            folder,
            storage=storage,
            max_shard_bytes=recipe.export.shard_mebibytes * 2**20,
        )
        for name in TOKENIZER_FILES:
            if (out / name).is_file():
                shutil.copyfile(out / name, folder / name)


def _prepare(request: TrainRequest, report: Reporter) -> Corpus:
    """Corpus, tokenizer and pieces, from the data folders."""
    recipe, out, workers = request.recipe, request.out, request.workers
    if not request.data and not request.corpus.jsonl:
        raise UsageError("nothing to train on", "name data with --data or --jsonl")
    began = time.monotonic()
    corpus = build_corpus(
        request.data,
        out,
        request.corpus,
        workers=workers,
        report=report,
    )
    report.note(
        f"{corpus.documents:,} documents, {corpus.bytes / 1e6:.1f} MB"
        f" ({time.monotonic() - began:.0f} s)"
    )
    began = time.monotonic()
    if request.init is None:
        train_tokenizer(
            corpus,
            out,
            vocab_size=recipe.tokenizer.vocab_size,
            sample_bytes=recipe.tokenizer.sample_megabytes * 10**6,
        )
    else:
        for name in TOKENIZER_FILES:
            if (request.init.tokenizer_path / name).is_file():
                shutil.copyfile(request.init.tokenizer_path / name, out / name)
    report.note(f"tokenizer ready ({time.monotonic() - began:.0f} s)")
    began = time.monotonic()
    budget = max(1, recipe.model.n_positions - ROOM)
    pieces = cut_corpus(corpus, out, budget=budget, workers=workers)
    pieces.save(out / "pieces.idx")
    tokens = sum(pieces.tokens)
    report.note(
        f"{tokens / 1e6:.1f} M tokens an epoch, {corpus.bytes / max(1, tokens):.2f} bytes each"
        f" ({time.monotonic() - began:.0f} s)"
    )
    return corpus


def _model(request: TrainRequest, device: torch.device) -> GPTBigCodeForCausalLM:
    """The model as it starts, in float32."""
    config = request.recipe.model
    require_memory(
        BYTES_A_PARAMETER * config.parameter_count(),
        free_bytes(device),
        f"training {config.parameter_count() / 1e6:,.0f}M parameters needs "
        f"{gigabytes(BYTES_A_PARAMETER * config.parameter_count())} and more",
        "choose a smaller model",
    )
    model = GPTBigCodeForCausalLM(config)
    if request.init is not None and not request.resume:
        # Copied: what was loaded may lie in the file itself.
        stored = load_model(
            GPTBigCodeForCausalLM,
            request.init.path,
            device="cpu",
            dtype=torch.float32,
            base=request.init.base,
        )
        if _shape(stored.config) != _shape(config):
            raise InputError(
                f"{request.init.name} has another shape than the recipe's model",
                "leave [model] out of the recipe: it is the model's own then",
            )
        model.load_state_dict(stored.state_dict())
    return model.to(device)


def _shape(config: GPTBigCodeConfig) -> tuple[object, ...]:
    return (
        *(config.vocab_size, config.n_positions, config.n_embd, config.n_layer, config.n_head),
        *(config.inner_dim, config.multi_query, config.activation_function),
    )


def _fingerprint(request: TrainRequest) -> str:
    """What a checkpoint depends on, in short."""
    digest = hashlib.sha256()
    recipe = asdict(request.recipe)
    recipe.pop("export")
    # A plan may be lengthened, and how often something is logged is no matter.
    for name in ("steps", "minutes", "checkpoint_minutes", "validate_minutes"):
        recipe["training"].pop(name)
    digest.update(json.dumps([recipe, request.seed], sort_keys=True, default=str).encode())
    for name in ("corpus.idx", "pieces.idx", "tokenizer.json"):
        digest.update((request.out / name).read_bytes())
    return digest.hexdigest()
