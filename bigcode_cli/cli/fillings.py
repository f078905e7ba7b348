"""Drafts as their holes are filled: the text, the patch and the JSON object that come of it."""

from dataclasses import dataclass, field
from typing import Any

from bigcode_cli.cli.answers import logprobs_object, timing_object, usage_object
from bigcode_cli.cli.drafts import Draft
from bigcode_cli.cli.edit import patch_name, unified_diff
from bigcode_cli.records import Candidate, Infilled
from bigcode_cli.text.holes import Hole


@dataclass(frozen=True, slots=True)
class Filling:
    """A draft, and what came of its first holes."""

    draft: Draft
    done: list[Infilled] = field(default_factory=list)

    @property
    def middles(self) -> list[str]:
        """The best of each hole."""
        return [infilled.candidates[0].text for infilled in self.done]

    @property
    def complete(self) -> bool:
        """Whether every hole is filled to its end."""
        return len(self.done) == self.draft.template.count and not any(map(interrupted, self.done))

    @property
    def text(self) -> str:
        """The whole text, its holes filled."""
        return self.draft.template.filled(self.middles)

    @property
    def diff(self) -> str:
        """What was done, as a patch."""
        assert self.draft.path is not None
        edits = self.draft.edits(self.middles)
        return unified_diff(self.draft.text, edits, patch_name(self.draft.path))

    def hole(self, number: int | None = None) -> Hole:
        """The one of that number; ``None`` is the next."""
        return self.draft.template.hole(self.middles[:number])

    @property
    def name(self) -> str:
        """How a header calls it."""
        return self.draft.asked.label or self.draft.name

    def hole_name(self, number: int) -> str:
        """How a header calls one of its holes."""
        if self.draft.template.count == 1:
            return self.name
        return f"{self.draft.name}:{self.draft.lines[number]}"


def interrupted(infilled: Infilled) -> bool:
    """Whether a Ctrl-C came before its end."""
    return any(candidate.finish_reason == "interrupted" for candidate in infilled.candidates)


def filling_object(filling: Filling) -> dict[str, Any]:
    """A filling as other programs read it: of several holes, each by itself."""
    holes = [_hole_object(filling, number) for number in range(len(filling.done))]
    id_ = filling.draft.asked.id
    if filling.draft.template.count == 1:
        return {"id": id_, **holes[0]}
    return {"id": id_, "model": filling.done[0].model, "holes": holes}


def _hole_object(filling: Filling, number: int) -> dict[str, Any]:
    done, hole = filling.done[number], filling.hole(number)
    best = done.candidates[0]
    content: dict[str, Any] = {
        "index": number,
        "model": done.model,
        "prompt": done.prompt,
        "completion": hole.middle(best.text),
        "finish_reason": best.finish_reason,
        "stop": best.stop,
        "usage": usage_object(done.prompt_tokens, best.completion_tokens, done.timing),
        "timing": timing_object(done.timing),
        "seed": done.seed,
        "prefix_tokens": done.prefix_tokens,
        "suffix_tokens": done.suffix_tokens,
        "prefix_dropped": done.prefix_dropped,
        "suffix_dropped": done.suffix_dropped,
        "dialect": done.dialect,
        "order": done.order,
        "span": done.span,
        **logprobs_object(best.logprobs),
    }
    if len(done.candidates) > 1 or best.score is not None:
        content["candidates"] = [_candidate_object(one, hole) for one in done.candidates]
    return content


def _candidate_object(candidate: Candidate, hole: Hole) -> dict[str, Any]:
    return {
        "completion": hole.middle(candidate.text),
        "score": candidate.score,
        "finish_reason": candidate.finish_reason,
        "stop": candidate.stop,
        "completion_tokens": candidate.completion_tokens,
        **logprobs_object(candidate.logprobs),
    }
