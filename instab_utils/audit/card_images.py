"""Pictures of a card: grey images in one window, differences around 0, as files of eight bits."""

import base64
import functools
import io

import numpy as np
import torch

from .. import profiles
from ..stability import structure
from ..stability.comparison import displayed, methods
from .problem import Problem

CONTRAST = 0.3
NAMES = {"network": "reconstruction", "tv": "total variation", "front_end": "front end"}


@torch.no_grad()
def pictures(p: Problem, i: int, results: dict) -> dict:
    """Return images of one image: its worst case of the verdict's strength, and details."""
    case, show = p.case, displayed
    x, y = show(case.x[i : i + 1]), case.y[i : i + 1]
    top = float(x.max())
    shown = []

    def add(group, title, caption, image, kind="image"):
        window = [0.0, top] if kind == "image" else [-top / 2, top / 2]
        about = {"group": group, "title": title, "caption": caption, "kind": kind}
        shown.append({**about, "window": window, "values": image[0, 0]})

    worst = results.get(f"worst case, image {i + 1}")
    if worst:
        add_worst = functools.partial(add, "worst case")
        e = case.A(worst["r"][str(p.strength)].to(x.device))
        change = f"after a change of {100 * p.strength:g} % of the image, the worst found for f"
        difference = f"after minus before, around 0 (window of half of {top:.2g})"
        add_worst("Truth", "the first image", x)
        add_worst("Reconstruction", "before anything was changed", show(p.f(y)))
        for key, f in methods(case).items():
            after = show(f(y + e))
            add_worst(f"{NAMES[key].capitalize()} after", change, after)
            if key != "front_end":
                moved = after - show(f(y))
                add_worst(f"What changed, {NAMES[key]}", difference, moved, "difference")
    if p.why_no_details is None:
        generator = profiles.generator(0, f"details {case.name} suits {i}")
        drawn = structure.detail(case, i, "suits", generator)
        height = CONTRAST * float(case.attacked[i : i + 1].abs().max())
        caption = f"four suits of contrast {CONTRAST:g}"
        add("details", "Truth with details", caption, x + height * drawn.image.to(x.device))
        for key, f in methods(case).items():
            image = show(f(y + height * drawn.y))
            add("details", NAMES[key].capitalize(), "of the measurement with the suits", image)
    return {"pictures": shown}


def encoded(unit: dict | None, public: bool) -> list[dict]:
    """Return pictures as a card has them; images that may not be passed on become JPEG."""
    files = []
    for picture in unit["pictures"] if unit else []:
        low, high = picture["window"]
        grey = ((picture["values"].double() - low) / (high - low)).clamp(0, 1)
        grey = (255 * grey).round().to(torch.uint8).numpy()
        about = {key: picture[key] for key in ("group", "title", "caption", "kind")}
        about["alt"] = f"{picture['title']}: {picture['caption']}"
        difference = picture["kind"] == "difference"
        kind = "png" if difference or public else "jpeg"
        content = image_file(grey, kind, diverging() if difference else None)
        files.append({**about, kind: base64.b64encode(content).decode()})
    return files


def image_file(grey: np.ndarray, kind: str, palette: np.ndarray | None = None) -> bytes:
    """Return an 8-bit grey (h, w), or indices into a palette (256, 3), as a PNG or JPEG file."""
    from PIL import Image

    image = Image.fromarray(grey)
    if palette is not None:
        image.putpalette(palette.tobytes())
    file = io.BytesIO()
    image.save(file, kind, quality=80)
    return file.getvalue()


def diverging() -> np.ndarray:
    """Return 256 colours: blue below 0, white at 0, red above; distinct for the colour-blind."""
    t = np.linspace(-1, 1, 256)[:, None]
    blue, white, red = np.array([33, 102, 172]), np.array([247, 247, 247]), np.array([178, 24, 43])
    colours = np.where(t < 0, white - t * (blue - white), white + t * (red - white))
    return colours.round().astype(np.uint8)
