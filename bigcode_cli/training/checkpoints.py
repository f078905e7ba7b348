"""Files of a training that is cut short now and then: its checkpoint and its log."""

import json
import os
from pathlib import Path
from typing import Any

import torch

from bigcode_cli.errors import InputError, OutputError

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint, in one go: a cut leaves the one before.

    Raises:
        OutputError: the disk is full, or the folder cannot be written to.
    """
    path = folder / CHECKPOINT
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer has no OSError for a full disk
        temporary.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise OutputError(f"cannot write {path}: {reason}") from error


def read_checkpoint(folder: Path, fingerprint: str) -> dict[str, Any]:
    """What ``write_checkpoint`` wrote; nothing in the file is run.

    Raises:
        InputError: there is none, or one of another training.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise InputError(f"nothing to resume in {folder}", "leave --resume out")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state["fingerprint"] != fingerprint:
        raise InputError(
            "the checkpoint is of another recipe, seed or corpus", "leave --resume out"
        )
    return state


def cut_log(folder: Path, step: int) -> None:
    """Drop what the log says beyond a step."""
    log = folder / LOG
    lines = log.read_text("utf-8").splitlines() if log.is_file() else []
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    log.write_text("".join(f"{line}\n" for line in kept), "utf-8")
