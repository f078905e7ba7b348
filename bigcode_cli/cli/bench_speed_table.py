"""Speeds as a table: bars and colours on a terminal, aligned text in a pipe, Markdown."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bigcode_cli.cli.output import Answer, TerminalAnswer

if TYPE_CHECKING:
    from rich.style import Style

Row = dict[str, Any]

GAP = "  "
BAR_WIDTH = 12
LIMIT = "of limit"
EIGHTHS = " ▏▎▍▌▋▊▉"
TITLE, BAR, REST, OURS, PEER = "bold", "green", "bright_black", "bold", "none"


@dataclass(frozen=True, slots=True)
class Column:
    """One figure a row.

    Attributes:
        importance: where there is no room for all, those of the least go.
    """

    title: str
    cell: Callable[[Row], str]
    importance: int
    is_text: bool = False


def _figure(key: str, scale: float, digits: int) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        value = row.get(key)
        return "" if value is None else f"{value * scale:,.{digits}f}"

    return cell


def _speed(row: Row) -> str:
    speed = row.get("median_ts")
    if speed is None:
        return "failed" if "error" in row else ""
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:,.1f}"


def _spread(row: Row) -> str:
    mean = row.get("avg_ts")
    return f"{row['stddev_ts'] / mean:.1%}".replace("%", " %") if mean else ""


def _step(row: Row) -> str:
    """Milliseconds of a step of all sequences."""
    if not row["n_gen"] or row["end_to_end"] or "median_ns" not in row:
        return ""
    return f"{row['median_ns'] / 1e6 / row['n_gen']:,.2f}"


def _share(row: Row) -> float | None:
    share: float | None = row.get("bandwidth_fraction", row.get("compute_fraction"))
    return share


def _limit(row: Row) -> str:
    share = _share(row)
    return "" if share is None else f"{share:.0%}".replace("%", " %")


def _ratio(row: Row) -> str:
    ratio = row.get("ratio")
    if ratio is None:
        return ""
    low, high = ratio["interval"]
    return f"{ratio['median']:.2f} [{low:.2f}, {high:.2f}]"


COLUMNS = (
    Column("test", lambda row: str(row["test"]), 9, is_text=True),
    Column("engine", lambda row: str(row["engine"]), 8, is_text=True),
    Column("tokens/s", _speed, 9),
    Column("±", _spread, 6),
    Column("ratio", _ratio, 7, is_text=True),
    Column("ms/step", _step, 3),
    Column("first ms", _figure("first_token_s", 1e3, 1), 4),
    Column("GB", _figure("peak_memory_bytes", 1e-9, 2), 2),
    Column(LIMIT, _limit, 5),
)


def show_table(content: Row, answer: Answer) -> None:
    """Show the rows, what was compared with an earlier run, and what it was measured on."""
    if isinstance(answer, TerminalAnswer):
        answer.show_parts(_coloured(content["results"]))
        answer.write("\n" + "\n".join(_wrapped(facts(content))) + "\n")
    else:
        answer.write(_text(_table(content["results"], COLUMNS)) + facts(content) + "\n")
    if compared := content.get("compared"):
        answer.write("\n" + _text(_compared(compared)))


def markdown(content: Row) -> str:
    """The rows as a Markdown table."""
    titles, *lines = _table(content["results"], COLUMNS)
    columns = [column for column in COLUMNS if column.title in titles]
    rule = ["---" if column.is_text else "---:" for column in columns]
    return "".join(f"| {' | '.join(line)} |\n" for line in (titles, rule, *lines))


def facts(content: Row) -> str:
    """What was measured on what, in a line."""
    told = content["environment"]
    limits = told["limits"]
    threads = f"{told['threads']} thread{'s' * (told['threads'] != 1)}"
    where = told["gpu"] or f"{told['cpu']}, {threads}"
    drawn = "random weights in " if told["random_weights"] else ""
    weights = f"{told['weights']}, " if told["weights"] != told["dtype"] else ""
    read = f"memory read {limits['read'] / 1e9:,.1f} GB/s"
    if limits.get("read_one"):
        read += f" ({limits['read_one'] / 1e9:,.1f} by one thread)"
    parts = [
        f"{told['model']}, {told['parameters'] / 1e6:,.1f} M parameters",
        f"{drawn}{weights}{told['dtype']} on {where}",
        f"{read}, copied {limits['copy'] / 1e9:,.1f} GB/s",
        f"matrix product {limits['flops'] / 1e12:,.2f} TFLOP/s",
        f"bigcode {told['bigcode']}, torch {told['torch']}",
    ]
    if "transformers" in told:
        parts.append(f"transformers {told['transformers']}")
    ended = ["interrupted"] if content["interrupted"] else []
    return "; ".join([*parts, f"{told['repetitions']} runs, {told['date'][:10]}", *ended])


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> list[list[str]]:
    """Titles and cells, without columns that say nothing."""
    is_alone = len({row["engine"] for row in rows}) == 1
    cells = {column.title: [column.cell(row) for row in rows] for column in columns}
    kept = [
        title
        for title, values in cells.items()
        if any(values) and not (title == "engine" and is_alone)
    ]
    return [kept, *(list(line) for line in zip(*(cells[title] for title in kept), strict=True))]


def _text(table: Sequence[Sequence[str]]) -> str:
    return "".join(GAP.join(cells).rstrip() + "\n" for cells in _aligned(table))


def _aligned(table: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Figures to the right, texts to the left."""
    texts = {column.title for column in COLUMNS if column.is_text} | {"95 % interval"}
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        yield [
            cell.ljust(width) if title in texts else cell.rjust(width)
            for cell, width, title in zip(line, widths, table[0], strict=True)
        ]


def _compared(changes: Sequence[Row]) -> list[list[str]]:
    lines = [["test", "time", "95 % interval"]]
    for change in changes:
        low, high = (f"{bound - 1:+.1%}" for bound in change["interval"])
        lines.append([change["test"], f"{change['time_ratio'] - 1:+.1%}", f"[{low}, {high}]"])
    return lines


def _coloured(rows: Sequence[Row]) -> Iterator[tuple[str, "Style | None"]]:
    """The table as wide as the terminal, each share of the limit with a bar."""
    from rich.style import Style

    room = shutil.get_terminal_size().columns
    with_bars = any(_share(row) is not None for row in rows)
    columns, table = _fitting(rows, room - (BAR_WIDTH + 1 if with_bars else 0))
    title, *lines = _aligned(table)
    over_bars = f" {LIMIT}" if with_bars and LIMIT not in columns else ""
    yield (GAP.join(title) + over_bars).rstrip() + "\n", Style.parse(TITLE)
    for line, row in zip(lines, rows, strict=True):
        is_ours = row["engine"] == rows[0]["engine"]
        yield GAP.join(line), Style.parse(OURS if is_ours and "engine" in columns else PEER)
        share = _share(row)
        if share is not None:
            full, rest = _bar(share)
            yield " " + full, Style.parse(BAR)
            yield rest, Style.parse(REST)
        yield "\n", None


def _fitting(rows: Sequence[Row], room: int) -> tuple[list[str], list[list[str]]]:
    """The table with as many columns as there is room for."""
    columns = list(COLUMNS)
    while True:
        table = _table(rows, columns)
        width = sum(max(map(len, cells)) for cells in zip(*table, strict=True))
        if width + len(GAP) * (len(table[0]) - 1) <= room or len(columns) == 1:
            return table[0], table
        shown = [column for column in columns if column.title in table[0]]
        columns.remove(min(shown, key=lambda column: column.importance))


def _bar(share: float) -> tuple[str, str]:
    """The full part, to an eighth of a character, and the rest."""
    eighths = round(min(max(share, 0.0), 1.0) * BAR_WIDTH * 8)
    full, part = divmod(eighths, 8)
    drawn = "█" * full + (EIGHTHS[part] if part else "")
    return drawn, "·" * (BAR_WIDTH - len(drawn))


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, max(shutil.get_terminal_size().columns, 20))
