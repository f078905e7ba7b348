"""Speeds as pictures, by matplotlib, which is imported when a picture is drawn."""

import html
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bigcode_cli.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]
Group = tuple[str, str, Callable[[Row], bool]]

_PANEL_INCHES = (5.5, 3.8)
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito 2008: told apart by colour-blind readers too."""

_MARKERS = "osD^vP"

_GROUPS: tuple[Group, ...] = (
    ("prompt", "n_prompt", lambda row: row["n_prompt"] > 0 and not row["scored"]),
    ("decode, by depth", "n_depth", lambda row: row["n_gen"] > 0),
    ("decode, by sequences at once", "batch_size", lambda row: row["n_gen"] > 0),
    ("scoring", "n_prompt", lambda row: row["scored"]),
)
"""Titles, the size on the horizontal axis, and the rows."""

_SIZES = ("n_prompt", "n_gen", "n_depth", "batch_size")
_SHORT = {"n_prompt": "p", "n_gen": "n", "n_depth": "d", "batch_size": "b"}

_AXES = {
    "n_prompt": "tokens",
    "n_depth": "tokens in the cache before",
    "batch_size": "sequences",
}

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
    """Draw tokens a second against what varies, a line an engine: the bytes of a file.

    Whiskers are the 95 % intervals of the medians. A size that does not vary makes bars.

    Args:
        suffix: ``.png``, or ``.html`` for a page that holds the picture and loads nothing.
    """
    told = [row for row in rows if "median_ts" in row and not row["end_to_end"]]
    figure = _figure([(group, some) for group in _GROUPS if (some := _varied(group, told))])
    picture = io.BytesIO()
    if suffix == ".png":
        figure.suptitle(_folded(facts), fontsize=7)
        figure.savefig(picture, format="png", dpi=160)
        return picture.getvalue()
    figure.savefig(picture, format="svg")
    drawing = picture.getvalue().decode()
    drawing = drawing[drawing.index("<svg") :]
    return _PAGE.format(picture=drawing, facts=html.escape(facts)).encode()


def _varied(group: Group, rows: Sequence[Row]) -> list[Row]:
    """The rows of a panel; decoding has two, of which the one whose size does not vary goes."""
    title, size, belongs = group
    some = [row for row in rows if belongs(row)]
    varies = len({row[size] for row in some}) > 1
    if title.startswith("decode") and not varies:
        other = "batch_size" if size == "n_depth" else "n_depth"
        if size == "batch_size" or len({row[other] for row in some}) > 1:
            return []
    return some


def _figure(panels: Sequence[tuple[Group, Sequence[Row]]]) -> "Figure":
    from matplotlib.figure import Figure

    count = max(len(panels), 1)
    columns = min(count, 2)
    lines = -(-count // columns)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * columns, height * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flat
    for place, ((title, size, _), rows) in zip(axes, panels, strict=False):
        place.set_title(title)
        if len({row[size] for row in rows}) > 1:
            _lines(place, size, rows)
        else:
            _bars(place, rows)
    for place in list(axes)[len(panels) :]:
        place.set_axis_off()
    return figure


def _lines(axes: "Axes", size: str, rows: Sequence[Row]) -> None:
    """Tokens a second against a size, for each engine and each of the other sizes."""
    series: dict[str, list[Row]] = {}
    for row in rows:
        others = [name for name in _SIZES if name != size and len({r[name] for r in rows}) > 1]
        marks = "".join(f" {_SHORT[name]}{row[name]}" for name in others)
        series.setdefault(row["engine"] + marks, []).append(row)
    for number, (name, some) in enumerate(series.items()):
        ordered = sorted(some, key=lambda row: row[size])
        axes.errorbar(
            [row[size] for row in ordered],
            [row["median_ts"] for row in ordered],
            yerr=_whiskers(ordered),
            label=name,
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[number % len(_MARKERS)],
            capsize=3,
        )
    axes.set_xlabel(_AXES[size])
    if size == "batch_size":
        axes.set_xscale("log", base=2)
    axes.set_ylabel("tokens/s")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


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
