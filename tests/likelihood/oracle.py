"""The side of transformers: its tokenizer, its model, and windows by arithmetic of their own."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


@dataclass(frozen=True)
class Likelihood:
    """What teacher forcing says of a text."""

    scored_tokens: int
    nll_sum: float


class Oracle:
    """A model folder in transformers, float32."""

    def __init__(self, folder: Path, attention: str) -> None:
        self._model = transformers.GPTBigCodeForCausalLM.from_pretrained(
            folder, attn_implementation=attention, dtype=torch.float32
        ).eval()
        self._tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json")
        )
        self._end_of_text = self._tokenizer.convert_tokens_to_ids("<|endoftext|>")
        self.n_positions = self._model.config.n_positions

    def score(self, text: str, *, context: int, stride: int, bos: bool = True) -> Likelihood:
        """Each token counts in the first window that holds it."""
        ids = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        row = [self._end_of_text, *ids] if bos else ids
        counted, sums = 1, []
        while counted < len(row):
            stop = min(context if counted < context else counted + stride, len(row))
            start = max(0, stop - context)
            sums.append(self._nll(row[start:stop], counted - start))
            counted = stop
        return Likelihood(max(0, len(row) - 1), math.fsum(sums))

    @torch.inference_mode()
    def _nll(self, ids: list[int], counted: int) -> float:
        """Of ``ids[counted:]``, by transformers' own loss over labels."""
        row = torch.tensor([ids])
        labels = row.clone()
        labels[:, :counted] = -100
        positions = torch.arange(len(ids))[None]
        output = self._model(row, labels=labels, position_ids=positions, use_cache=False)
        return float(output.loss) * (len(ids) - counted)
