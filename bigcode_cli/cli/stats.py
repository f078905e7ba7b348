"""What ``--stats`` says on stderr."""

from bigcode_cli.records import Completion, FinishReason, Infilled, Passes


def stats_lines(
    label: str, done: Completion | Infilled, completion_tokens: int, finish_reason: FinishReason
) -> list[str]:
    """What ``--stats`` says of one output."""
    timing = done.timing
    first = "-" if timing.first_token_s is None else f"{timing.first_token_s:.3f} s"
    seed = "" if done.seed is None else f", seed {done.seed}"
    head = f"{label}: " if label else ""
    lines = [
        f"{head}prompt {done.prompt_tokens:,} tokens at {_rate(timing.prefill_tokens_per_s)}, "
        f"first token after {first}",
        f"{head}output {completion_tokens:,} tokens at {_rate(timing.decode_tokens_per_s)}, "
        f"ended by {finish_reason}{seed}",
    ]
    if timing.passes is not None:
        lines.append(f"{head}{_passes_line(timing.passes)}")
    return lines


def _passes_line(passes: Passes) -> str:
    """How many tokens a pass gave, and how many of the guesses held: ``0×3`` is none, thrice."""
    average = passes.tokens_per_pass
    told = "no pass" if average is None else f"{average:.2f} tokens a pass"
    if not passes.guessed:
        return f"{told}, nothing guessed"
    times = [f"{held}×{count}" for held, count in enumerate(passes.held) if count]
    return (
        f"{told}, {passes.accepted:,} of {passes.guessed:,} guesses held: "
        f"{' '.join(times)}, no guess×{passes.without:,}"
    )


def _rate(tokens_per_s: float | None) -> str:
    return "-" if tokens_per_s is None else f"{tokens_per_s:,.1f} tokens/s"
