"""How labels are shown: JSON, lines for other programs, a table, redacted texts, a page."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from bigcode_cli.cli.answers import Sections, to_json
from bigcode_cli.cli.html import Page, Paint, Swatch
from bigcode_cli.cli.output import Answer
from bigcode_cli.cli.render import TerminalReporter, one_line
from bigcode_cli.records import Classified, LabelledSpan, Spans
from bigcode_cli.text.spans import read_tags, redacted

if TYPE_CHECKING:
    from bigcode_cli.engine.protocol import ClassifierInfo

NOTHING = "-"
"""Stands on a line where there is no label."""

SHOWN_CHARACTERS = 60
"""Of a span's text, in a table."""

_BLACK, _WHITE = "#000000", "#ffffff"
PAINTS = (
    (Paint("#9bd3f5", _BLACK), Paint("#0b4f7a", _WHITE)),
    (Paint("#ffd073", _BLACK), Paint("#7a4f00", _WHITE)),
    (Paint("#8fe0c2", _BLACK), Paint("#00573f", _WHITE)),
    (Paint("#f3bcdc", _BLACK), Paint("#7d2d5c", _WHITE)),
    (Paint("#f7b28a", _BLACK), Paint("#7d3200", _WHITE)),
    (Paint("#c3c8ff", _BLACK), Paint("#3a3f8f", _WHITE)),
    (Paint("#f0ea8c", _BLACK), Paint("#5c5700", _WHITE)),
    (Paint("#cfcfcf", _BLACK), Paint("#4d4d4d", _WHITE)),
)
"""Light and dark grounds of labels: Okabe & Ito's hues, which all eyes tell apart, and two more."""


@dataclass(frozen=True, slots=True)
class Item:
    """One input.

    Attributes:
        path: as the user named it, ``-`` for stdin; ``None`` of a JSONL record.
        id: of a JSONL record.
        place: how errors call it.
        text: all of it.
        mark: the byte order mark that stood before it, if that is no part of it.
    """

    path: str | None
    id: str | int | None
    place: str
    text: str
    mark: str = ""

    @property
    def heading(self) -> str:
        """How headings call it."""
        return self.place if self.id is None else str(self.id)

    @property
    def name(self) -> str:
        """How lines call it."""
        return self.heading if self.path is None else self.path

    @property
    def key(self) -> dict[str, str | int | None]:
        """How JSON calls it."""
        return {"id": self.id} if self.path is None else {"path": self.path}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of a text's labels are told.

    Attributes:
        top_k: how many at most; ``None`` is all.
        threshold: those that score less are left out.
    """

    top_k: int | None = None
    threshold: float | None = None

    def of(self, scores: dict[str, float]) -> list[tuple[str, float]]:
        """The labels to tell with their scores, the best first; of equals the first."""
        ranked = sorted(scores.items(), key=lambda pair: -pair[1])[: self.top_k]
        return [
            (label, score)
            for label, score in ranked
            if self.threshold is None or score >= self.threshold
        ]


class View(Protocol):
    """Shows labels, one text after the other."""

    def show(self, item: Item, found: Classified | Spans) -> None:
        """Show one text's."""

    def pause(self) -> None:
        """Let others write to the terminal."""


class JsonView:
    """One JSON object a line."""

    def __init__(
        self, answer: Answer, report: TerminalReporter, choice: Choice, *, redact: bool
    ) -> None:
        self._answer, self._report = answer, report
        self._choice, self._redact = choice, redact

    def show(self, item: Item, found: Classified | Spans) -> None:
        """Write it."""
        if self._answer.terminal:
            self._report.clear()
        self._answer.write_json(to_json(self._object(item, found)))

    def pause(self) -> None:
        """Nothing: lines of JSON are always ended."""

    def _object(self, item: Item, found: Classified | Spans) -> dict[str, Any]:
        if isinstance(found, Classified):
            chosen = self._choice.of(found.scores)
            label, score = chosen[0] if chosen else (None, None)
            return {**item.key, "label": label, "score": score, "scores": dict(chosen)}
        content = {**item.key, "spans": [span_object(span) for span in found.spans]}
        return content | ({"redacted": redacted(item.text, found.spans)} if self._redact else {})


def span_labels(info: "ClassifierInfo") -> tuple[str, ...]:
    """The labels that spans may have, each once."""
    return tuple(dict.fromkeys(tag.label for tag in read_tags(info.labels) if tag.label))


def span_object(span: LabelledSpan) -> dict[str, Any]:
    """A span as other programs read it."""
    return {
        "start": span.start,
        "end": span.end,
        "line": span.line,
        "column": span.column,
        "label": span.label,
        "score": span.score,
        "text": span.text,
    }


class LineView:
    """Fields between tabs, for other programs; or columns under headings, on a terminal."""

    def __init__(
        self,
        answer: Answer,
        report: TerminalReporter,
        choice: Choice,
        info: "ClassifierInfo",
    ) -> None:
        self._answer, self._report, self._choice = answer, report, choice
        self._is_sequence = info.kind == "sequence"
        labels = info.labels if self._is_sequence else span_labels(info)
        self._width = max(len(_field(label)) for label in ("LABEL", *labels))
        self._begun = False

    def show(self, item: Item, found: Classified | Spans) -> None:
        """Write its lines; of a text without spans there is none."""
        if isinstance(found, Classified):
            chosen: Sequence[tuple[str, float | None]] = self._choice.of(found.scores)
            rows = [(label, score, item.name, None) for label, score in chosen]
            self._write(rows or [(NOTHING, None, item.name, None)])
        else:
            self._write(
                [
                    (span.label, span.score, f"{item.name}:{span.line}:{span.column}", span.text)
                    for span in found.spans
                ]
            )

    def pause(self) -> None:
        """Nothing: lines are always ended."""

    def _write(self, rows: Sequence[tuple[str, float | None, str, str | None]]) -> None:
        if not rows:
            return
        lines = self._columns(rows) if self._answer.terminal else map(_tabbed, rows)
        if self._answer.terminal:
            self._report.clear()
        self._answer.write("".join(f"{line}\n" for line in lines))

    def _columns(self, rows: Sequence[tuple[str, float | None, str, str | None]]) -> Iterator[str]:
        if not self._begun:
            self._begun = True
            yield f"{'LABEL':{self._width}}   SCORE  {'PATH' if self._is_sequence else 'PLACE'}"
        width = max(len(_field(place)) for _, _, place, _ in rows)
        for label, score, place, text in rows:
            head = f"{_field(label):{self._width}}  {_score(score):>6}  "
            quoted = "" if text is None else f"  {_shortened(text)}"
            yield f"{head}{_field(place):{width}}{quoted}".rstrip()


class RedactView:
    """Texts with ``[LABEL]`` in the place of spans; all else of them stays as it is."""

    def __init__(self, answer: Answer, report: TerminalReporter, *, several: bool) -> None:
        self._answer = answer
        self._sections = Sections(answer, report, several=several)

    def show(self, item: Item, found: Classified | Spans) -> None:
        """Write one text."""
        assert isinstance(found, Spans)
        self._sections.enter(id(found), item.heading)
        self._answer.write(item.mark + redacted(item.text, found.spans))

    def pause(self) -> None:
        """End the terminal's line."""
        self._answer.pause()


class LabelPage:
    """A page of the texts with their spans coloured, or with their labels above them.

    Use it as a context manager.

    Raises:
        OutputError: the file cannot be written; from any method.
    """

    def __init__(self, path: Path, model: str, choice: Choice, info: "ClassifierInfo") -> None:
        names = span_labels(info) if info.kind == "token" else ()
        self._styles = {name: style for style, name in enumerate(names)}
        self._choice = choice
        legend = [
            Swatch(name, *PAINTS[style % len(PAINTS)]) for name, style in self._styles.items()
        ]
        caption = "labels" if legend else ""
        self._page = Page(path, f"Labels by {model}", legend=legend, caption=caption)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._page.__exit__(kind, error, trace)

    def show(self, item: Item, found: Classified | Spans) -> None:
        """Write one text."""
        self._page.section(item.heading)
        if isinstance(found, Classified):
            self._page.text(item.text)
            chosen = self._choice.of(found.scores)
            facts = [f"{label} {_score(score)}" for label, score in chosen] or ["no label"]
        else:
            self._show_spans(item.text, found.spans)
            counts = Counter(span.label for span in found.spans)
            facts = [f"{label} {count}" for label, count in counts.most_common()] or ["no span"]
        self._page.end(" · ".join(facts))

    def pause(self) -> None:
        """Nothing: nobody else writes here."""

    def _show_spans(self, text: str, spans: Sequence[LabelledSpan]) -> None:
        taken = 0
        for span in spans:
            self._page.text(text[taken : span.start])
            tip = f"{span.label} {_score(span.score)}"
            self._page.text(span.text, self._styles[span.label], tip)
            taken = span.end
        self._page.text(text[taken:])


def _tabbed(row: tuple[str, float | None, str, str | None]) -> str:
    label, score, place, text = row
    fields = [_field(label), _score(score), _field(place)]
    return "\t".join([*fields, json.dumps(text)] if text is not None else fields)


def _score(score: float | None) -> str:
    return NOTHING if score is None else f"{score:.4f}"


def _field(text: str) -> str:
    """A label or a path as it is, unless that would end the field or the line."""
    return text if text.isprintable() else json.dumps(text)


def _shortened(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return one_line(
        quoted if len(quoted) <= SHOWN_CHARACTERS else f"{quoted[: SHOWN_CHARACTERS - 1]}…"
    )
