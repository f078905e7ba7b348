"""Holes for tests, what the session makes of them, and what the program tells."""

import json
from collections.abc import Callable
from typing import Any

from bigcode_cli.engine.session import Session
from bigcode_cli.records import Candidate, Infilled, InfillRequest, Timing
from tests.cli.running import Result

TEXT = "def add(a, b):\n    \n\nprint(add(1, 2))\n"
"""To fill at line 2."""

CRLF = TEXT.replace("\n", "\r\n")
Infill = Callable[..., Result]


def fill(session: Session, prefix: str, suffix: str, **request: object) -> Infilled:
    """What the session makes of a request."""
    asked = {"prefix": prefix, "suffix": suffix, "max_new_tokens": 20, **request}
    events = session.infill([InfillRequest(**asked)])  # type: ignore[arg-type]
    (done,) = (event for event in events if isinstance(event, Infilled))
    return done


def best(session: Session, prefix: str, suffix: str, **request: object) -> str:
    """The middle that the session finds."""
    return fill(session, prefix, suffix, **request).candidates[0].text


def text_filled_with(
    session: Session, wanted: Callable[[str], bool], *, ends: str = "\n", **request: object
) -> str:
    """A text whose second line is filled with such a middle."""
    for number in range(1000):
        before, after = f"a = {number}\nb", f"\nc = {number}"
        if wanted(best(session, before, after, **request)):
            return (before + after).replace("\n", ends)
    raise AssertionError("no such text")


def infilled(text: str) -> Infilled:
    """A hole filled with a text, by no model."""
    return Infilled(
        request=0, id=None, model="", prompt="", prompt_tokens=0, prefix_tokens=0,
        suffix_tokens=0, prefix_dropped=0, suffix_dropped=0, dialect="starcoder", order="psm",
        span="block", seed=None,
        candidates=(Candidate(text=text, finish_reason="eos", stop=None, completion_tokens=0),),
        timing=Timing(
            load_s=0, first_token_s=None, prefill_tokens_per_s=None, decode_tokens_per_s=None
        ),
    )  # fmt: skip


def parsed(stdout: bytes) -> dict[str, Any]:
    """The one JSON object."""
    (line,) = stdout.decode("ascii").splitlines()
    content: dict[str, Any] = json.loads(line)
    return content


def refusal(result: Result, code: int = 2) -> str:
    """The one line by which something is refused."""
    lines = result.stderr.splitlines()
    assert (result.code, result.stdout) == (code, b""), result
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: "))
    return lines[0].removeprefix("error: ")
