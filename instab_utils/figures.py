"""Figures that need no kernel: lossless image panels as HTML, curves and bars in plotly, tables.

Every image of a row is seen through one grey window, every error map is zero-centred, every figure carries a text
for readers who cannot see it. Nothing here knows a model or an operator: arrays in, a displayable object out.
"""

import base64
import hashlib
import html
import io
import itertools
import math
import os
import textwrap

import numpy as np

GREY = ((0, 0, 0), (255, 255, 255))
# Blue, near-white, red of matched lightness: read alike by the common forms of colour blindness.
DIVERGING = ((11, 50, 97), (42, 113, 178), (122, 182, 214), (205, 226, 239), (247, 247, 247),
             (251, 211, 188), (239, 138, 98), (190, 42, 52), (103, 0, 31))
# Okabe and Ito's palette without its yellow, which is too faint for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "triangle-down", "star")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

# Captions follow the page's light or dark text; the images themselves are never filtered, padded or tinted.
STYLE = """<style>
.instab{container-type:inline-size;width:100%;margin:.5rem 0 1rem!important;line-height:1.4;font-size:.9rem;
 color:inherit;text-align:left}
.instab-grid{display:grid;grid-template-columns:repeat(var(--columns),minmax(0,var(--side)));gap:0 .75rem;
 justify-content:center}
@container (max-width:30rem){.instab-grid{grid-template-columns:repeat(var(--narrow),minmax(0,var(--side)))}}
.instab-panel{display:grid;grid-row:span var(--parts);grid-template-rows:subgrid;align-items:start;
 margin-bottom:.75rem;min-width:0}
.instab p{margin:.1rem 0 .25rem;line-height:1.35}
.instab .instab-title{font-weight:600;align-self:end}
.instab-note,.instab-scale{font-size:.85em;opacity:.85;font-variant-numeric:tabular-nums}
.instab-image{position:relative;line-height:0;margin-bottom:.35rem}
.instab img,html[data-theme] .bd-content div.cell_output .instab img{display:block;width:100%;max-width:100%;
 height:auto;margin:0;padding:0;border-radius:0;background:none;filter:none!important}
.instab img.instab-crisp{image-rendering:pixelated}
.instab-box,.instab .instab-inset{position:absolute;box-sizing:border-box;outline:2px solid #f5a700}
.instab-scale{display:flex;flex-wrap:wrap;justify-content:center;gap:.25rem 1.5rem}
.instab-scale span{white-space:nowrap}
.instab-scale i{display:inline-block;width:7rem;height:.7em;margin:0 .45em;vertical-align:-.05em;
 box-shadow:0 0 0 1px #8888}
.instab>figcaption{margin:.5rem auto 0;max-width:44rem;font-style:normal;text-align:left;
 color:inherit;opacity:.9}
.instab-card{background:#fff;color:#1b1f24;border:1px solid #8884;border-radius:.4rem;overflow:hidden}
.instab-table{overflow-x:auto}
.instab table{border-collapse:collapse;margin:0 auto;color:inherit;background:none;font-variant-numeric:tabular-nums}
.instab caption{caption-side:top;text-align:left;font-weight:600;color:inherit;padding:.2rem .7rem}
.instab th,.instab td{padding:.25rem .7rem;border:0;border-bottom:1px solid #8885;text-align:right;color:inherit;
 background:none;font-size:inherit}
.instab th{font-weight:600}.instab .instab-text{text-align:left}
.instab-split{position:relative;display:grid;max-width:100%;width:var(--side);margin:0 auto}
.instab-split>*{grid-area:1/1}.instab-split>.instab-after{clip-path:inset(0 0 0 var(--split))}
.instab-split>.instab-edge{width:2px;background:#f5a700;position:absolute;top:0;bottom:0;left:calc(var(--split) - 1px)}
.instab input[type=range]{width:min(100%,var(--side));display:block;margin:.4rem auto;accent-color:#0072B2}
html[data-theme=dark] .bd-content div.cell_output :is(.text_html,.widget-subarea):has(.instab){background:none;
 color:inherit;padding:0}
html[data-theme=dark] .widget-subarea:has(.instab) :is(.widget-label,.widget-readout,.widget-html-content){
 color:var(--pst-color-text-base)}
.widget-html-content:has(>.instab){width:100%}
</style>"""


class Html:
    """A figure made of HTML: shows itself as a cell's last line or by `display(...)`; prints as its description."""

    def __init__(self, body: str, alt: str):
        self.body, self.alt = body, alt

    def _repr_html_(self) -> str:
        return STYLE + self.body

    def __repr__(self) -> str:
        return self.alt


def grey_levels(image, window: tuple[float, float]) -> np.ndarray:
    """round(255 clip((x - lo)/(hi - lo), 0, 1)) as uint8 (n, m): what a panel's lossless PNG holds."""
    lo, hi = window
    return np.rint(255 * np.clip((_values(image) - lo) / (hi - lo), 0, 1)).astype(np.uint8)


def signed_levels(image, limit: float) -> np.ndarray:
    """round(127 clip(e / limit, -1, 1)) + 127 as uint8: 0 is level 127 of 255, the middle of the palette, exactly."""
    return np.rint(127 * np.clip(_values(image, signed=True) / limit, -1, 1) + 127).astype(np.uint8)


def panels(images, titles, *, alt="", window=None, error_of=None, error_limit=None, signed=(), signed_limit=None,
           captions=None, caption="", zoom=None, columns=None, unit="", lossless=True) -> Html:
    """Images side by side through one grey window, each pixel stored losslessly; errors below, zero-centred.

    Args:
        images: real or complex (n, m) or (1, 1, n, m), torch or numpy; complex images are shown as magnitude.
        titles: one short title an image.
        alt: what the figure shows, for readers who cannot see it (mandatory), or a list with one text an image.
        window: (lo, hi) shown as black and white; default the range of the reference, else of the first image.
        error_of: the reference, as an image or an index into `images`: adds |image| - |reference| under each image.
        error_limit: errors of -limit..limit span the colours; default the largest error of the row.
        signed: indices of images that are differences themselves (perturbations): zero-centred, own scale.
        signed_limit: the same as `error_limit` for those.
        captions: one line under each image, such as "31.2 dB"; `caption`: one text for the whole figure.
        zoom: (row, column, size) in pixels: a square magnified in the corner farthest from it.
        columns: images in a row on a wide page, default at most 4; at most 2 on a telephone.
        unit: what the grey scale measures, written beside it.
        lossless: False stores JPEG, for images that may be printed but whose values may not be handed on.

    Raises:
        TypeError: no `alt`. ValueError: unequal lengths or shapes, non-finite pixels, an empty window.
    """
    images, titles = list(images), list(titles)
    captions = [""] * len(images) if captions is None else list(captions)
    alts = [_alt("panels", text) for text in ([alt] if isinstance(alt, str) else alt)]
    if not len(images) == len(titles) == len(captions) or len(alts) not in (1, len(images)):
        raise ValueError(f"panels() expects one title, caption and alt text an image; got {len(images)} images, "
                         f"{len(titles)} titles, {len(captions)} captions, {len(alts)} alt texts.")
    signed = {range(len(images))[i] for i in signed}
    itself = range(len(images))[error_of] if isinstance(error_of, int) else None
    reference = images[itself] if itself is not None else error_of
    plain = [i for i in range(len(images)) if i not in signed]
    if window is None and plain:
        shown = _values(images[plain[0]] if reference is None else reference)
        window = float(shown.min()), float(shown.max())
    if window is not None and not window[0] < window[1]:
        raise ValueError(f"panels() expects window=(lo, hi) with lo < hi; got {window}. A constant image has no range "
                         "of its own: pass window=(0, 1).")
    errors = {i: _values(images[i]) - _values(reference) for i in plain if reference is not None and i != itself}
    error_limit = error_limit or max((np.abs(e).max() for e in errors.values()), default=0) or 1.0
    signed_limit = signed_limit or max((np.abs(_values(images[i], True)).max() for i in signed), default=0) or 1.0

    cells = []
    for i, (image, title, note) in enumerate(zip(images, titles, captions)):
        text = alts[i] if len(alts) > 1 else alt if len(images) == 1 else " ".join(filter(None, (title, note)))
        levels = signed_levels(image, signed_limit) if i in signed else grey_levels(image, window)
        parts = [f'<p class="instab-title">{html.escape(title)}</p>',
                 _image(levels, DIVERGING if i in signed else GREY, text, zoom, lossless),
                 f'<p class="instab-note">{html.escape(note)}</p>']
        if i in errors:
            parts += [_image(signed_levels(errors[i], error_limit), DIVERGING, f"error of {text}", zoom, lossless)]
        cells.append(f'<div class="instab-panel">{"".join(parts)}</div>')
    scales = [_scale(GREY, *window, unit)] if plain else []
    scales += [_scale(DIVERGING, -signed_limit, signed_limit, "zero-centred")] if signed else []
    scales += [_scale(DIVERGING, -error_limit, error_limit, "error")] if errors else []
    columns = columns or math.ceil(len(images) / math.ceil(len(images) / 4))
    grid = (f"--columns:{columns};--narrow:{min(columns, 2)};--parts:{4 if errors else 3};"
            f"--side:{max(_side(np.shape(image)[-1]) for image in images)}px")
    legend = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    label = html.escape(" ".join(alts))
    return Html(f'<figure class="instab" role="group" aria-label="{label}"><div class="instab-grid" style="{grid}">'
                f'{"".join(cells)}</div><div class="instab-scale">{"".join(scales)}</div>{legend}</figure>', " ".join(alts))


def curves(x, series, *, x_label, y_label, alt="", title="", log_x=False, log_y=False, markers=True, y_range=None,
           height=400):
    """Curves over x with their intervals: a plotly figure, colour, dash and marker different for each curve.

    Args:
        x: (k,) positions or names.
        series: name -> y (k,), or (y, lo, hi) where lo..hi is the interval drawn as a band.
        x_label, y_label: quantity and unit, such as "noise level (% of max)". Unicode and <sub>, no LaTeX.
        alt: what the figure shows, for readers who cannot see it; mandatory.

    Returns:
        `plotly.graph_objects.Figure`; `.add_hline`, `.add_annotation` and so on work as usual.
    """
    figure = _plot(_alt("curves", alt), title, x_label, y_label, log_x, log_y, y_range, height)
    x = _vector(x)
    for k, (name, values) in enumerate(series.items()):
        y, lo, hi = _interval("curves", name, values, len(x))
        colour, hover = COLOURS[k % len(COLOURS)], "%{y:.4g}"
        if lo is not None:
            figure.add_scatter(x=np.concatenate([x, x[::-1]]), y=np.concatenate([hi, lo[::-1]]), fill="toself",
                               fillcolor=_faded(colour), line_width=0, mode="lines", legendgroup=name,
                               showlegend=False, hoverinfo="skip")
            hover += " [%{customdata[0]:.4g}, %{customdata[1]:.4g}]"
        figure.add_scatter(x=x, y=y, name=name, legendgroup=name, mode="lines+markers" if markers else "lines",
                           line=dict(color=colour, width=2.2, dash=DASHES[k % len(DASHES)]),
                           marker=dict(symbol=SYMBOLS[k % len(SYMBOLS)], size=8, color=colour),
                           customdata=None if lo is None else np.stack([lo, hi], -1), hovertemplate=hover)
    return figure


def bars(names, series, *, y_label, x_label="", alt="", title="", log_y=False, y_range=None, height=400):
    """Grouped bars: series name -> heights (k,), or (heights, lo, hi) with lo..hi drawn as an error bar."""
    figure = _plot(_alt("bars", alt), title, x_label, y_label, False, log_y, y_range, height)
    for k, (name, values) in enumerate(series.items()):
        y, lo, hi = _interval("bars", name, values, len(names))
        error = None if lo is None else dict(array=hi - y, arrayminus=y - lo, thickness=1.5, color="#333")
        figure.add_bar(x=list(names), y=y, name=name, error_y=error, hovertemplate="%{y:.4g}",
                       marker=dict(color=COLOURS[k % len(COLOURS)], pattern_shape=("", "/", ".", "x", "-", "+", "|")[k % 7],
                                   pattern_solidity=.25))
    return figure.update_layout(barmode="group", hovermode="closest", xaxis_type="category")


def table(rows, *, caption, digits=3) -> Html:
    """A plain HTML table with a caption and column headings; numbers to `digits` significant digits, right-aligned.

    Args:
        rows: list of dicts with the same keys, or a pandas DataFrame. caption: what the table says; mandatory.
    """
    caption = _alt("table", caption, "caption")
    rows = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
    heads = list(dict.fromkeys(key for row in rows for key in row))
    number = {h: all(isinstance(row.get(h), (int, float, np.number, type(None))) for row in rows) for h in heads}

    def line(cells, tag):
        return "<tr>" + "".join(f'<{tag}{"" if number[h] else " class=instab-text"}{" scope=col" if tag == "th" else ""}>'
                                f"{html.escape(text)}</{tag}>" for h, text in zip(heads, cells)) + "</tr>"

    body = "".join(line((_number(row.get(h), digits) for h in heads), "td") for row in rows)
    return Html(f'<figure class="instab"><div class="instab-table" tabindex="0"><table><caption>{html.escape(caption)}'
                f"</caption><thead>{line(map(str, heads), 'th')}</thead><tbody>{body}</tbody></table></div></figure>", caption)


def register_book_renderer() -> None:
    """Make plotly write bare HTML that draws with the page's own plotly.js: no address, no second MathJax.

    The default renderer's output is dropped by the book, the other built-in ones load scripts from elsewhere.
    Done on import where INSTAB_BOOK is set.
    """
    import plotly.io as pio
    from plotly.io._base_renderers import MimetypeRenderer  # private: the plotly version is pinned

    count = itertools.count()

    class BookRenderer(MimetypeRenderer):
        def to_mimebundle(self, fig_dict):
            layout = fig_dict["layout"]
            alt = _alt("a figure in the book", (layout.get("meta") or {}).get("alt", ""), "meta={'alt': ...} in its layout")
            body = pio.to_html(fig_dict, include_plotlyjs=False, include_mathjax=False, full_html=False,
                               default_width="100%", default_height=400, auto_play=False, validate=False,
                               config={"responsive": True, "displaylogo": False, "displayModeBar": "hover"},
                               div_id=f"plot-{next(count)}-{hashlib.sha256(repr(fig_dict).encode()).hexdigest()[:10]}")
            return {"text/html": f'{STYLE}<figure class="instab" role="group" aria-label="{html.escape(alt)}">'
                                 f'<div class="instab-card">{body}</div></figure>'}

    pio.renderers["book"] = BookRenderer()
    pio.renderers.default = "book"


def _values(image, signed: bool = False) -> np.ndarray:
    """The image as a float array (n, m): complex by magnitude, batch and channel axes of length 1 dropped."""
    array = image.detach().cpu().resolve_conj().numpy() if hasattr(image, "detach") else np.asarray(image)
    if array.ndim < 2 or any(side != 1 for side in array.shape[:-2]):
        raise ValueError(f"a panel expects one image of shape (n, m) or (1, 1, n, m); got {array.shape}. "
                         "Pick one of the batch: images[k].")
    if np.iscomplexobj(array) and signed:
        raise ValueError("a zero-centred panel expects real values; got a complex image. Show its magnitude without "
                         "`signed`, or pass its real part.")
    array = np.abs(array) if np.iscomplexobj(array) else array.astype(float)
    if not np.isfinite(array).all():
        raise ValueError(f"a panel expects finite pixels; got {np.sum(~np.isfinite(array))} that are NaN or infinite. "
                         "Say in the text that the method diverged, and leave the panel out.")
    return array.reshape(array.shape[-2:]).astype(float)


def _palette(anchors, n: int = 255) -> np.ndarray:
    """(n, 3) uint8, linear between equally spaced anchor colours; n is odd, so that the middle anchor is hit."""
    at = np.linspace(0, 1, len(anchors))
    return np.rint(np.stack([np.interp(np.linspace(0, 1, n), at, c) for c in np.transpose(anchors)], 1)).astype(np.uint8)


def _encode(levels: np.ndarray, colours, lossless: bool = True) -> str:
    """The levels as a data address: 8-bit grey or 255-colour palette PNG, or JPEG where `lossless` is False."""
    from PIL import Image

    picture = Image.frombytes("L" if colours is GREY else "P", levels.shape[::-1], levels.tobytes())
    if colours is not GREY:
        picture.putpalette(_palette(colours).tobytes())
    stream, kind = io.BytesIO(), "png" if lossless else "jpeg"
    if lossless:
        picture.save(stream, "PNG", optimize=True)
    else:
        picture.convert("L" if colours is GREY else "RGB").save(stream, "JPEG", quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _side(n: int) -> int:
    """Widest a panel of n pixels is drawn: a whole multiple of n where that is below 224, at most 512."""
    return min(n * math.ceil(224 / n), 512)


def _image(levels, colours, alt, zoom=None, lossless=True) -> str:
    """One picture, with the magnified square of `zoom` in the corner farthest from it."""
    rows, cols = levels.shape
    # Enlarged pixels stay squares; an image near its own size is left to the browser's smoother, which drops no pixel.
    crisp = ' class="instab-crisp"' if cols < 192 else ""
    picture = (f'<img{crisp} alt="{html.escape(alt)}" width="{cols}" height="{rows}" '
               f'src="{_encode(levels, colours, lossless)}">')
    if zoom is not None:
        top, left, size = zoom
        if not (0 <= top and 0 <= left and 0 < size and top + size <= rows and left + size <= cols):
            raise ValueError(f"zoom expects (row, column, size) inside the {rows} x {cols} image; got {zoom}.")
        across = "right" if left + size / 2 < cols / 2 else "left"
        down = "bottom" if top + size / 2 < rows / 2 else "top"
        crop = levels[top:top + size, left:left + size]
        picture += (f'<span class="instab-box" style="left:{100 * left / cols:.3f}%;top:{100 * top / rows:.3f}%;'
                    f'width:{100 * size / cols:.3f}%;height:{100 * size / rows:.3f}%"></span>'
                    f'<img class="instab-inset instab-crisp" alt="" style="width:42%;{across}:0;{down}:0" '
                    f'src="{_encode(crop, colours, lossless)}">')
    return f'<div class="instab-image">{picture}</div>'


def _scale(colours, lo, hi, name) -> str:
    """A colour bar with its ends in numbers."""
    stops = ",".join("rgb({},{},{})".format(*c) for c in colours)
    name = f" {html.escape(name)}" if name else ""
    return (f'<span>{_number(lo, 3)}<i style="background:linear-gradient(90deg,{stops})"></i>'
            f"{_number(hi, 3)}{name}</span>")


def _plot(alt, title, x_label, y_label, log_x, log_y, y_range, height):
    """An empty plotly figure in the house style: white card, one font, thin grid, legend above, description inside."""
    import plotly.graph_objects as go

    axis = dict(showline=True, linecolor="#555", ticks="outside", tickcolor="#555", gridcolor="#e6e8eb", zeroline=False,
                automargin=True, title_standoff=8)
    log = dict(type="log", exponentformat="power", minor=dict(ticks="outside", ticklen=3, tickcolor="#999"))
    y_range = [math.log10(v) for v in y_range] if log_y and y_range is not None else y_range
    title = "<br>".join(textwrap.wrap(title, 46))
    lines = title.count("<br>") + 1 if title else 0
    return go.Figure(layout=dict(
        template="none", paper_bgcolor="white", plot_bgcolor="white", font=dict(family=FONT, size=14, color="#1b1f24"),
        title=dict(text=title, x=0, xref="paper", font_size=16, y=1, yref="container", yanchor="top", pad_t=14),
        margin=dict(l=60, r=20, t=24 + 20 * lines, b=50), height=height, hovermode="x unified", meta={"alt": alt},
        legend=dict(orientation="h", x=0, y=-0.2, yanchor="top", font_size=13, bgcolor="rgba(0,0,0,0)"),
        xaxis=dict(axis, title_text=x_label, **(log if log_x else {})),
        yaxis=dict(axis, title_text=y_label, range=y_range, **(log if log_y else {}))))


def _interval(function, name, values, n):
    """(y, lo, hi) as arrays; lo and hi None where only y is given."""
    parts = [_vector(v) for v in values] if isinstance(values, tuple) else [_vector(values), None, None]
    if len(parts) != 3 or any(p is not None and p.shape != (n,) for p in parts):
        raise ValueError(f"{function}() expects series {name!r} as y or a tuple (y, lo, hi), each of {n} values; "
                         f"got {[None if p is None else p.shape for p in parts]}.")
    return parts


def _vector(values) -> np.ndarray:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _faded(colour: str) -> str:
    return "rgba({},{},{},0.16)".format(*(int(colour[i:i + 2], 16) for i in (1, 3, 5)))


def _number(value, digits: int) -> str:
    """The value as text: numbers to `digits` significant digits with a true minus sign, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, (float, np.floating)):
        value = f"{value:.{digits}g}" if abs(value) < 10**digits or not math.isfinite(value) else f"{value:.0f}"
    return str(value).replace("-", "−", 1) if str(value).startswith("-") else str(value)


def _alt(function: str, text, argument: str = "alt") -> str:
    if not isinstance(text, str) or not text.strip():
        raise TypeError(f"{function} needs {argument}: one sentence that says what is to be seen, for readers who cannot "
                        f"see it; got {text!r}.")
    return text


if os.environ.get("INSTAB_BOOK"):
    register_book_renderer()
