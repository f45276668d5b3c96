"""Curves, bars and named points in plotly, and the renderer that draws them in the built page
without a kernel or a network.
"""

import hashlib
import itertools
import math
import textwrap

import numpy as np

from instab_utils.figures import page
from instab_utils.figures.page import described

# Okabe and Ito's palette without its yellow, which is too faint for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "triangle-down", "star")
PATTERNS = ("", "/", ".", "x", "-", "+", "|")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def curves(
    x,
    series,
    *,
    x_label,
    y_label,
    alt="",
    title="",
    log_x=False,
    log_y=False,
    markers=True,
    y_range=None,
    height=400,
):
    """Curves over x with their intervals: a plotly figure, colour, dash and marker different for
    each curve.

    Args:
        x: (k,) positions or names.
        series: name -> y (k,), or (y, lo, hi) where lo..hi is the interval drawn as a band.
        x_label, y_label: quantity and unit, such as "noise level (% of max)". Unicode and <sub>, no
            LaTeX.
        alt: what the figure shows, for readers who cannot see it; mandatory.

    Returns:
        `plotly.graph_objects.Figure`; `.add_hline`, `.add_annotation` and so on work as usual.
    """
    x = _vector(x)
    figure = _plot(described("curves", alt), title, x_label, y_label, height)
    for k, (name, values) in enumerate(series.items()):
        y, lo, hi = _interval("curves", name, values, len(x))
        colour, hover = COLOURS[k % len(COLOURS)], "%{y:.4g}"
        if lo is not None:
            low = np.where(lo > 0, lo, np.min(y[y > 0], initial=1) / 3) if log_y else lo
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
            hover += " [%{customdata[0]:.4g}, %{customdata[1]:.4g}]"
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
    figure.update_xaxes(_log_axis([x], at=x if len(x) <= 10 else None) if log_x else {})
    return figure.update_yaxes(_y_axis(figure, log_y, y_range))


def bars(
    names, series, *, y_label, x_label="", alt="", title="", log_y=False, y_range=None, height=400
):
    """Grouped bars: series name -> heights (k,), or (heights, lo, hi) with lo..hi drawn as an error
    bar.
    """
    figure = _plot(described("bars", alt), title, x_label, y_label, height)
    for k, (name, values) in enumerate(series.items()):
        y, lo, hi = _interval("bars", name, values, len(names))
        error = (
            None
            if lo is None
            else dict(array=hi - y, arrayminus=y - lo, thickness=1.5, color="#333")
        )
        figure.add_bar(
            x=list(names),
            y=y,
            name=name,
            error_y=error,
            hovertemplate="%{y:.4g}",
            marker=dict(
                color=COLOURS[k % len(COLOURS)],
                pattern_shape=PATTERNS[k % len(PATTERNS)],
                pattern_fillmode="overlay",
                pattern_fgcolor="white",
                pattern_solidity=0.2,
            ),
        )
    figure.update_yaxes(_y_axis(figure, log_y, y_range))
    return figure.update_layout(barmode="group", hovermode="closest", xaxis_type="category")


def scatter(points, *, x_label, y_label, alt="", title="", height=420):
    """Named points in groups: group -> {name: (x, y)}; every group has a colour and a marker, every
    point its name beside it.
    """
    figure = _plot(described("scatter", alt), title, x_label, y_label, height)
    for k, (group, named) in enumerate(points.items()):
        x, y = zip(*named.values()) if named else ((), ())
        figure.add_scatter(
            x=x,
            y=y,
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
    """Make plotly write bare HTML that draws with the page's own plotly.js: no address, no second
    MathJax.

    The default renderer's output is dropped by the book, the other built-in ones load scripts from
    elsewhere. Done on import where INSTAB_BOOK is set.
    """
    import plotly.io as pio
    from plotly.io._base_renderers import MimetypeRenderer  # private: the plotly version is pinned

    count = itertools.count()

    class BookRenderer(MimetypeRenderer):
        def to_mimebundle(self, fig_dict):
            layout = dict(fig_dict["layout"])
            alt = described(
                "a plotly figure in the book",
                (layout.get("meta") or {}).get("alt"),
                "layout.meta = {'alt': ...}",
            )
            title = ((layout.get("title") or {}).get("text") or "").replace("<br>", " ")
            if title:  # as text of the page it wraps at any width and follows dark mode
                margin = dict(layout.get("margin") or {}, t=40 if len(fig_dict["data"]) > 1 else 20)
                fig_dict = {**fig_dict, "layout": {**layout, "title": None, "margin": margin}}
                title = f'<p class="instab-title">{title}</p>'
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
                div_id=f"plot-{next(count)}-{hashlib.sha256(repr(fig_dict).encode()).hexdigest()[:10]}",
            )
            return {
                "text/html": page.figure(
                    f'{title}<div class="instab-card">{body}</div>', alt
                )._repr_html_()
            }

    pio.renderers["book"] = BookRenderer()
    pio.renderers.default = "book"


def _plot(alt, title, x_label, y_label, height):
    """An empty plotly figure in the house style: white card, one font, thin grid, legend above,
    description inside.
    """
    import plotly.graph_objects as go

    axis = dict(
        showline=True,
        linecolor="#555",
        ticks="outside",
        tickcolor="#555",
        gridcolor="#e6e8eb",
        zeroline=False,
        automargin=True,
        title_standoff=8,
        title_font_size=14,
    )
    lines = textwrap.wrap(title, 46)
    return go.Figure(
        layout=dict(
            template="none",
            paper_bgcolor="white",
            plot_bgcolor="white",
            font=dict(family=FONT, size=13, color="#1b1f24"),
            title=dict(
                text="<br>".join(lines),
                font_size=15,
                x=0,
                xref="paper",
                y=1,
                yref="container",
                yanchor="top",
                pad_t=14,
            ),
            margin=dict(l=60, r=20, t=40 + 20 * len(lines), b=50),
            height=height,
            hovermode="x unified",
            meta={"alt": alt},
            legend=dict(orientation="h", x=0, y=1.01, yanchor="bottom", bgcolor="rgba(0,0,0,0)"),
            xaxis=dict(axis, title_text=x_label),
            yaxis=dict(axis, title_text=y_label),
        )
    )


def _log_axis(values, at=None) -> dict:
    """A logarithmic axis with numbers in full at `at`, else at decades, or at 1, 2, 5 of each where
    there are few decades.
    """
    values = np.concatenate([np.ravel(v) for v in values]).astype(float)
    values = values[values > 0]
    minor = dict(ticks="outside", ticklen=3, tickcolor="#999", dtick="D1")
    if not values.size:
        return dict(type="log", minor=minor)
    decades = range(math.floor(math.log10(values.min())), math.ceil(math.log10(values.max())) + 1)
    steps = (1,) if len(decades) > 4 else (1, 2, 5)
    ticks = [step * 10.0**k for k in decades for step in steps] if at is None else list(at)
    small = all(1e-4 < tick < 1e5 for tick in ticks)
    return dict(
        type="log",
        tickvals=ticks,
        minor=minor,
        ticktext=[
            f"{tick:g}"
            if small or at is not None
            else f"10<sup>{math.log10(tick):.0f}</sup>"
            if math.log10(tick) % 1 == 0
            else ""
            for tick in ticks
        ],
    )


def _y_axis(figure, log, y_range) -> dict:
    axis = _log_axis([trace.y for trace in figure.data]) if log else {}
    if y_range is not None:
        axis["range"] = [math.log10(v) for v in y_range] if log else list(y_range)
    return axis


def _interval(function, name, values, n):
    """(y, lo, hi) as arrays; lo and hi None where only y is given."""
    parts = (
        [_vector(v) for v in values] if isinstance(values, tuple) else [_vector(values), None, None]
    )
    if len(parts) != 3 or any(p is not None and p.shape != (n,) for p in parts):
        raise ValueError(
            f"{function}() expects series {name!r} as y or a tuple (y, lo, hi), each of {n} values; "
            f"got {[None if p is None else p.shape for p in parts]}."
        )
    return parts


def _vector(values) -> np.ndarray:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _faded(colour: str) -> str:
    return "rgba({},{},{},0.16)".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))
