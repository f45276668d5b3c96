"""Sliders that work in the built page without a kernel, and recompute where there is one."""

import base64
import html
import os

import numpy as np

from instab_utils import figures


def explore(frames, labels, *, name, alt="", value=0, live=None, window=None):
    """A slider over precomputed frames; in the built page it needs no kernel, in Jupyter and Colab it can recompute.

    The browser itself links the slider to the frame shown. Frames are lossless and go into the page, so their
    images must be ones that may be handed on.

    Args:
        frames: one a label: what `figures.panels` or `figures.table` returns, an image (n, m) or (1, 1, n, m), or
            the bytes of a PNG. None: `live` is called for every label.
        labels: the slider's positions, numbers or names, shown beside it as text.
        name: what the slider changes, with its unit: "perturbation ||r||/||x|| (%)".
        alt: what the frames show, for readers who cannot see them; mandatory unless each frame carries its own.
        value: index of the frame shown first.
        live: label -> frame. Where a kernel runs, a text field below asks for any other value and shows live(value).
        window: (lo, hi) of frames given as plain images; default the range of all of them together.

    Returns:
        An `ipywidgets.VBox`.
    """
    import ipywidgets

    labels = list(labels)
    frames = [live(label) for label in labels] if frames is None and live is not None else list(frames or [])
    if not labels or len(frames) != len(labels):
        raise ValueError(f"explore() expects one frame a label, at least one; got {len(frames)} frames and "
                         f"{len(labels)} labels. Pass frames=None with live=... to have them computed.")
    texts = [label if isinstance(label, str) else figures._number(label, 3) for label in labels]
    if window is None:
        window = _common_window(frames)
    pages = [_html(_page(frame, f"{name} {text}", alt, window)) for frame, text in zip(frames, texts)]
    slider = ipywidgets.SelectionSlider(
        options=list(zip(texts, range(len(texts)))), value=range(len(texts))[value], description=name,
        style={"description_width": "initial"}, layout={"width": "100%", "max_width": "40rem"})
    stack = ipywidgets.Stack(pages, selected_index=slider.index)
    rows = [ipywidgets.HTML(figures.STYLE, layout={"display": "none"}), slider, stack]
    if live is not None and not os.environ.get("INSTAB_BOOK"):
        rows.insert(2, _any_value(live, labels, stack, lambda frame, text: _page(frame, f"{name} {text}", alt, window)))
    box = ipywidgets.VBox(rows)
    box.link = ipywidgets.jsdlink((slider, "index"), (stack, "selected_index"))
    return box


def compare(before, after, *, titles=("before", "after"), alt="", window=None, caption="") -> figures.Html:
    """Two images of one shape under one grey window, a handle wiping from the first to the second."""
    alt = figures._alt("compare", alt)
    first, second = figures._values(before), figures._values(after)
    if first.shape != second.shape:
        raise ValueError(f"compare() expects two images of one shape; got {first.shape} and {second.shape}.")
    window = window or (float(first.min()), float(first.max()))
    images = [figures._image(figures.grey_levels(x, window), figures.GREY, title)
              for x, title in zip((first, second), titles)]
    left, right = map(html.escape, titles)
    legend = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    move = "this.closest('figure').style.setProperty('--split',this.value+'%')"
    return figures.Html(
        f'<figure class="instab" role="group" aria-label="{html.escape(alt)}" style="--split:50%;'
        f'--side:{2 * figures._side(first.shape[1]) if first.shape[1] < 256 else 512}px"><div class="instab-split">'
        f'<div>{images[0]}</div><div class="instab-after">{images[1]}</div><div class="instab-edge"></div></div>'
        f'<input type="range" value="50" aria-label="wipe from {left} to {right}" oninput="{move}">'
        f'<div class="instab-scale"><span>◂ {left}</span><span>{right} ▸</span>'
        f"{figures._scale(figures.GREY, *window, '')}</div>{legend}</figure>", alt)


def curves_slider(x, families, *, name, x_label, y_label, alt="", value=0, **options):
    """Curves that change with a slider: families is label -> {curve name -> y or (y, lo, hi)}; axes stay fixed.

    Other arguments as in `figures.curves`. Returns a plotly figure.
    """
    import plotly.graph_objects as go

    labels, steps = list(families), []
    plots = [figures.curves(x, families[label], x_label=x_label, y_label=y_label, alt=alt, **options) for label in labels]
    if len({len(plot.data) for plot in plots}) != 1:
        raise ValueError("curves_slider() expects the same curves at every position; got "
                         f"{ {label: list(families[label]) for label in labels} }.")
    chosen = range(len(plots))[value]
    figure = go.Figure(layout=plots[0].layout, data=plots[chosen].data)
    for label, plot in zip(labels, plots):
        data = [trace.to_plotly_json() for trace in plot.data]
        steps.append(dict(method="restyle", label=str(label), args=[{
            "y": [trace["y"] for trace in data], "customdata": [trace.get("customdata") for trace in data]}]))
    if options.get("y_range") is None:  # one range for all positions, so that nothing jumps when the slider moves
        values = np.concatenate([np.ravel(trace.y) for plot in plots for trace in plot.data]).astype(float)
        values = np.log10(values[values > 0]) if options.get("log_y") else values
        lo, hi = np.nanmin(values), np.nanmax(values)
        figure.update_yaxes(range=[lo - 0.05 * (hi - lo), hi + 0.05 * (hi - lo)])
    figure.update_layout(sliders=[dict(active=chosen, steps=steps, currentvalue=dict(prefix=f"{name}: "), pad_t=90)])
    return figure


def _any_value(live, labels, stack, page):
    """A text field that computes and shows the frame of any value; only where a kernel runs."""
    import ipywidgets

    kind = type(labels[0]) if isinstance(labels[0], (int, str)) and not all(isinstance(l, float) for l in labels) else float
    entry = ipywidgets.Text(description="compute", placeholder="any other value", continuous_update=False)
    status = ipywidgets.Label()
    spare = _html()
    stack.children = (*stack.children, spare)

    def compute(change):
        status.value = "computing …"
        try:
            spare.value = page(live(kind(change.new)), change.new)
            stack.selected_index, status.value = len(stack.children) - 1, ""
        except Exception as error:  # shown beside the field: an exception in a callback would vanish into a log
            status.value = f"{type(error).__name__}: {error}"

    entry.observe(compute, "value")
    return ipywidgets.HBox([entry, status])


def _html(body=""):
    import ipywidgets

    return ipywidgets.HTML(body, layout={"width": "100%"})


def _common_window(frames):
    """(lo, hi) over all frames that are plain images, so that moving the slider never changes the grey scale."""
    values = [figures._values(frame) for frame in frames if not isinstance(frame, (figures.Html, bytes))]
    return (min(map(np.min, values)), max(map(np.max, values))) if values else None


def _page(frame, title, alt, window) -> str:
    """The HTML of one frame."""
    if isinstance(frame, figures.Html):
        return frame.body
    if isinstance(frame, bytes):
        text = html.escape(f"{figures._alt('explore', alt)} ({title})")
        return (f'<figure class="instab"><img alt="{text}" src="data:image/png;base64,'
                f'{base64.b64encode(frame).decode()}"></figure>')
    return figures.panels([frame], [title], alt=f"{figures._alt('explore', alt)} ({title})", window=window).body
