"""Controls keep working when no kernel is there: what the browser is given, decoded; the live part,
called.
"""

import base64
import io
import json
import re

import numpy as np
import pytest

from instab_utils import figures, widgets

ipywidgets = pytest.importorskip("ipywidgets")
pytest.importorskip("PIL")
RAMP = np.linspace(0, 1, 15 * 15).reshape(15, 15)


@pytest.fixture(autouse=True)
def reader(monkeypatch):
    """As a reader has it: not inside the build of the book."""
    monkeypatch.delenv("INSTAB_BOOK", raising=False)


def tree(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from tree(child)


def the(box, kind):
    found = [widget for widget in tree(box) if type(widget) is kind]
    assert len(found) == 1
    return found[0]


def python_callbacks(box) -> list:
    """Observers that were added to the widgets of a box by others than ipywidgets itself."""

    def own(observer):
        return (
            "ipywidgets" in (getattr(observer, "__module__", None) or type(observer).__module__)
            or "traitlets" in type(observer).__module__
        )

    return [
        observer
        for widget in tree(box)
        for kinds in widget._trait_notifiers.values()
        for observers in kinds.values()
        for observer in observers
        if not own(observer)
    ]


def levels(html: str) -> np.ndarray:
    from PIL import Image

    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", html).group(1))))
    )


def ramp(factor):
    return figures.panels([factor * RAMP], ["x"], alt="a ramp", window=(0, 1))


def test_the_browser_links_slider_and_frame():
    frames = [ramp(factor) for factor in (1, 0.5, 0.25)]
    box = widgets.explore(frames, [0, 0.5, 2.25], name="strength (%)", value=1)
    slider, stack = the(box, ipywidgets.SelectionSlider), the(box, ipywidgets.Stack)
    assert box.link.source == (slider, "index") and box.link.target == (stack, "selected_index")
    assert isinstance(box.link, ipywidgets.widgets.widget_link.DirectionalLink)
    assert stack.selected_index == slider.index == 1 and len(stack.children) == 3
    assert slider.description == "strength (%)" and [label for label, _ in slider.options] == [
        "0",
        "0.5",
        "2.25",
    ]
    assert python_callbacks(box) == []


def test_ipywidgets_7_links_tabs(monkeypatch):
    """Colab's version has no Stack."""
    monkeypatch.delattr(ipywidgets, "Stack")
    box = widgets.explore([ramp(1), ramp(0.5)], ["a", "b"], name="n", value=1)
    stack = the(box, ipywidgets.Tab)
    assert box.link.target == (stack, "selected_index") and stack.selected_index == 1


def test_figures_are_frames():
    figure = ramp(1)
    box = widgets.explore([figure, ramp(0.5)], ["a", "b"], name="n")
    first, second = the(box, ipywidgets.Stack).children
    assert first.value == figure.body
    assert np.array_equal(levels(second.value), np.rint(255 * RAMP / 2))
    with pytest.raises(ValueError, match="1 frames and 2 labels"):
        widgets.explore([figure], ["a", "b"], name="n")


def test_a_slider_stays_small():
    """Ten frames of three noisy 128 x 128 panels: below 700 kB of widget state, as it is written
    into the page.
    """
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    head = np.where(x**2 + y**2 < 0.7, 0.5 + 0.3 * np.sin(5 * x) * np.cos(4 * y), 0)

    def frame(k):
        noisy = head + (x**2 + y**2 < 0.7) * 0.02 * rng.standard_normal(x.shape)
        return figures.panels(
            [head, noisy, np.roll(noisy, k, 0)], ["a", "b", "c"], alt="three", window=(0, 1)
        )

    box = widgets.explore([frame(k) for k in range(10)], list(range(10)), name="k")
    state = ipywidgets.Widget.get_manager_state(widgets=list(tree(box)))
    assert len(json.dumps(state)) < 700_000


def test_compare_holds_both_images_under_one_window():
    result = widgets.compare(RAMP, RAMP / 2, titles=("a", "b"), alt="two ramps")
    first, second = result.body.split("instab-after")
    assert np.array_equal(levels(first), np.rint(255 * RAMP)) and np.array_equal(
        levels(second), np.rint(255 * RAMP / 2)
    )
    assert 'type="range"' in result.body and 'aria-label="wipe from a to b"' in result.body
    assert "<script" not in result.body
    with pytest.raises(ValueError, match="one shape"):
        widgets.compare(RAMP, RAMP[1:], alt="x")
    with pytest.raises(TypeError, match="compare needs alt"):
        widgets.compare(RAMP, RAMP)


def test_the_slider_of_curves_restyles_and_keeps_the_axes():
    pytest.importorskip("plotly")
    t = np.array([1.0, 2, 3])
    figure = widgets.curves_slider(
        t,
        {k: {"a": (k * t, t, 9 * t), "b": t + k} for k in (1, 5)},
        name="k",
        x_label="t (s)",
        y_label="y",
        alt="curves",
        value=-1,
    )
    (slider,) = figure.layout.sliders
    assert slider.active == 1 and [step.label for step in slider.steps] == ["1", "5"]
    assert {step.method for step in slider.steps} == {"restyle"}
    assert np.array_equal(slider.steps[0].args[0]["y"][1], t) and np.array_equal(
        figure.data[1].y, 5 * t
    )
    lo, hi = figure.layout.yaxis.range
    assert lo < 1 and hi > 27
    with pytest.raises(ValueError, match="same curve names"):
        widgets.curves_slider(
            t, {1: {"a": t}, 2: {"b": t}}, name="k", x_label="", y_label="", alt="x"
        )
