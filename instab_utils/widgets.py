"""Controls that work in the built page without a kernel."""

import html
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from instab_utils.figures import Html, curves, images, page
from instab_utils.figures.images import Image

Window = tuple[float, float]


def explore(
    frames: Sequence[Html],
    labels: Sequence[float | str],
    *,
    name: str,
    value: int = 0,
):
    """Return a slider over precomputed frames; the built page needs no kernel for it.

    Every frame travels inside the page, without loss: use images that may be handed on, and small
    ones (ten frames of three 128 x 128 panels are about half a megabyte).

    Args:
        frames: one a label: what `figures.panels` or `figures.table` returns.
        labels: the slider's positions, numbers or names, shown beside it as text.
        name: what the slider changes, with its unit: "perturbation ‖r‖/‖x‖ (%)".
        value: index of the frame shown first.

    Returns:
        An `ipywidgets.VBox`: show it as the last line of a cell.

    Raises:
        ValueError: not one frame a label.
    """
    import ipywidgets

    labels = list(labels)
    frames = list(frames)
    if not labels or len(frames) != len(labels):
        raise ValueError(
            f"explore() expects one frame a label, at least one; got {len(frames)} frames and "
            f"{len(labels)} labels."
        )
    texts = [label if isinstance(label, str) else page.number(label, 3) for label in labels]
    pages = [ipywidgets.HTML(frame.body, layout={"width": "100%"}) for frame in frames]
    slider = ipywidgets.SelectionSlider(
        options=list(zip(texts, range(len(texts)))),
        value=range(len(texts))[value],
        description=name,
        style={"description_width": "initial"},
        layout={"width": "100%", "max_width": "40rem"},
    )
    # Colab has ipywidgets 7, without Stack: tabs instead, whose bar the style hides
    stack = getattr(ipywidgets, "Stack", ipywidgets.Tab)(pages, selected_index=slider.index)
    rows = [ipywidgets.HTML(page.STYLE, layout={"display": "none"}), slider, stack]
    box = ipywidgets.VBox(rows).add_class("instab-explore")
    # the browser itself links slider and frame
    box.link = ipywidgets.jsdlink((slider, "index"), (stack, "selected_index"))
    return box


def compare(
    before: Image,
    after: Image,
    *,
    titles: tuple[str, str] = ("before", "after"),
    alt: str = "",
    window: Window | None = None,
    caption: str = "",
) -> Html:
    """Return two images of one shape and a handle that wipes from the first to the second.

    Args:
        before, after: images (n, m) or (1, 1, n, m), real or complex.
        titles: their names, left and right.
        alt: what the images show, for readers who cannot see it; mandatory.
        window: (lo, hi) shown as black and white; default the range of the first image.
        caption: one text below them.
    """
    page.described("compare", alt)
    first, second = images.values(before), images.values(after)
    if first.shape != second.shape:
        raise ValueError(
            f"compare() expects two images of one shape; got {first.shape} and {second.shape}."
        )
    window = window or (float(first.min()), float(first.max()))
    n = first.shape[1]
    side = images.side(n) * (2 if images.side(n) <= 256 else 1)
    left, right = (
        images.picture(images.grey_levels(image, window), images.GREY, title, crisp=side > n)
        for image, title in zip((first, second), titles)
    )
    names = [html.escape(title) for title in titles]
    move = "this.closest('figure').style.setProperty('--split',this.value+'%')"
    return page.figure(
        '<div class="instab-wipe"><p class="instab-title">'
        f"<span>{names[0]}</span><span>{names[1]}</span></p>"
        f'<div class="instab-split">{left}<div class="instab-after">{right}</div></div>'
        f'<input type="range" value="50" aria-label="wipe from {names[0]} to {names[1]}" '
        f'oninput="{move}"></div>'
        f'<div class="instab-scale">{images.scale(images.GREY, *window, "")}</div>',
        alt,
        caption,
        style=f"--split:50%;--side:{side}px",
    )


def curves_slider(
    x: ArrayLike,
    families: Mapping[float | str, Mapping[str, ArrayLike | tuple]],
    *,
    name: str,
    value: int = 0,
    **options,
):
    """Return curves that change with a slider while the axes stay fixed, as a plotly figure.

    Args:
        x: (k,) positions.
        families: slider label -> {curve name -> y or (y, lo, hi)}, the same curve names at every
            label.
        name: what the slider changes, with its unit.
        value: index of the label shown first.
        options: as in `figures.curves`, x_label, y_label and alt among them.
    """
    labels = list(families)
    if len({tuple(families[label]) for label in labels}) != 1:
        names = "; ".join(f"{label}: {', '.join(families[label])}" for label in labels)
        raise ValueError(
            f"curves_slider() expects the same curve names at every label; got {names}."
        )
    plots = [curves(x, families[label], **options) for label in labels]
    steps = []
    for label, plot in zip(labels, plots):
        data = {key: [getattr(trace, key) for trace in plot.data] for key in ("y", "customdata")}
        steps.append({"method": "restyle", "label": str(label), "args": [data]})
    active = range(len(plots))[value]
    # one range for all labels, so that nothing jumps when the slider moves
    if options.get("y_range") is None:
        y = np.concatenate([np.ravel(trace.y) for plot in plots for trace in plot.data])
        y = y.astype(float)
        y = np.log10(y[y > 0]) if options.get("log_y") else y
        lo, hi = np.nanmin(y), np.nanmax(y)
        margin = 0.05 * (hi - lo) or 1.0
        plots[active].update_yaxes(range=[lo - margin, hi + margin])
    slider = {
        "active": active,
        "steps": steps,
        "currentvalue": {"prefix": f"{name}: "},
        "pad": {"t": 50, "b": 10},
        "bgcolor": "#d0d7de",
        "activebgcolor": "#0072B2",
        "bordercolor": "#0072B2",
    }
    return plots[active].update_layout(sliders=[slider])
