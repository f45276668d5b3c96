"""Coordinates of the card's drawings: curves named at their ends, brackets on a logarithmic axis.

`templates/plots.j2` draws them as plain SVG. Every drawing stands beside a table of its numbers.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .formats import number
from .templating import DASHES, FRAME

LABEL_GAP = 15  # between the names of two lines
BRACKET_LEFT, BRACKET_STEP = 66, 34


class Line(NamedTuple):
    """One curve; a None in y is a gap."""

    name: str
    kind: str  # of templating.DASHES
    x: Sequence[float]
    y: Sequence[float | None]


def curves(
    lines: Sequence[Line],
    *,
    log_y: bool = False,
    percent: bool = True,
    mark: tuple[float, str] | None = None,
) -> dict | None:
    """Return the coordinates of lines over a linear axis from 0; None without a value.

    Args:
        lines: the curves; one without a value is left out.
        log_y: values of 0 and below are gaps.
        percent: x is a share, shown in per cent.
        mark: an x and its name, drawn as a vertical line.
    """
    lines = [line for line in lines if any(_drawable(y, log_y) for y in line.y)]
    if not lines:
        return None
    ys = [y for line in lines for y in line.y if _drawable(y, log_y)]
    xs = [x for line in lines for x in line.x]
    largest = max([*xs, mark[0]] if mark else xs) or 1.0
    y_ticks = _log_ticks(ys) if log_y else _ticks(min(ys), max(ys))
    x_ticks = [tick for tick in _ticks(0, largest) if tick <= largest * 1.02]
    to_x = _axis(0.0, largest * 1.02, FRAME.left, FRAME.right)
    to_y = _axis(min(*y_ticks, *ys), max(*y_ticks, *ys), FRAME.bottom, FRAME.top, log_y)
    drawn = []
    for line in lines:
        points = [
            (to_x(x), to_y(y)) if _drawable(y, log_y) else None for x, y in zip(line.x, line.y)
        ]
        path = {"path": _path(points), "points": [point for point in points if point]}
        drawn.append({"name": line.name, "kind": line.kind, "dash": DASHES[line.kind], **path})
    ends = [line["points"][-1][1] for line in drawn]
    for line, label in zip(drawn, _apart(ends, LABEL_GAP, FRAME.top + 4, FRAME.bottom)):
        line["label"] = label
    return {
        "x_ticks": [(to_x(tick), number(100 * tick if percent else tick)) for tick in x_ticks],
        "y_ticks": [(to_y(tick), number(tick)) for tick in y_ticks],
        "mark": (to_x(mark[0]), mark[1]) if mark else None,
        "lines": drawn,
    }


def brackets(rows: Sequence[dict]) -> dict | None:
    """Return the coordinates of a line a strength: random change, attack, proven bound.

    Args:
        rows: of the card's part `bracket`.
    """
    names = ("attack", "twin", "certificate")
    values = [row[name] for row in rows for name in names if row[name]]
    if not values:
        return None
    margin = 10**0.12
    low, high = min(values) / margin, max(values) * margin
    to_x = _axis(low, high, BRACKET_LEFT, FRAME.width - 24, log=True)
    drawn = []
    for i, row in enumerate(rows):
        marks = {name: to_x(row[name]) if row[name] else None for name in names}
        text = f"{number(100 * row['rel_norm'])} %"
        drawn.append({"y": 8 + BRACKET_STEP * (i + 0.5), "text": text, **marks})
    return {
        "left": BRACKET_LEFT,
        "height": BRACKET_STEP * len(rows) + 62,
        "x_ticks": [(to_x(t), number(t)) for t in _log_ticks(values) if low <= t <= high],
        "rows": drawn,
    }


def _axis(
    low: float, high: float, start: float, end: float, log: bool = False
) -> Callable[[float], float]:
    """Return the map of low..high to start..end, in tenths of a pixel."""
    scale = math.log10 if log else float
    span = scale(high) - scale(low) or 1.0
    return lambda value: round(start + (end - start) * (scale(value) - scale(low)) / span, 1)


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """Return the SVG path through the points; None lifts the pen."""
    path, pen = "", "M"
    for point in points:
        path += f"{pen}{point[0]} {point[1]}" if point else ""
        pen = "L" if point else "M"
    return path


def _drawable(value: float | None, log: bool) -> bool:
    return value is not None and (not log or value > 0)


def _ticks(low: float, high: float, n: int = 5) -> list[float]:
    """Return round numbers that enclose low to high."""
    step = (high - low) / n or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(step))
    step = unit * next(f for f in (1, 2, 2.5, 5, 10) if unit * f >= step * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * i for i in range(first, last + 1)]


def _log_ticks(values: Sequence[float]) -> list[float]:
    """Return 1, 2, 5 of every decade where there are few decades, else powers of ten."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    every = max(1, math.ceil((high - low) / 6))
    steps = (1, 2, 5) if high - low <= 2 else (1,)
    ticks = [f * 10.0**k for k in range(low, high + 1, every) for f in steps]
    least = max((t for t in ticks if t <= min(values)), default=0.0)
    most = min((t for t in ticks if t >= max(values)), default=math.inf)
    return [tick for tick in ticks if least <= tick <= most]


def _apart(ys: Sequence[float], gap: float, top: float, bottom: float) -> list[float]:
    """Return the nearest places in the same order that are at least `gap` apart."""
    placed = list(ys)
    order = sorted(range(len(ys)), key=ys.__getitem__)
    least = top
    for i in order:
        placed[i] = max(placed[i], least)
        least = placed[i] + gap
    most = bottom
    for i in reversed(order):
        placed[i] = min(placed[i], most)
        most = placed[i] - gap
    return placed
