"""The card's drawings as plain SVG: curves named at their ends, brackets on a logarithmic axis.

Coordinates are computed here, `templates/plots.j2` draws them. Every drawing stands beside a table
of its numbers.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from .formats import number
from .templating import TEMPLATES

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 48, 138, 14, 44
LABEL_GAP = 15  # between the names of two lines
EMPTY = Markup("<p>No values to draw.</p>")


class Line(NamedTuple):
    """One curve; a None in y is a gap."""

    name: str
    kind: str  # of templating.DASHES
    x: Sequence[float]
    y: Sequence[float | None]


def curves(
    lines: Sequence[Line],
    *,
    alt: str,
    x_label: str,
    y_label: str,
    log_y: bool = False,
    percent: bool = True,
    mark: tuple[float, str] | None = None,
) -> Markup:
    """Draw lines over a linear axis that begins at 0.

    Args:
        lines: the curves; one without a value is left out.
        alt: what the drawing shows, for readers who cannot see it.
        x_label, y_label: quantity and unit.
        log_y: values of 0 and below are gaps.
        percent: x is a share, shown in per cent.
        mark: an x and its name, drawn as a vertical line.
    """
    lines = [line for line in lines if any(_drawable(y, log_y) for y in line.y)]
    if not lines:
        return EMPTY
    xs = [x for line in lines for x in line.x] + ([mark[0]] if mark else [])
    ys = [y for line in lines for y in line.y if _drawable(y, log_y)]
    largest = max(xs) or 1.0
    y_ticks = _log_ticks(ys) if log_y else _ticks(min(ys), max(ys))
    to_x = _axis(0.0, largest * 1.02, LEFT, WIDTH - RIGHT)
    to_y = _axis(min(*y_ticks, *ys), max(*y_ticks, *ys), HEIGHT - BOTTOM, TOP, log_y)

    drawn = []
    for line in lines:
        points = [
            (to_x(x), to_y(y)) if _drawable(y, log_y) else None for x, y in zip(line.x, line.y)
        ]
        known = [point for point in points if point]
        drawn.append(
            {
                "name": line.name,
                "kind": line.kind,
                "path": _path(points),
                "points": known,
                "end": known[-1][1],
            }
        )
    labels = _apart([line["end"] for line in drawn], LABEL_GAP, TOP + 4, HEIGHT - BOTTOM)
    x_ticks = [tick for tick in _ticks(0, largest) if tick <= largest * 1.02]
    return _draw(
        "curves",
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=RIGHT,
        top=TOP,
        bottom=BOTTOM,
        alt=alt,
        x_label=x_label,
        y_label=y_label,
        x_ticks=[(to_x(tick), number(100 * tick if percent else tick)) for tick in x_ticks],
        y_ticks=[(to_y(tick), number(tick)) for tick in y_ticks],
        mark=(to_x(mark[0]), mark[1]) if mark else None,
        lines=[line | {"label": label} for line, label in zip(drawn, labels)],
    )


def brackets(rows: Sequence[dict], *, alt: str, x_label: str) -> Markup:
    """Draw a line a strength: random change, what the attack reached, the proven bound.

    Args:
        rows: of the card's part `bracket`.
        alt, x_label: as in `curves`.
    """
    names = ("attack", "twin", "certificate")
    values = [row[name] for row in rows for name in names if row[name]]
    if not values:
        return EMPTY
    left, step = 66, 34
    margin = 10**0.12
    low, high = min(values) / margin, max(values) * margin
    to_x = _axis(low, high, left, WIDTH - 24, log=True)
    drawn = [
        {"y": 8 + step * (i + 0.5), "text": f"{number(100 * row['rel_norm'])} %"}
        | {name: to_x(row[name]) if row[name] else None for name in names}
        for i, row in enumerate(rows)
    ]
    ticks = [tick for tick in _log_ticks(values) if low <= tick <= high]
    return _draw(
        "brackets",
        width=WIDTH,
        height=step * len(rows) + 62,
        left=left,
        alt=alt,
        x_label=x_label,
        x_ticks=[(to_x(tick), number(tick)) for tick in ticks],
        rows=drawn,
    )


def _draw(macro: str, **plot) -> Markup:
    return getattr(TEMPLATES.get_template("plots.j2").module, macro)(plot)


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
