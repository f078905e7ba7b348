"""Speeds as pictures, by matplotlib, which is imported when a picture is drawn."""

import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bigcode_cli.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """What one panel is about.

    Attributes:
        size: on the horizontal axis.
        belongs: whether a row does.
        is_time: drawn are milliseconds a step, not tokens a second: a step that costs more than
            its neighbours shows, however many sequences share it.
    """

    title: str
    size: str
    belongs: Callable[[Row], bool]
    is_time: bool = False


Series = dict[str, list[Row]]
"""A line each, in the order of the size."""

_PANEL_INCHES = (5.5, 3.8)
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito 2008: told apart by colour-blind readers too."""

_MARKERS = "osD^vP"

_GROUPS = (
    Group("prompt", "n_prompt", lambda row: row["n_prompt"] > 0 and not row["scored"]),
    Group("decode, by depth", "n_depth", lambda row: row["n_gen"] > 0, is_time=True),
    Group("decode, by sequences", "batch_size", lambda row: row["n_gen"] > 0, is_time=True),
    Group("scoring", "n_prompt", lambda row: row["scored"]),
)

_SIZES = ("n_prompt", "n_gen", "n_depth", "batch_size")
_SHORT = {"n_prompt": "p", "n_gen": "n", "n_depth": "d", "batch_size": "b"}

_AXES = {
    "n_prompt": "tokens of each text",
    "n_depth": "tokens in the cache before",
    "batch_size": "sequences at once",
}

_LEGEND_LINES = 10

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>bigcode bench</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 72em }}
svg {{ width: 100%; height: auto }}</style>
</head>
<body>
{picture}
<p>{facts}</p>
</body>
</html>
"""


def require_matplotlib() -> None:
    """Refuse before anything is measured.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError("--plot needs matplotlib", "pip install 'bigcode-cli[plot]'") from error


def draw(rows: Sequence[Row], facts: str, suffix: str) -> bytes:
    """Draw what varies, a line an engine, on an axis of powers of two: the bytes of a file.

    Whiskers are the 95 % intervals of the medians. Work of one size makes bars.

    Args:
        suffix: ``.png``, or ``.html`` for a page that holds the picture and loads nothing.
    """
    told = [row for row in rows if "median_ts" in row and not row["end_to_end"]]
    figure = _figure(told)
    picture = io.BytesIO()
    if suffix == ".png":
        figure.suptitle(_folded(facts), fontsize=7)
        figure.savefig(picture, format="png", dpi=160)
        return picture.getvalue()
    figure.savefig(picture, format="svg")
    drawing = picture.getvalue().decode()
    drawing = drawing[drawing.index("<svg") :]
    return _PAGE.format(picture=drawing, facts=html.escape(facts)).encode()


def _lines_of(group: Group, rows: Sequence[Row]) -> Series:
    """For each engine, and each of the other sizes if there are several, how the size matters.

    What was measured at one size alone is no line.
    """
    some = [row for row in rows if group.belongs(row)]
    others = [name for name in _SIZES if name != group.size]
    series: dict[tuple[object, ...], list[Row]] = {}
    for row in some:
        series.setdefault((row["engine"], *(row[name] for name in others)), []).append(row)
    longer = {
        key: sorted(mine, key=lambda row: float(row[group.size]))
        for key, mine in series.items()
        if len({row[group.size] for row in mine}) > 1
    }
    varied = [at for at, _ in enumerate(others, start=1) if len({key[at] for key in longer}) > 1]
    return {
        " ".join([str(key[0]), *(f"{_SHORT[others[at - 1]]}{key[at]}" for at in varied)]): mine
        for key, mine in longer.items()
    }


def _singles(rows: Sequence[Row], lines: Sequence[Series]) -> list[Row]:
    """What is on no line."""
    shown = {id(row) for series in lines for mine in series.values() for row in mine}
    return [row for row in rows if id(row) not in shown]


def _figure(rows: Sequence[Row]) -> "Figure":
    from matplotlib.figure import Figure

    panels = [(group, series) for group in _GROUPS if (series := _lines_of(group, rows))]
    singles = _singles(rows, [series for _, series in panels])
    count = max(len(panels) + bool(singles), 1)
    columns = min(count, 2)
    lines = -(-count // columns)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * columns, height * lines), layout="constrained")
    places = list(figure.subplots(lines, columns, squeeze=False).flat)
    for place, (group, series) in zip(places, panels, strict=False):
        _lines(place, group, series)
    if singles:
        _bars(places[len(panels)], singles)
    for place in places[count:]:
        place.set_axis_off()
    return figure


def _lines(axes: "Axes", group: Group, series: Series) -> None:
    for number, (name, rows) in enumerate(series.items()):
        values = [_value(row, row["median_ts"], group) for row in rows]
        bounds = [
            sorted(_value(row, end, group) for end in row["median_ts_interval"]) for row in rows
        ]
        axes.errorbar(
            [row[group.size] for row in rows],
            values,
            yerr=[
                [value - low for value, (low, _) in zip(values, bounds, strict=True)],
                [high - value for value, (_, high) in zip(values, bounds, strict=True)],
            ],
            label=name,
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[number // len(_COLOURS) % len(_MARKERS)],
            markersize=4,
            linewidth=1.2,
            capsize=2,
        )
    _scale(axes, sorted({row[group.size] for rows in series.values() for row in rows}))
    axes.set_title(group.title)
    axes.set_xlabel(_AXES[group.size])
    axes.set_ylabel("ms a step" if group.is_time else "tokens/s")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=-(-len(series) // _LEGEND_LINES))


def _value(row: Row, speed: float, group: Group) -> float:
    """Of a speed in tokens a second, what is drawn."""
    return 1000 * float(row["batch_size"]) / speed if group.is_time else speed


def _scale(axes: "Axes", sizes: Sequence[int]) -> None:
    """Powers of two, each as far from the next; below the first that is no 0 the axis is even."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    least = next(size for size in sizes if size)
    if sizes[0]:
        axes.set_xscale("log", base=2)
    else:
        axes.set_xscale("symlog", base=2, linthresh=least, linscale=0.5)
    powers = [2**exponent for exponent in range(sizes[-1].bit_length()) if 2**exponent >= least]
    step = -(-len(powers) // 10)
    ticks = [*([] if sizes[0] else [0]), *powers[::step]]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    if not sizes[0]:
        axes.set_xlim(left=-least / 4)


def _bars(axes: "Axes", rows: Sequence[Row]) -> None:
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    names = [row["test"] + (f"\n{row['engine']}" if len(engines) > 1 else "") for row in rows]
    axes.barh(
        names,
        [row["median_ts"] for row in rows],
        xerr=_whiskers(rows),
        color=[_COLOURS[engines.index(row["engine"]) % len(_COLOURS)] for row in rows],
        capsize=3,
    )
    axes.invert_yaxis()
    axes.set_xlabel("tokens/s")


def _whiskers(rows: Sequence[Row]) -> list[list[float]]:
    """How far the intervals reach below and above."""
    return [
        [row["median_ts"] - row["median_ts_interval"][0] for row in rows],
        [row["median_ts_interval"][1] - row["median_ts"] for row in rows],
    ]


def _folded(facts: str) -> str:
    parts = facts.split("; ")
    middle = (len(parts) + 1) // 2
    return "; ".join(parts[:middle]) + "\n" + "; ".join(parts[middle:])
