"""Image panels as HTML: pixels stored losslessly, one grey window a row, errors zero-centred."""

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .page import Html, described, figure, number

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


Image = np.ndarray  # or a torch.Tensor: (n, m) or (1, 1, n, m), real or complex


@dataclass(frozen=True)
class PanelOptions:
    """Options of `panels`.

    Attributes:
        window: (lo, hi) shown as black and white; default the range of the reference, else of the
            first image.
        error_of: the reference, as an image or an index into the images: adds |image| - |reference|
            under each image.
        error_limit: errors of -limit..limit span the colours; default the largest error of the row.
        signed: indices of images that are differences themselves (perturbations): zero-centred, own
            scale.
        signed_limit: the same as `error_limit` for those.
        captions: one line under each image, such as "31.2 dB".
        caption: one text for the whole figure.
        columns: images in a row on a wide page, default at most 4; at most 2 on a telephone.
        lossless: False stores JPEG, for images that may be printed but whose values may not be
            handed on.
    """

    window: tuple[float, float] | None = None
    error_of: Image | int | None = None
    error_limit: float | None = None
    signed: Sequence[int] = ()
    signed_limit: float | None = None
    captions: Sequence[str] | None = None
    caption: str = ""
    columns: int | None = None
    lossless: bool = True


def panels(images: Sequence[Image], titles: Sequence[str], *, alt: str = "", **options) -> Html:
    """Return images side by side through one grey window; errors below, zero-centred.

    Args:
        images: real or complex (n, m) or (1, 1, n, m), torch or numpy; complex images are shown as
            magnitude.
        titles: one short title an image.
        alt: what the figure shows, for readers who cannot see it; mandatory.
        options: those of `PanelOptions`.

    Raises:
        TypeError: no `alt`. ValueError: unequal lengths or shapes, non-finite pixels, an empty
            window.
    """
    given = PanelOptions(**options)
    images, titles = list(images), list(titles)
    n = len(images)
    captions = [""] * n if given.captions is None else list(given.captions)
    described("panels", alt)
    if not n == len(titles) == len(captions):
        raise ValueError(
            f"panels() expects one title and caption an image; got {n} images, {len(titles)} "
            f"titles, {len(captions)} captions."
        )
    signed = {range(n)[i]: values(images[i], signed=True) for i in given.signed}
    plain = [i for i in range(n) if i not in signed]
    is_index = isinstance(given.error_of, (int, np.integer))
    itself = range(n)[given.error_of] if is_index else None
    reference = images[itself] if is_index else given.error_of
    window = given.window
    if window is None and plain:
        shown = values(images[plain[0]] if reference is None else reference)
        window = float(shown.min()), float(shown.max())
    if window is not None and not window[0] < window[1]:
        raise ValueError(
            f"panels() expects window=(lo, hi) with lo < hi; got {window}. "
            "A constant image has no range of its own: pass window=(0, 1)."
        )
    compared = [i for i in plain if reference is not None and i != itself]
    errors = {i: _difference(images[i], reference) for i in compared}
    error_limit = given.error_limit or _largest(errors)
    signed_limit = given.signed_limit or _largest(signed)

    cells = ""
    for i in range(n):
        text = alt if n == 1 else " ".join(filter(None, (titles[i], captions[i])))
        if i in signed:
            levels, colours = signed_levels(signed[i], signed_limit), DIVERGING
        else:
            levels, colours = grey_levels(images[i], window), GREY
        image = picture(levels, colours, text, given.lossless)
        error = ""
        if i in errors:
            levels = signed_levels(errors[i], error_limit)
            text = f"error of {text}"
            error = picture(levels, DIVERGING, text, given.lossless, kind="instab-error")
        cells += (
            f'<div class="instab-panel"><p class="instab-title">{html.escape(titles[i])}</p>'
            f'{image}<p class="instab-note">{html.escape(captions[i])}</p>{error}</div>'
        )
    scales = scale(GREY, *window, "") if plain else ""
    scales += scale(DIVERGING, -signed_limit, signed_limit, "zero-centred") if signed else ""
    scales += scale(DIVERGING, -error_limit, error_limit, "error") if errors else ""
    columns = given.columns or math.ceil(n / math.ceil(n / 4))
    # on a telephone an error stands beside its image
    narrow, rows = (1, 4) if errors else (min(columns, 2), 3)
    width = max(side(np.shape(image)[-1]) for image in images)
    style = f"--columns:{columns};--narrow:{narrow};--rows:{rows};--side:{width}px"
    return figure(
        f'<div class="instab-grid{" instab-errors" * bool(errors)}" style="{style}">{cells}</div>'
        f'<div class="instab-scale">{scales}</div>',
        alt,
        given.caption,
    )


def _largest(arrays: dict[int, np.ndarray]) -> float:
    return max((np.abs(array).max() for array in arrays.values()), default=0) or 1.0


def grey_levels(image: Image, window: tuple[float, float]) -> np.ndarray:
    """Return round(255 clip((x - lo)/(hi - lo), 0, 1)), uint8 (n, m): the pixels of a panel."""
    lo, hi = window
    return np.rint(255 * np.clip((values(image) - lo) / (hi - lo), 0, 1)).astype(np.uint8)


def signed_levels(image: Image, limit: float) -> np.ndarray:
    """Return round(127 clip(e / limit, -1, 1)) + 127 as uint8: 0 is the palette's middle."""
    return np.rint(127 * np.clip(values(image, signed=True) / limit, -1, 1) + 127).astype(np.uint8)


def values(image: Image, signed: bool = False) -> np.ndarray:
    """Return the image as a float array (n, m): complex by magnitude, axes of length 1 dropped."""
    if hasattr(image, "detach"):
        image = image.detach().cpu().resolve_conj().resolve_neg().numpy()
    array = np.asarray(image)
    if array.ndim < 2 or any(length != 1 for length in array.shape[:-2]):
        raise ValueError(
            f"a panel expects one image of shape (n, m) or (1, 1, n, m); got {array.shape}. "
            "Pick one of the batch: images[k]."
        )
    if np.iscomplexobj(array):
        if signed:
            raise ValueError(
                "a zero-centred panel expects real values; got a complex image. "
                "Show its magnitude without `signed`, or pass its real part."
            )
        array = np.abs(array)
    array = array.reshape(array.shape[-2:]).astype(float)
    n_wrong = np.sum(~np.isfinite(array))
    if n_wrong:
        raise ValueError(
            f"a panel expects finite pixels; got {n_wrong} that are NaN or infinite. "
            "Say in the text that the method diverged, and leave the panel out."
        )
    return array


def _difference(image: Image, reference: Image) -> np.ndarray:
    image, reference = values(image), values(reference)
    if image.shape != reference.shape:
        raise ValueError(
            f"panels() expects images of the reference's shape {reference.shape} "
            f"to show their errors; got {image.shape}."
        )
    return image - reference


def _palette(anchors: Sequence[tuple[int, int, int]], n: int = 255) -> np.ndarray:
    """Return (n, 3) uint8, linear between equally spaced colours; n odd hits the middle one."""
    at, stops = np.linspace(0, 1, n), np.linspace(0, 1, len(anchors))
    channels = [np.interp(at, stops, channel) for channel in np.transpose(anchors)]
    return np.rint(np.stack(channels, 1)).astype(np.uint8)


def encode(levels: np.ndarray, colours: Sequence, lossless: bool = True) -> str:
    """Return the levels as a data address: grey or palette PNG, or JPEG if not `lossless`."""
    from PIL import Image as Pillow

    image = Pillow.frombytes("L" if colours is GREY else "P", levels.shape[::-1], levels.tobytes())
    if colours is not GREY:
        image.putpalette(_palette(colours).tobytes())
    stream = io.BytesIO()
    if lossless:
        image.save(stream, "PNG", optimize=True)
    else:
        image.convert("L" if colours is GREY else "RGB").save(stream, "JPEG", quality=85)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def side(n: int) -> int:
    """Return the widest a panel of n pixels is drawn: a multiple of n from 224, at most 512."""
    return min(n * math.ceil(224 / n), 512)


def picture(
    levels: np.ndarray,
    colours: Sequence,
    alt: str,
    lossless: bool = True,
    kind: str = "",
    crisp: bool | None = None,
) -> str:
    """Return one picture as HTML."""
    rows, cols = levels.shape
    # Enlarged pixels stay squares; an image near its own size is left to the browser's smoother,
    # which drops no pixel.
    crisp = cols < 192 if crisp is None else crisp
    image = (
        f'<img class="{"instab-crisp" * crisp}" alt="{html.escape(alt)}" width="{cols}" '
        f'height="{rows}" src="{encode(levels, colours, lossless)}">'
    )
    return f'<div class="instab-image {kind}">{image}</div>'


def scale(colours: Sequence, lo: float, hi: float, name: str) -> str:
    """Return a colour bar with its ends in numbers, as HTML."""
    stops = ",".join("rgb({},{},{})".format(*c) for c in colours)
    name = f" {html.escape(name)}" if name else ""
    return (
        f'<span>{number(lo, 3)}<i style="background:linear-gradient(90deg,{stops})"></i>'
        f"{number(hi, 3)}{name}</span>"
    )
