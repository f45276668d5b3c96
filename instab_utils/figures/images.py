"""Image panels as HTML: every pixel stored losslessly, one grey window a row, errors zero-centred."""

import base64
import html
import io
import math

import numpy as np

from instab_utils.figures.page import Html, described, figure, number

GREY = ((0, 0, 0), (255, 255, 255))
# Blue, near-white, red of matched lightness: read alike by the common forms of colour blindness.
DIVERGING = (
    (11, 50, 97),
    (42, 113, 178),
    (122, 182, 214),
    (205, 226, 239),
    (247, 247, 247),
    (251, 211, 188),
    (239, 138, 98),
    (190, 42, 52),
    (103, 0, 31),
)


def panels(
    images,
    titles,
    *,
    alt="",
    window=None,
    error_of=None,
    error_limit=None,
    signed=(),
    signed_limit=None,
    captions=None,
    caption="",
    zoom=None,
    columns=None,
    unit="",
    lossless=True,
) -> Html:
    """Images side by side through one grey window, each pixel stored losslessly; errors below,
    zero-centred.

    Args:
        images: real or complex (n, m) or (1, 1, n, m), torch or numpy; complex images are shown as
            magnitude.
        titles: one short title an image.
        alt: what the figure shows, for readers who cannot see it (mandatory), or a list with one
            text an image.
        window: (lo, hi) shown as black and white; default the range of the reference, else of the
            first image.
        error_of: the reference, as an image or an index into `images`: adds |image| - |reference|
            under each image.
        error_limit: errors of -limit..limit span the colours; default the largest error of the row.
        signed: indices of images that are differences themselves (perturbations): zero-centred, own
            scale.
        signed_limit: the same as `error_limit` for those.
        captions: one line under each image, such as "31.2 dB"; `caption`: one text for the whole
            figure.
        zoom: (row, column, size) in pixels: a square magnified in the corner farthest from it.
        columns: images in a row on a wide page, default at most 4; at most 2 on a telephone.
        unit: what the grey scale measures, written beside it.
        lossless: False stores JPEG, for images that may be printed but whose values may not be
            handed on.

    Raises:
        TypeError: no `alt`. ValueError: unequal lengths or shapes, non-finite pixels, an empty
            window.
    """
    images, titles = list(images), list(titles)
    captions = [""] * len(images) if captions is None else list(captions)
    alts = [described("panels", text) for text in ([alt] if isinstance(alt, str) else alt)]
    if not len(images) == len(titles) == len(captions) or len(alts) not in (1, len(images)):
        raise ValueError(
            f"panels() expects one title, caption and alt text an image; got {len(images)} images, "
            f"{len(titles)} titles, {len(captions)} captions, {len(alts)} alt texts."
        )
    signed = {range(len(images))[i] for i in signed}
    itself = range(len(images))[error_of] if isinstance(error_of, (int, np.integer)) else None
    reference = images[itself] if itself is not None else error_of
    plain = [i for i in range(len(images)) if i not in signed]
    if window is None and plain:
        shown = values(images[plain[0]] if reference is None else reference)
        window = float(shown.min()), float(shown.max())
    if window is not None and not window[0] < window[1]:
        raise ValueError(
            f"panels() expects window=(lo, hi) with lo < hi; got {window}. A constant image has no range "
            "of its own: pass window=(0, 1)."
        )
    errors = {
        i: _difference(images[i], reference) for i in plain if reference is not None and i != itself
    }
    error_limit = error_limit or max((np.abs(e).max() for e in errors.values()), default=0) or 1.0
    signed_limit = (
        signed_limit
        or max((np.abs(values(images[i], True)).max() for i in signed), default=0)
        or 1.0
    )

    cells = []
    for i, (image, title, note) in enumerate(zip(images, titles, captions)):
        text = (
            alts[i]
            if len(alts) > 1
            else alt
            if len(images) == 1
            else " ".join(filter(None, (title, note)))
        )
        levels, colours = (
            (signed_levels(image, signed_limit), DIVERGING)
            if i in signed
            else (grey_levels(image, window), GREY)
        )
        below = (
            picture(
                signed_levels(errors[i], error_limit),
                DIVERGING,
                f"error of {text}",
                zoom,
                lossless,
                kind="instab-error",
            )
            if i in errors
            else ""
        )
        cells.append(
            f'<div class="instab-panel"><p class="instab-title">{html.escape(title)}</p>'
            f"{picture(levels, colours, text, zoom, lossless)}"
            f'<p class="instab-note">{html.escape(note)}</p>{below}</div>'
        )
    scales = [scale(GREY, *window, unit)] if plain else []
    scales += [scale(DIVERGING, -signed_limit, signed_limit, "zero-centred")] if signed else []
    scales += [scale(DIVERGING, -error_limit, error_limit, "error")] if errors else []
    columns = columns or math.ceil(len(images) / math.ceil(len(images) / 4))
    # on a telephone an error stands beside its image
    narrow, rows = (1, 4) if errors else (min(columns, 2), 3)
    width = max(side(np.shape(image)[-1]) for image in images)
    return figure(
        f'<div class="instab-grid{" instab-errors" if errors else ""}" style="--columns:{columns};'
        f'--narrow:{narrow};--rows:{rows};--side:{width}px">{"".join(cells)}</div>'
        f'<div class="instab-scale">{"".join(scales)}</div>',
        " ".join(alts),
        caption,
    )


def grey_levels(image, window: tuple[float, float]) -> np.ndarray:
    """round(255 clip((x - lo)/(hi - lo), 0, 1)) as uint8 (n, m): what a panel's lossless PNG holds."""
    lo, hi = window
    return np.rint(255 * np.clip((values(image) - lo) / (hi - lo), 0, 1)).astype(np.uint8)


def signed_levels(image, limit: float) -> np.ndarray:
    """round(127 clip(e / limit, -1, 1)) + 127 as uint8: 0 is level 127 of 255, the middle of the
    palette, exactly.
    """
    return np.rint(127 * np.clip(values(image, signed=True) / limit, -1, 1) + 127).astype(np.uint8)


def values(image, signed: bool = False) -> np.ndarray:
    """The image as a float array (n, m): complex by magnitude, batch and channel axes of length 1
    dropped.
    """
    array = (
        image.detach().cpu().resolve_conj().resolve_neg().numpy()
        if hasattr(image, "detach")
        else np.asarray(image)
    )
    if array.ndim < 2 or any(length != 1 for length in array.shape[:-2]):
        raise ValueError(
            f"a panel expects one image of shape (n, m) or (1, 1, n, m); got {array.shape}. "
            "Pick one of the batch: images[k]."
        )
    if np.iscomplexobj(array) and signed:
        raise ValueError(
            "a zero-centred panel expects real values; got a complex image. Show its magnitude without "
            "`signed`, or pass its real part."
        )
    array = np.abs(array) if np.iscomplexobj(array) else array.astype(float)
    if not np.isfinite(array).all():
        raise ValueError(
            f"a panel expects finite pixels; got {np.sum(~np.isfinite(array))} that are NaN or infinite. "
            "Say in the text that the method diverged, and leave the panel out."
        )
    return array.reshape(array.shape[-2:]).astype(float)


def _difference(image, reference) -> np.ndarray:
    image, reference = values(image), values(reference)
    if image.shape != reference.shape:
        raise ValueError(
            f"panels() expects images of the reference's shape {reference.shape} to show their errors; "
            f"got {image.shape}."
        )
    return image - reference


def _palette(anchors, n: int = 255) -> np.ndarray:
    """(n, 3) uint8, linear between equally spaced anchor colours; n is odd, so that the middle
    anchor is hit.
    """
    at, stops = np.linspace(0, 1, n), np.linspace(0, 1, len(anchors))
    return np.rint(np.stack([np.interp(at, stops, c) for c in np.transpose(anchors)], 1)).astype(
        np.uint8
    )


def encode(levels: np.ndarray, colours, lossless: bool = True) -> str:
    """The levels as a data address: 8-bit grey or 255-colour palette PNG, or JPEG where `lossless`
    is False.
    """
    from PIL import Image

    image = Image.frombytes("L" if colours is GREY else "P", levels.shape[::-1], levels.tobytes())
    if colours is not GREY:
        image.putpalette(_palette(colours).tobytes())
    stream, kind = io.BytesIO(), "png" if lossless else "jpeg"
    if lossless:
        image.save(stream, "PNG", optimize=True)
    else:
        image.convert("L" if colours is GREY else "RGB").save(stream, "JPEG", quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def side(n: int) -> int:
    """Widest a panel of n pixels is drawn: a whole multiple of n where that is below 224, at most
    512.
    """
    return min(n * math.ceil(224 / n), 512)


def picture(levels, colours, alt, zoom=None, lossless=True, kind="", crisp=None) -> str:
    """One picture, with the magnified square of `zoom` in the corner farthest from it."""
    rows, cols = levels.shape
    # Enlarged pixels stay squares; an image near its own size is left to the browser's smoother,
    # which drops no pixel.
    crisp = cols < 192 if crisp is None else crisp
    body = (
        f'<img class="{"instab-crisp" * crisp}" alt="{html.escape(alt)}" width="{cols}" height="{rows}" '
        f'src="{encode(levels, colours, lossless)}">'
    )
    if zoom is not None:
        top, left, size = zoom
        if not (top >= 0 and left >= 0 and size > 0 and top + size <= rows and left + size <= cols):
            raise ValueError(
                f"zoom expects (row, column, size) inside the {rows} x {cols} image; got {zoom}."
            )
        across = "right" if left + size / 2 < cols / 2 else "left"
        down = "bottom" if top + size / 2 < rows / 2 else "top"
        crop = levels[top : top + size, left : left + size]
        body += (
            f'<span class="instab-box" style="left:{100 * left / cols:.3f}%;top:{100 * top / rows:.3f}%;'
            f'width:{100 * size / cols:.3f}%;height:{100 * size / rows:.3f}%"></span>'
            f'<img class="instab-inset instab-crisp" alt="" style="{across}:0;{down}:0" '
            f'src="{encode(crop, colours, lossless)}">'
        )
    return f'<div class="instab-image {kind}">{body}</div>'


def scale(colours, lo, hi, name) -> str:
    """A colour bar with its ends in numbers."""
    stops = ",".join("rgb({},{},{})".format(*c) for c in colours)
    name = f" {html.escape(name)}" if name else ""
    return (
        f'<span>{number(lo, 3)}<i style="background:linear-gradient(90deg,{stops})"></i>'
        f"{number(hi, 3)}{name}</span>"
    )
