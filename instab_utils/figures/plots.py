"""Curves, bars and named points in plotly, drawn in the built page without kernel or network."""

import hashlib
import itertools
import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from . import page
from .page import described

# Okabe and Ito's palette without its yellow, which is too faint for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "triangle-down", "star")
PATTERNS = ("", "/", ".", "x", "-", "+", "|")
Series = Mapping[str, ArrayLike | tuple[ArrayLike, ArrayLike, ArrayLike]]
LAYOUT = Path(__file__).with_name("layout.json")


@dataclass(frozen=True)
class Axes:
    """Axes of a plot.

    Attributes:
        x_label, y_label: quantity and unit, such as "noise level (% of max)". Unicode and <sub>, no
            LaTeX.
        title: what the plot shows, drawn above it.
        log_x, log_y: logarithmic axes, with numbers in full.
        y_range: (lo, hi) of the y axis; default what holds all values.
        height: pixels.
    """

    x_label: str = ""
    y_label: str = ""
    title: str = ""
    log_x: bool = False
    log_y: bool = False
    y_range: tuple[float, float] | None = None
    height: int = 400


def curves(x: ArrayLike, series: Series, *, alt: str = "", markers: bool = True, **axes):
    """Return curves over x with their intervals, as a plotly figure.

    Each curve has its own colour, dash and marker.

    Args:
        x: (k,) positions or names.
        series: name -> y (k,), or (y, lo, hi) where lo..hi is the interval drawn as a band.
        alt: what the figure shows, for readers who cannot see it; mandatory.
        markers: draw the points too.
        axes: those of `Axes`.

    Returns:
        `plotly.graph_objects.Figure`; `.add_hline`, `.add_annotation` and so on work as usual.
    """
    axes = Axes(**axes)
    x = _vector(x)
    figure = _plot(described("curves", alt), axes)
    for k, (name, values) in enumerate(series.items()):
        y, lo, hi = _interval("curves", name, values, len(x))
        colour = COLOURS[k % len(COLOURS)]
        hover = "%{y:.4g}"
        if lo is not None:
            hover += " [%{customdata[0]:.4g}, %{customdata[1]:.4g}]"
            least = np.min(y[y > 0], initial=1) / 3
            low = np.where(lo > 0, lo, least) if axes.log_y else lo
            figure.add_scatter(
                x=np.concatenate([x, x[::-1]]),
                y=np.concatenate([hi, low[::-1]]),
                fill="toself",
                fillcolor=_faded(colour),
                line_width=0,
                mode="lines",
                legendgroup=name,
                showlegend=False,
                hoverinfo="skip",
            )
        figure.add_scatter(
            x=x,
            y=y,
            name=name,
            legendgroup=name,
            mode="lines+markers" if markers else "lines",
            line=dict(color=colour, width=2.2, dash=DASHES[k % len(DASHES)]),
            marker=dict(symbol=SYMBOLS[k % len(SYMBOLS)], size=8, color=colour),
            customdata=None if lo is None else np.stack([lo, hi], -1),
            hovertemplate=hover,
        )
    if axes.log_x:
        figure.update_xaxes(_log_axis([x], ticks=x if len(x) <= 10 else None))
    return figure.update_yaxes(_y_axis(figure, axes))


def bars(names: Sequence[str], series: Series, *, alt: str = "", **axes):
    """Return grouped bars as a plotly figure.

    Args:
        names: (k,) one a group of bars.
        series: name -> heights (k,), or (heights, lo, hi) with lo..hi drawn as an error bar.
        alt, axes: as in `curves`.
    """
    axes = Axes(**axes)
    figure = _plot(described("bars", alt), axes)
    for k, (name, values) in enumerate(series.items()):
        y, lo, hi = _interval("bars", name, values, len(names))
        interval = None
        if lo is not None:
            interval = dict(array=hi - y, arrayminus=y - lo, thickness=1.5, color="#333")
        figure.add_bar(
            x=list(names),
            y=y,
            name=name,
            error_y=interval,
            hovertemplate="%{y:.4g}",
            marker=dict(
                color=COLOURS[k % len(COLOURS)],
                pattern_shape=PATTERNS[k % len(PATTERNS)],
                pattern_fillmode="overlay",
                pattern_fgcolor="white",
                pattern_solidity=0.2,
            ),
        )
    figure.update_yaxes(_y_axis(figure, axes))
    return figure.update_layout(barmode="group", hovermode="closest", xaxis_type="category")


def scatter(points: Mapping[str, Mapping[str, tuple[float, float]]], *, alt: str = "", **axes):
    """Return named points in groups as a plotly figure; a colour and a marker a group.

    Args:
        points: group -> {name: (x, y)}; every point has its name beside it.
        alt, axes: as in `curves`.
    """
    axes = Axes(**{"height": 420, **axes})
    figure = _plot(described("scatter", alt), axes)
    for k, (group, named) in enumerate(points.items()):
        figure.add_scatter(
            x=[x for x, _ in named.values()],
            y=[y for _, y in named.values()],
            name=group,
            mode="markers+text",
            text=list(named),
            textposition="top center",
            textfont_size=11,
            hovertemplate="%{text}: %{x:.3g}, %{y:.3g}<extra></extra>",
            cliponaxis=False,
            marker=dict(color=COLOURS[k % len(COLOURS)], symbol=SYMBOLS[k % len(SYMBOLS)], size=10),
        )
    return figure.update_layout(hovermode="closest")


def register_book_renderer() -> None:
    """Make plotly write bare HTML that draws with the page's own plotly.js and MathJax.

    The default renderer's output is dropped by the book, the other built-in ones load scripts from
    elsewhere. Done on import where INSTAB_BOOK is set.
    """
    import plotly.io as pio
    from plotly.io._base_renderers import MimetypeRenderer  # private: the plotly version is pinned

    count = itertools.count()

    class BookRenderer(MimetypeRenderer):
        def to_mimebundle(self, fig_dict):
            layout = dict(fig_dict["layout"])
            text = (layout.get("meta") or {}).get("alt")
            alt = described("a plotly figure in the book", text, "layout.meta = {'alt': ...}")
            title = ((layout.get("title") or {}).get("text") or "").replace("<br>", " ")
            if title:  # as text of the page it wraps at any width and follows dark mode
                top = 40 if len(fig_dict["data"]) > 1 else 20
                margin = dict(layout.get("margin") or {}, t=top)
                fig_dict = {**fig_dict, "layout": {**layout, "title": None, "margin": margin}}
                title = f'<p class="instab-title">{title}</p>'
            digest = hashlib.sha256(repr(fig_dict).encode()).hexdigest()[:10]
            body = pio.to_html(
                fig_dict,
                include_plotlyjs=False,
                include_mathjax=False,
                full_html=False,
                default_width="100%",
                default_height=400,
                auto_play=False,
                validate=False,
                config={"responsive": True, "displaylogo": False, "displayModeBar": "hover"},
                div_id=f"plot-{next(count)}-{digest}",
            )
            card = f'{title}<div class="instab-card">{body}</div>'
            return {"text/html": page.figure(card, alt)._repr_html_()}

    pio.renderers["book"] = BookRenderer()
    pio.renderers.default = "book"


def _plot(alt: str, axes: Axes):
    """Return an empty figure in the house style (layout.json), with its description inside."""
    import plotly.graph_objects as go

    title = textwrap.wrap(axes.title, 46)
    return go.Figure(layout=json.loads(LAYOUT.read_text("utf-8"))).update_layout(
        title_text="<br>".join(title),
        margin_t=40 + 20 * len(title),
        height=axes.height,
        meta={"alt": alt},
        xaxis_title_text=axes.x_label,
        yaxis_title_text=axes.y_label,
    )


def _log_axis(values: Iterable[ArrayLike], ticks: ArrayLike | None = None) -> dict:
    """Return a logarithmic axis with numbers in full.

    At `ticks`, else at decades, or at 1, 2, 5 of each where there are few decades.
    """
    values = np.concatenate([np.ravel(part) for part in values]).astype(float)
    values = values[values > 0]
    minor = dict(ticks="outside", ticklen=3, tickcolor="#999", dtick="D1")
    if not values.size:
        return dict(type="log", minor=minor)
    in_full = ticks is not None
    if ticks is None:
        first, last = math.floor(math.log10(values.min())), math.ceil(math.log10(values.max()))
        steps = (1,) if last - first >= 4 else (1, 2, 5)
        ticks = [step * 10.0**k for k in range(first, last + 1) for step in steps]
        in_full = all(1e-4 < tick < 1e5 for tick in ticks)
    texts = [f"{tick:g}" if in_full else _power_of_ten(tick) for tick in ticks]
    return dict(type="log", tickvals=list(ticks), minor=minor, ticktext=texts)


def _power_of_ten(tick: float) -> str:
    power = math.log10(tick)
    return f"10<sup>{power:.0f}</sup>" if power % 1 == 0 else ""


def _y_axis(figure, axes: Axes) -> dict:
    axis = _log_axis([trace.y for trace in figure.data]) if axes.log_y else {}
    if axes.y_range is not None:
        axis["range"] = [math.log10(v) for v in axes.y_range] if axes.log_y else axes.y_range
    return axis


def _interval(function: str, name: str, values: ArrayLike | tuple, n: int) -> list:
    """Return (y, lo, hi) as arrays; lo and hi None where only y is given."""
    parts = [_vector(v) for v in values] if isinstance(values, tuple) else [_vector(values)]
    if len(parts) not in (1, 3) or any(part.shape != (n,) for part in parts):
        raise ValueError(
            f"{function}() expects series {name!r} as y or a tuple (y, lo, hi), "
            f"each of {n} values; got {[part.shape for part in parts]}."
        )
    return parts if len(parts) == 3 else [*parts, None, None]


def _vector(values: ArrayLike) -> np.ndarray:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _faded(colour: str) -> str:
    return "rgba({},{},{},0.16)".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))
