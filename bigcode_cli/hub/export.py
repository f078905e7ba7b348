"""Write a model as a plain GPTBigCode folder that transformers loads."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from bigcode_cli.errors import OutputError
from bigcode_cli.hub.card import CARDS
from bigcode_cli.hub.contents import TOKENIZER_NAME
from bigcode_cli.hub.deltas import without_base
from bigcode_cli.hub.weights import load_as_stored
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import ModelFolder, Reporter
from bigcode_cli.text.tokenizer import END_OF_TEXT, Tokenizer


def export(folder: ModelFolder, target: Path, report: Reporter) -> None:
    """Write the model into ``target``: bfloat16 safetensors, configuration, tokenizer, card.

    ``target`` appears when all is written, or not at all.

    Raises:
        OutputError: ``target`` holds something already, or cannot be written.
        ModelError: the model cannot be read.
    """
    check_target(target)
    target = target.absolute()
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        config = _write_weights(folder, part, report)
        _write_tokenizer(folder.tokenizer_path, config, part)
        for card in CARDS:
            if (folder.path / card).is_file():
                shutil.copyfile(folder.path / card, part / card)
        if target.is_dir():
            target.rmdir()
        part.rename(target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_target(target: Path) -> None:
    """Refuse a target that something would be lost in.

    Raises:
        OutputError: it is no folder, or not an empty one.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise OutputError(f"{target} is not a folder", "name a new or an empty one")
    try:
        if target.is_dir() and any(target.iterdir()):
            raise OutputError(f"{target} is not empty", "name a new or an empty folder")
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}") from error


def _write_weights(folder: ModelFolder, part: Path, report: Reporter) -> GPTBigCodeConfig:
    model = load_as_stored(folder, f"reading {folder.name}", report)
    from bigcode_cli.model.checkpoint import save_model

    label = f"writing {folder.name}"
    report.progress(label, 0, None, "")
    save_model(model, without_base(model.config), part, storage="bfloat16")
    report.progress(label, 1, 1, "")
    return model.config


def _write_tokenizer(source: Path, config: GPTBigCodeConfig, part: Path) -> None:
    """The tokenizer as it is, and what transformers' ``AutoTokenizer`` wants beside it.

    ``PreTrainedTokenizerFast`` takes ``tokenizer.json`` as it stands; the class that transformers
    would choose by itself rewrites parts of it.
    """
    tokenizer = Tokenizer.load(source)
    control = [tokenizer.decode([id_]) for id_ in sorted(tokenizer.control_ids)]
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    special: dict[str, Any] = {
        **ends,
        "additional_special_tokens": [text for text in control if text != END_OF_TEXT],
    }
    settings = {
        **special,
        "clean_up_tokenization_spaces": False,
        "model_max_length": config.n_positions,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    shutil.copyfile(source / TOKENIZER_NAME, part / TOKENIZER_NAME)
    _write_json(part / "tokenizer_config.json", settings)
    _write_json(part / "special_tokens_map.json", special)


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
