"""The training loop: gradients, schedule, log, checkpoints that resume exactly.

bfloat16 autocast over float32 weights on a GPU, float32 on a CPU. Nothing in a step waits for the
GPU; every few steps the loss is read, which is also what paces the clock.
"""

import json
import math
import os
import time
from array import array
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from bigcode_cli.errors import BigcodeError, InputError
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.training.feed import FeedOptions, Place, batches
from bigcode_cli.training.recipe import TrainingSettings
from bigcode_cli.training.validation import HeldOut, bits_per_byte

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
IGNORED = -100
Ending = Literal["finished", "paused", "interrupted"]
Observer = Callable[[dict[str, Any]], None]
"""Called with each line of the log."""


@dataclass(slots=True)
class Progress:
    """How far training is.

    Attributes:
        seconds: of training by the clock, without compilation, validation and checkpoints.
        tokens: inputs seen.
        recent_steps: steps since the last line of the log.
        place: the next window.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    recent_steps: int = 0
    place: Place = field(default_factory=Place)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOptions:
    """What one invocation may do, beside the recipe.

    Attributes:
        folder: of the log and the checkpoint.
        resume: go on from the checkpoint in the folder.
        pause_at: a time by ``clock`` after which to stop and save.
        workers: processes that make windows; 0 makes them in this one.
        compiled: whether to use ``torch.compile``.
        held_out: what to measure now and then, and ``eos_id`` for it.
    """

    folder: Path
    resume: bool = False
    pause_at: float | None = None
    workers: int = 0
    compiled: bool = False
    held_out: tuple[HeldOut, ...] = ()
    eos_id: int = 0
    pad_id: int = 4
    fingerprint: str = ""
    should_stop: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic


def rate_factor(position: float, warm_up: float) -> float:
    """The learning rate over its peak at a share of the training: up, then down to 0, linearly."""
    if position < warm_up:
        return max(position / warm_up, 0.01)
    return max(0.0, (1 - position) / (1 - warm_up))


def make_optimizers(
    model: GPTBigCodeForCausalLM, settings: TrainingSettings
) -> list[torch.optim.Optimizer]:
    """Matrices within layers apart from embeddings, norms and biases, which are not decayed."""
    named = dict(model.named_parameters())
    inner = [w for name, w in named.items() if ".h." in name and w.ndim == 2]
    outer = [w for name, w in named.items() if not (".h." in name and w.ndim == 2)]
    fused = outer[0].is_cuda
    betas = settings.beta1, settings.beta2
    first: torch.optim.Optimizer
    if settings.optimizer == "muon":
        # Jordan et al. 2024; updates of AdamW's size, so that its learning rates serve.
        first = torch.optim.Muon(
            inner,
            settings.learning_rate,
            weight_decay=settings.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
    else:
        first = torch.optim.AdamW(
            inner,
            settings.learning_rate,
            betas=betas,
            weight_decay=settings.weight_decay,
            fused=fused,
        )
    rate = settings.embedding_learning_rate
    second = torch.optim.AdamW(outer, rate, betas=betas, weight_decay=0.0, fused=fused)
    for optimizer in (first, second):
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return [first, second]


def summed_loss(model: GPTBigCodeForCausalLM, inputs: Tensor, targets: Tensor) -> Tensor:
    """Nats of all targets that are not −100; both arguments ``(windows, n_positions)``."""
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=inputs.is_cuda):
        logits = model(inputs, use_cache=False).logits
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )


class Trainer:
    """One model on its way through one recipe."""

    def __init__(
        self,
        model: GPTBigCodeForCausalLM,
        settings: TrainingSettings,
        feed: FeedOptions,
        options: LoopOptions,
        observer: Observer,
    ) -> None:
        self.model = model
        self.settings = settings
        self.feed = feed
        self.options = options
        self.observer = observer
        self.device = model.transformer.wte.weight.device
        self.optimizers = make_optimizers(model, settings)
        self.progress = Progress()
        self.loss = torch.compile(summed_loss, dynamic=False) if options.compiled else summed_loss
        self.batch = max(1, settings.tokens_per_step // feed.n_positions)
        self.recent = torch.zeros((), device=self.device)
        self.logged = 0.0, 0
        if options.resume:
            self._load()
        else:
            (options.folder / LOG).write_text("")

    def run(self) -> Ending:
        """Train until the plan is done, the invocation's time is up, or a stop is asked for.

        Raises:
            BigcodeError: the loss is no longer a number.
        """
        settings, progress, clock = self.settings, self.progress, self.options.clock
        stream = batches(self.feed, progress.place, batch=self.batch, workers=self.options.workers)
        self.model.train()
        ending: Ending | None = None
        try:
            # Compilation falls into the first step: the clock starts behind it.
            self._step(stream)
            self._wait()
            ticked, saved, validated = clock(), progress.seconds, progress.seconds
            self.logged = progress.seconds, progress.tokens
            while True:
                ending = self._ending()
                if ending == "finished" or progress.step % settings.log_steps == 0:
                    self._log()
                if ending is not None:
                    break
                if progress.seconds - saved >= 60 * settings.checkpoint_minutes:
                    self.save()
                    saved, ticked = progress.seconds, clock()
                if progress.seconds - validated >= 60 * settings.validate_minutes:
                    self.validate()
                    validated, ticked = progress.seconds, clock()
                self._step(stream)
                now = clock()
                progress.seconds += now - ticked
                ticked = now
        finally:
            stream.close()
        self.save()
        if ending != "interrupted":
            self.validate()
        return ending

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def position(self) -> float:
        """The share of the training that is done."""
        if self.settings.steps is not None:
            return self.progress.step / self.settings.steps
        assert self.settings.minutes is not None
        return self.progress.seconds / (60 * self.settings.minutes)

    def _ending(self) -> Ending | None:
        pause = self.options.pause_at
        if self.position() >= 1:
            return "finished"
        if self.options.should_stop():
            return "interrupted"
        return "paused" if pause is not None and self.options.clock() >= pause else None

    def _step(self, stream: "Generator[tuple[array[int], Place]]") -> None:
        """One optimizer step on the next batch."""
        settings, progress = self.settings, self.progress
        factor = rate_factor(self.position(), settings.warm_up)
        flat, progress.place = next(stream)
        inputs, targets, count = self._to_device(flat)
        size = settings.windows_per_pass
        total = torch.zeros((), device=self.device)
        for some, wanted in zip(torch.split(inputs, size), torch.split(targets, size), strict=True):
            loss = self.loss(self.model, some, wanted) / count
            torch.autograd.backward(loss)
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.recent += total
        progress.recent_steps += 1
        progress.step += 1
        progress.tokens += inputs.numel()

    def _to_device(self, flat: "array[int]") -> tuple[Tensor, Tensor, int]:
        """Inputs, targets ``(batch, n_positions)`` and how many targets count."""
        windows = torch.frombuffer(flat, dtype=torch.uint16).long().view(self.batch, -1)
        targets = windows[:, 1:].clone()
        targets[targets == self.options.pad_id] = IGNORED
        count = int((targets != IGNORED).sum())
        inputs = windows[:, :-1].contiguous()
        if self.device.type != "cuda":
            return inputs.to(self.device), targets.to(self.device), count
        moved = [part.pin_memory().to(self.device, non_blocking=True) for part in (inputs, targets)]
        return moved[0], moved[1], count

    def _log(self) -> None:
        """Read the mean loss since the last line, and write one."""
        progress = self.progress
        if progress.recent_steps == 0:
            return
        loss = self.recent.item() / progress.recent_steps
        self.recent.zero_()
        progress.recent_steps = 0
        if not math.isfinite(loss):
            raise BigcodeError(
                f"training diverged at step {progress.step}: the loss is {loss}",
                "lower the learning rates of the recipe",
            )
        seconds, tokens = progress.seconds - self.logged[0], progress.tokens - self.logged[1]
        self.logged = progress.seconds, progress.tokens
        self._write(
            {
                "step": progress.step,
                "tokens": progress.tokens,
                "seconds": round(progress.seconds, 2),
                "position": round(self.position(), 5),
                "epoch": progress.place.epoch,
                "loss": round(loss, 6),
                "learning_rate": self.optimizers[0].param_groups[0]["lr"],
                "tokens_per_s": round(tokens / seconds) if seconds > 0 else None,
            }
        )

    def validate(self) -> None:
        """Measure the held-out files and log bits per byte."""
        if self.options.held_out:
            found = bits_per_byte(self.model, self.options.held_out, self.options.eos_id)
            rounded = {name: round(value, 4) for name, value in found.items()}
            self._write({"step": self.progress.step, "bits_per_byte": rounded})

    def _write(self, line: dict[str, Any]) -> None:
        with (self.options.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        self.observer(line)

    def save(self) -> None:
        """Replace the checkpoint, in one go: a cut leaves the one before."""
        state = {
            "fingerprint": self.options.fingerprint,
            "progress": asdict(self.progress),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "recent": self.recent,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
        }
        path = self.options.folder / CHECKPOINT
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def _load(self) -> None:
        """Go to where the checkpoint is, and drop what the log says beyond it."""
        path = self.options.folder / CHECKPOINT
        if not path.is_file():
            raise InputError(f"nothing to resume in {path.parent}", "leave --resume out")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["fingerprint"] != self.options.fingerprint:
            raise InputError(
                "the checkpoint is of another recipe, seed or corpus", "leave --resume out"
            )
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        place = Place(**state["progress"].pop("place"))
        self.progress = Progress(**state["progress"], place=place)
        self.recent.copy_(state["recent"])
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"])
        log = self.options.folder / LOG
        lines = log.read_text("utf-8").splitlines() if log.is_file() else []
        kept = [line for line in lines if json.loads(line)["step"] <= self.progress.step]
        log.write_text("".join(f"{line}\n" for line in kept), "utf-8")
