"""The training loop: steps, schedule, log, checkpoints that resume exactly.

bfloat16 autocast over float32 weights on a GPU, float32 on a CPU. Nothing in a step waits for the
GPU; every few steps the loss is read, which is also what paces the clock. Of several processes each
makes all windows and takes its share of them, so that their number changes nothing but rounding.
"""

import json
import math
import time
from array import array
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from bigcode_cli.errors import BigcodeError
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.training.checkpoints import LOG, cut_log, read_checkpoint, write_checkpoint
from bigcode_cli.training.feed import FeedOptions, Place, batches
from bigcode_cli.training.gradients import Gradients
from bigcode_cli.training.processes import Processes
from bigcode_cli.training.recipe import TrainingSettings
from bigcode_cli.training.schedule import make_optimizers, planned_factor
from bigcode_cli.training.validation import HeldOut, bits_per_byte

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
        kinds: of tokens, see ``circles.token_kinds``.
        processes: the ones that train together.
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
    kinds: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int8))
    processes: Processes = field(default_factory=Processes)
    should_stop: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic


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
        self.processes = options.processes
        self.batch = max(1, settings.tokens_per_step // feed.n_positions)
        self.gradients = Gradients(
            model,
            settings,
            options.processes,
            windows=self.batch,
            eos_id=options.eos_id,
            pad_id=options.pad_id,
            kinds=options.kinds,
            seed=feed.seed,
            compiled=options.compiled,
        )
        self.recent = torch.zeros((), device=self.device)
        self.norm = torch.zeros((), device=self.device)
        self.logged = 0.0, 0
        if options.resume:
            self._load()
        elif self.processes.is_first:
            (options.folder / LOG).write_text("")

    def run(self) -> Ending:
        """Train until the plan is done, the invocation's time is up, or a stop is asked for.

        Raises:
            BigcodeError: the loss is no longer a number.
        """
        settings, progress = self.settings, self.progress
        if self.position() >= 1:
            return "finished"  # and resumed nevertheless
        stream = batches(self.feed, progress.place, batch=self.batch, workers=self.options.workers)
        self.model.train()
        ending: Ending | None = None
        try:
            # Compilation falls into the first step: the clock starts behind it.
            self._step(stream)
            self._wait()
            ticked, saved, validated = self._now(), progress.seconds, progress.seconds
            self.logged = progress.seconds, progress.tokens
            while True:
                ending = self._ending()
                if ending == "finished" or progress.step % settings.log_steps == 0:
                    self._log()
                if ending is not None:
                    break
                if progress.seconds - saved >= 60 * settings.checkpoint_minutes:
                    self.save()
                    saved, ticked = progress.seconds, self._now()
                if progress.seconds - validated >= 60 * settings.validate_minutes:
                    self.validate()
                    validated, ticked = progress.seconds, self._now()
                self._step(stream)
                now = self._now()
                progress.seconds += now - ticked
                ticked = now
        finally:
            stream.close()
        self.save()
        if ending != "interrupted":
            self.validate()
        return ending

    def _now(self) -> float:
        """The first process's time: what is planned by the clock is the same in all of them."""
        return self.processes.agree(self.options.clock())

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
        if self.processes.agree(self.options.should_stop()):
            return "interrupted"
        return "paused" if pause is not None and self._now() >= pause else None

    def _step(self, stream: "Generator[tuple[array[int], Place]]") -> None:
        """One optimizer step on the next batch."""
        settings, progress = self.settings, self.progress
        factor = planned_factor(self.position(), settings)
        flat, progress.place = next(stream)
        windows = torch.frombuffer(flat, dtype=torch.uint16).long().view(self.batch, -1)
        total = self.gradients.add(windows, progress.step)
        self.norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.recent += total
        progress.recent_steps += 1
        progress.step += 1
        progress.tokens += self.batch * self.feed.n_positions

    def _log(self) -> None:
        """Read the mean loss since the last line, and write one."""
        progress = self.progress
        if progress.recent_steps == 0:
            return
        self.processes.add_up(self.recent)
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
                "gradient_norm": round(self.norm.item(), 6),
                "learning_rate": self.optimizers[0].param_groups[0]["lr"],
                "tokens_per_s": round(tokens / seconds) if seconds > 0 else None,
            }
        )

    def validate(self) -> None:
        """Measure the held-out files and log bits per byte."""
        if self.options.held_out and self.processes.is_first:
            found = bits_per_byte(self.model, self.options.held_out, self.options.eos_id)
            rounded = {name: round(value, 4) for name, value in found.items()}
            self._write({"step": self.progress.step, "bits_per_byte": rounded})
        self.processes.wait()

    def _write(self, line: dict[str, Any]) -> None:
        if not self.processes.is_first:
            return
        with (self.options.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        self.observer(line)

    def save(self) -> None:
        """Replace the checkpoint.

        Raises:
            OutputError: it cannot be written; the one before is still there.
        """
        # What several processes have of the loss since the last line goes to the first.
        self.processes.add_up(self.recent)
        if self.processes.is_first:
            write_checkpoint(self.options.folder, self._state())
        else:
            self.recent.zero_()
        self.processes.wait()

    def _state(self) -> dict[str, Any]:
        return {
            "fingerprint": self.options.fingerprint,
            "progress": asdict(self.progress),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "recent": self.recent,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
        }

    def _load(self) -> None:
        """Go to where the checkpoint is, and drop what the log says beyond it."""
        folder = self.options.folder
        state = read_checkpoint(folder, self.options.fingerprint)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        place = Place(**state["progress"].pop("place"))
        self.progress = Progress(**state["progress"], place=place)
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"])
        if self.processes.is_first:
            self.recent.copy_(state["recent"])
            cut_log(folder, self.progress.step)
