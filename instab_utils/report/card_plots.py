"""The card's drawings: curves with a name at the end of each line, and brackets on one logarithmic
axis, as plain SVG.

Colours come from the page's style (classes `network`, `stable`, `own`, `twin`, `front`), so that
they follow light and dark;
no line is told by its colour alone: each has its name, dash and marker. Every drawing stands beside
a table of its numbers.
"""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 48, 138, 14, 44
DASHES = {
    "network": "",
    "stable": "",
    "own": "7 4",
    "twin": "2 4",
    "front": "9 3 2 3",
    "trained": "3 3",
}


class Line(NamedTuple):
    """One curve; a None in y is a gap."""

    name: str
    kind: str  # of DASHES
    x: Sequence[float]
    y: Sequence[float | None]


def number(value: float | None, digits: int = 3) -> str:
    """To `digits` significant digits, with a true minus sign; a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, int) or 10**digits <= abs(value) < 1e7:
        text = f"{value:.0f}"
    else:
        text = f"{value:.{digits}g}"
        if "e" in text:
            base, power = text.split("e")
            text = f"{base}·10{str(int(power)).translate(_RAISED)}"
    return text.replace("-", "−")


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def curves(
    lines: Sequence[Line],
    *,
    alt: str,
    x_label: str,
    y_label: str,
    log_y: bool = False,
    percent: bool = True,
    mark: tuple[float, str] | None = None,
) -> str:
    """Lines over a linear axis from 0, named at their ends.

    Args:
        alt: what is to be seen, for readers who cannot see it.
        percent: x is a share, shown in per cent.
        mark: an x and its name, drawn as a vertical line.
    """
    lines = [line for line in lines if any(_drawable(v, log_y) for v in line.y)]
    if not lines:
        return "<p>No values to draw.</p>"
    top_x = max([*(v for line in lines for v in line.x), mark[0] if mark else 0]) * 1.02 or 1.0
    values = [v for line in lines for v in line.y if _drawable(v, log_y)]
    ticks = _log_ticks(values) if log_y else _ticks(min(values), max(values))
    low, high = min(ticks[0], *values), max(ticks[-1], *values)
    scale = math.log10 if log_y else float
    span = scale(high) - scale(low) or 1.0

    def px(x):
        return LEFT + (WIDTH - LEFT - RIGHT) * x / top_x

    def py(y):
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (scale(y) - scale(low)) / span)

    body = []
    for tick in ticks:
        body.append(
            f'<path class="grid" d="M{LEFT} {py(tick):.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 6}" y="{py(tick) + 4:.1f}" text-anchor="end">{number(float(tick))}</text>'
        )
    for tick in _ticks(0, top_x / 1.02):
        if tick <= top_x:
            body.append(
                f'<text x="{px(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
                f"{number(100 * tick if percent else float(tick))}</text>"
            )
    body.append(f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    if mark:
        body.append(
            f'<path class="line trained" stroke-dasharray="{DASHES["trained"]}" d="M{px(mark[0]):.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
            f'<text x="{px(mark[0]) + 4:.1f}" y="{HEIGHT - BOTTOM - 6}">{html.escape(mark[1])}</text>'
        )
    ends = []
    for line in lines:
        points = [(px(x), py(y)) if _drawable(y, log_y) else None for x, y in zip(line.x, line.y)]
        path, pen = "", "M"
        for point in points:
            path, pen = (
                (path + f"{pen}{point[0]:.1f} {point[1]:.1f}", "L") if point else (path, "M")
            )
        body.append(
            f'<path class="line {line.kind}" stroke-dasharray="{DASHES[line.kind]}" d="{path}"/>'
        )
        body += [_marker(line.kind, *point) for point in points if point]
        ends.append((next(point for point in reversed(points) if point)[1], line))
    spread = _apart([y for y, _ in ends], 15, TOP + 4, HEIGHT - BOTTOM)
    for y, (at, line) in zip(spread, ends):
        body.append(
            f'<path class="lead {line.kind}" d="M{WIDTH - RIGHT + 3} {at:.1f}L{WIDTH - RIGHT + 11} {y:.1f}"/>'
            f'<text class="{line.kind}" x="{WIDTH - RIGHT + 14}" y="{y + 4:.1f}">{html.escape(line.name)}</text>'
        )
    body.append(
        f'<text x="{LEFT + (WIDTH - LEFT - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(x_label)}</text>'
    )
    return _svg("".join(body), WIDTH, HEIGHT, alt, y_label)


def brackets(rows: Sequence[dict], *, alt: str, x_label: str) -> str:
    """A line a strength on one logarithmic axis: the random twin, what the attack reached, and the
    proven bound, where there is one.
    """
    width, left, step = WIDTH, 66, 34
    height = step * len(rows) + 62
    values = [
        v
        for row in rows
        for v in (row["attack"], row["twin"], row["certificate"])
        if v is not None and v > 0
    ]
    if not values:
        return "<p>No values to draw.</p>"
    low, high = math.log10(min(values)) - 0.12, math.log10(max(values)) + 0.12

    def px(v):
        return left + (width - left - 24) * (math.log10(v) - low) / (high - low)

    body = [f'<text x="{left - 10}" y="{height - 30}" text-anchor="end">strength</text>']
    for tick in _log_ticks(values):
        if low <= math.log10(tick) <= high:
            body.append(
                f'<path class="grid" d="M{px(tick):.1f} 8V{height - 48}"/>'
                f'<text x="{px(tick):.1f}" y="{height - 30}" text-anchor="middle">{number(float(tick))}</text>'
            )
    for i, row in enumerate(rows):
        y = 8 + step * (i + 0.5)
        body.append(
            f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{number(100 * row["rel_norm"])} %</text>'
        )
        attack, bound, twin = (
            row[name] if row[name] else None for name in ("attack", "certificate", "twin")
        )
        if attack and bound:
            body.append(
                f'<rect class="between" x="{min(px(attack), px(bound)):.1f}" y="{y - 5}" '
                f'width="{abs(px(bound) - px(attack)):.1f}" height="10"/>'
            )
        if twin:
            body.append(f'<circle class="mark twin" cx="{px(twin):.1f}" cy="{y}" r="5"/>')
        if attack:
            body.append(f'<path class="mark network" d="M{px(attack):.1f} {y - 8}l7 14h-14z"/>')
        if bound:
            body.append(
                f'<path class="mark bound" d="M{px(bound):.1f} {y - 9}v18m0 -18h-7m7 18h-7"/>'
            )
    body.append(
        f'<text x="{left + (width - left - 24) / 2}" y="{height - 8}" text-anchor="middle">{html.escape(x_label)}</text>'
    )
    return _svg("".join(body), width, height, alt)


def sample(kind: str) -> str:
    """A short piece of a line or mark, for a legend; the words beside it say what it is."""
    marks = {
        "attack": '<path class="mark network" d="M15 1l7 14h-14z"/>',
        "random": '<circle class="mark twin" cx="15" cy="8" r="5"/>',
        "bound": '<path class="mark bound" d="M18 0v16m0 -16h-7m7 16h-7"/>',
        "between": '<rect class="between" y="3" width="30" height="10"/>',
    }
    line = f'<path class="line {kind}" stroke-dasharray="{DASHES.get(kind, "")}" d="M0 8H30"/>{_marker(kind, 15, 8)}'
    return f'<svg class="sample" width="30" height="16" viewBox="0 0 30 16" aria-hidden="true">{marks.get(kind, line)}</svg>'


def _svg(body, width, height, alt, title=""):
    heading = f'<p class="y">{html.escape(title)}</p>' if title else ""
    return f'{heading}<svg class="plot" role="img" aria-label="{html.escape(alt)}" viewBox="0 0 {width} {height}">{body}</svg>'


def _marker(kind, x, y):
    if kind in ("twin", "front"):
        return f'<circle class="mark {kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>'
    if kind == "network":
        return f'<circle class="dot network" cx="{x:.1f}" cy="{y:.1f}" r="3.6"/>'
    return f'<rect class="{"dot" if kind == "stable" else "mark"} {kind}" x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"/>'


def _drawable(value, log):
    return value is not None and (not log or value > 0)


def _ticks(low, high, n=5) -> list[float]:
    """Round numbers that enclose low to high."""
    step = (high - low) / n or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(step))
    step = unit * next(f for f in (1, 2, 2.5, 5, 10) if unit * f >= step * 0.999)
    return [
        step * i for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)
    ]


def _log_ticks(values) -> list[float]:
    """1, 2, 5 in every decade where there are few decades, else powers of ten (a few of them)."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    every = max(1, math.ceil((high - low) / 6))
    steps = (1, 2, 5) if high - low <= 2 else (1,)
    ticks = [f * 10.0**k for k in range(low, high + 1, every) for f in steps]
    below, above = [t for t in ticks if t <= min(values)], [t for t in ticks if t >= max(values)]
    return [
        t for t in ticks if (below[-1] if below else 0) <= t <= (above[0] if above else math.inf)
    ]


def _apart(ys, gap, top, bottom):
    """The nearest places in the same order that are at least `gap` apart."""
    order, placed = sorted(range(len(ys)), key=lambda i: ys[i]), list(ys)
    for before, i in zip([None, *order], order):
        placed[i] = max(ys[i], top if before is None else placed[before] + gap)
    for after, i in zip([None, *order[::-1]], order[::-1]):
        placed[i] = min(placed[i], bottom if after is None else placed[after] - gap)
    return placed
