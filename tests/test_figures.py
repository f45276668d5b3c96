"""Panels show what they say: decoded pixels against the formula, one window a row, zero in the
middle, no text missing.
"""

import base64
import io
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from instab_utils import figures
from instab_utils.figures import images as panel
from instab_utils.figures import page

pytest.importorskip("PIL", reason="Pillow, which matplotlib brings, encodes the panels")
RAMP = np.linspace(0, 1, 15 * 17).reshape(15, 17)


class Pictures(HTMLParser):
    """Alt text and decoded image of every <img> in the order of the page; fails on a tag that is
    never closed.
    """

    def __init__(self, body: str):
        super().__init__()
        self.alts, self.images, self.open = [], [], []
        self.feed(body)
        assert self.open == [], "tags left open"

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            from PIL import Image

            attributes = dict(attributes)
            kind, data = re.fullmatch(
                r"data:image/(png|jpeg);base64,(.*)", attributes["src"]
            ).groups()
            image = Image.open(io.BytesIO(base64.b64decode(data)))
            assert image.format.lower() == kind
            self.alts.append(attributes["alt"])
            self.images.append(image)
        elif tag != "input":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def pixels(result, k=0) -> np.ndarray:
    return np.asarray(Pictures(result.body).images[k].convert("RGB"))


def levels(result, k=0) -> np.ndarray:
    return np.asarray(Pictures(result.body).images[k])


def test_pixels_are_stored_without_loss():
    x = np.random.default_rng(0).uniform(-0.3, 1.4, (15, 17))
    shown = levels(figures.panels([x], ["x"], alt="noise", window=(-0.1, 1.1)))
    assert np.array_equal(shown, np.rint(255 * np.clip((x + 0.1) / 1.2, 0, 1)))


def test_one_window_for_all_panels_of_a_row():
    low, high = np.full((15, 15), 0.25), np.full((15, 15), 0.75)
    result = figures.panels(
        [RAMP[:, :15], low, high], ["ramp", "low", "high"], alt="greys", window=(0, 1)
    )
    assert set(levels(result, 1).ravel()) == {64} and set(levels(result, 2).ravel()) == {191}
    # Without a window it is the reference's: the same value has the same grey in every panel.
    result = figures.panels([2 * RAMP, RAMP], ["twice", "once"], alt="ramps", error_of=1)
    assert levels(result, 0).max() == 255 and np.array_equal(levels(result, 2), np.rint(255 * RAMP))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: torch.as_tensor(x)[None, None],
        lambda x: torch.as_tensor(x * 1j).conj(),
        lambda x: x * np.exp(0.3j),
        lambda x: torch.as_tensor(x, dtype=torch.float32).requires_grad_(),
        lambda x: x[None],
    ],
)
def test_torch_numpy_and_complex_magnitude_are_the_same_picture(wrap):
    # exact grey levels: no rounding is undecided
    x = np.random.default_rng(2).integers(0, 256, (15, 17)) / 255
    assert np.array_equal(
        levels(figures.panels([wrap(x)], ["x"], alt="noise", window=(0, 1))), np.rint(255 * x)
    )


def test_errors_are_zero_centred_and_share_one_scale():
    off = RAMP.copy()
    off[0, 0] += 0.5
    off[1, 1] -= 0.5
    off[2, 2] += 0.1
    result = figures.panels(
        [RAMP, off, RAMP - 0.5], ["reference", "dots", "shift"], alt="errors", error_of=0
    )
    middle, blue, red = panel.DIVERGING[4], panel.DIVERGING[0], panel.DIVERGING[-1]
    dots = pixels(result, 2)
    assert tuple(dots[5, 5]) == middle and tuple(dots[0, 0]) == red and tuple(dots[1, 1]) == blue
    assert np.array_equal(dots[2, 2], panel._palette(panel.DIVERGING)[127 + 25])  # a fifth of 127
    assert {tuple(c) for c in pixels(result, 4).reshape(-1, 3)} == {blue}
    assert Pictures(result.body).alts == [
        "reference",
        "dots",
        "error of dots",
        "shift",
        "error of shift",
    ]
    assert "−0.5" in result.body and "0.5 error" in result.body


def test_the_error_of_a_complex_image_is_that_of_its_magnitude():
    result = figures.panels([RAMP, RAMP * 1j], ["x", "rotated"], alt="phase only", error_of=0)
    assert {tuple(c) for c in pixels(result, 2).reshape(-1, 3)} == {panel.DIVERGING[4]}


def test_perturbations_are_zero_centred_on_their_own_scale():
    r = np.zeros((15, 17))
    r[3, 4], r[5, 6] = 0.02, -0.01
    result = figures.panels([RAMP, r], ["x", "r"], alt="perturbation", signed=[-1])
    shown = pixels(result, 1)
    assert tuple(shown[0, 0]) == panel.DIVERGING[4] and tuple(shown[3, 4]) == panel.DIVERGING[-1]
    assert "0.02 zero-centred" in result.body


def test_the_palette_is_symmetric_in_lightness():
    """Equal errors of opposite sign look equally strong in grey too: CIE luminance within 15 % of
    the range.
    """
    rgb = panel._palette(panel.DIVERGING) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16
    assert np.abs(lightness - lightness[::-1]).max() < 15
    assert (np.diff(lightness[:128]) > 0).all() and (np.diff(lightness[127:]) < 0).all()


def test_images_that_may_not_be_handed_on_are_not_lossless():
    noise = np.random.default_rng(1).uniform(size=(65, 65))
    result = figures.panels(
        [noise, noise / 2], ["a", "b"], alt="noise", error_of=0, window=(0, 1), lossless=False
    )
    assert {image.format for image in Pictures(result.body).images} == {"JPEG"}
    assert not np.array_equal(levels(result), np.rint(255 * noise))


@pytest.mark.parametrize(
    "draw",
    [
        lambda alt: figures.panels([RAMP], ["x"], alt=alt),
        lambda alt: figures.curves([1, 2], {"a": [1, 2]}, x_label="x", y_label="y", alt=alt),
        lambda alt: figures.bars(["p"], {"a": [1]}, y_label="y", alt=alt),
        lambda alt: figures.table([{"a": 1}], caption=alt),
    ],
)
def test_a_figure_without_description_is_refused(draw):
    with pytest.raises(TypeError, match="one sentence that says what is to be seen"):
        draw(" ")


@pytest.mark.parametrize(
    "images, options, message",
    [
        ([RAMP], dict(captions=["a", "b"]), "1 images, 1 titles, 2 captions"),
        ([np.stack([RAMP, RAMP])], {}, r"got \(2, 15, 17\). Pick one of the batch"),
        ([np.full((3, 3), np.nan)], {}, "9 that are NaN or infinite"),
        ([np.ones((3, 3))], {}, "pass window"),
        ([RAMP], dict(window=(1, 0)), "lo < hi"),
        ([RAMP * 1j], dict(signed=[0]), "expects real values"),
        ([RAMP], dict(error_of=RAMP.T), r"shape \(17, 15\)"),
    ],
)
def test_errors_name_the_cure(images, options, message):
    with pytest.raises(ValueError, match=message):
        figures.panels(images, ["x"], alt="x", **options)


def test_text_is_text_and_not_markup():
    result = figures.panels(
        [RAMP], ["<b>x</b> & y"], alt='say "x" < y', captions=["a < b"], caption="1 < 2"
    )
    assert (
        Pictures(result.body).alts == ['say "x" < y']
        and "<b>" not in result.body
        and "a &lt; b" in result.body
    )


def test_table_reads_like_one():
    rows = [
        {"solver": "FBP", "psnr": -28.123, "n": None},
        {"solver": "TV", "psnr": np.float32(1234.6), "n": 300},
    ]
    result = figures.table(rows, caption="Two solvers")
    Pictures(result.body)
    text = re.sub(r"<[^>]+>", "|", result.body)
    assert re.findall(r"[^|]+", text) == [
        "Two solvers",
        "solver",
        "psnr",
        "n",
        "FBP",
        "−28.1",
        "–",
        "TV",
        "1235",
        "300",
    ]
    pandas = pytest.importorskip("pandas")
    assert figures.table(pandas.DataFrame(rows[1:]), caption="c").body.count("<td") == 3


def test_curves_carry_their_intervals_and_differ_in_more_than_colour():
    pytest.importorskip("plotly")
    x = np.array([1.0, 10, 1000])
    figure = figures.curves(
        x,
        {"a": (x, x / 2, 2 * x), "b": torch.as_tensor(x)},
        x_label="noise (%)",
        y_label="error",
        alt="two lines",
        log_x=True,
        log_y=True,
    )
    band, a, b = figure.data
    assert list(band.x) == [1, 10, 1000, 1000, 10, 1] and list(band.y) == [2, 20, 2000, 500, 5, 0.5]
    assert (
        a.line.dash != b.line.dash
        and a.marker.symbol != b.marker.symbol
        and a.line.color != b.line.color
    )
    assert figure.layout.xaxis.type == "log" and figure.layout.meta["alt"] == "two lines"
    with pytest.raises(ValueError, match="each of 3 values"):
        figures.curves(x, {"a": [1, 2]}, x_label="", y_label="", alt="short")


def test_error_bars_run_from_lo_to_hi():
    pytest.importorskip("plotly")
    (bar,) = figures.bars(
        ["p", "q"], {"a": ([3, 5], [2, 4.5], [6, 5])}, y_label="y", alt="bars"
    ).data
    assert list(bar.error_y.array) == [3, 0] and list(bar.error_y.arrayminus) == [1, 0.5]


def test_every_point_carries_its_name():
    pytest.importorskip("plotly")
    first, second = figures.scatter(
        {"a": {"p": (1, 2), "q": (3, 4)}, "b": {"r": (5, 6)}},
        x_label="x",
        y_label="y",
        alt="points",
    ).data
    assert list(first.x) == [1, 3] and list(first.y) == [2, 4] and list(first.text) == ["p", "q"]
    assert second.name == "b" and first.marker.symbol != second.marker.symbol
    with pytest.raises(TypeError, match="scatter needs alt"):
        figures.scatter({}, x_label="x", y_label="y")


SHOW = """
import plotly.io as pio
from instab_utils import figures
assert pio.renderers.default == "book"
labels = {"x_label": "x", "y_label": "y", "title": "A title"}
figure = figures.curves([1, 2], {"a": [1, 2]}, **labels, alt="a rising line")
bundle = pio.renderers["book"].to_mimebundle(figure.to_dict())
print(bundle["text/html"])
import plotly.graph_objects as go
try:
    pio.renderers["book"].to_mimebundle(go.Figure().to_dict())
except TypeError as error:
    print("REFUSED", error)
"""


def test_the_book_renderer_asks_nobody():
    """In a fresh process, as in the book: the figure is plain HTML for the page's own plotly.js,
    with its description.
    """
    pytest.importorskip("plotly")
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        env={**os.environ, "INSTAB_BOOK": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    text = done.stdout
    assert (
        "Plotly.newPlot" in text and 'aria-label="a rising line"' in text and ">A title</p>" in text
    )
    assert (
        "<script src" not in text
        and "cdn" not in text
        and "https://" not in text.replace('"https://plot.ly"', "")
    )
    assert "REFUSED a plotly figure in the book needs layout.meta" in text


def test_import_needs_neither_plotly_nor_matplotlib_nor_pillow():
    code = (
        "import sys; from instab_utils import figures, widgets; "
        "print({'plotly', 'matplotlib', 'PIL', 'ipywidgets'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={k: v for k, v in os.environ.items() if k != "INSTAB_BOOK"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


def test_a_notebook_shows_style_and_figure():
    result = figures.panels([RAMP], ["x"], alt="ramp")
    assert result._repr_html_() == page.STYLE + result.body and repr(result) == "ramp"
    assert "filter:none!important" in page.STYLE  # the theme dims images in dark mode
