"""The pictures of a card: grey images in one window, differences around 0, as files of eight bits."""

import base64
import io
import struct
import zlib

import numpy as np
import torch

from .. import profiles
from ..stability import structure

CONTRAST = 0.3


@torch.no_grad()
def pictures(p, r: torch.Tensor | None) -> dict:
    """Images of the first image, as (group, title, caption, kind, values): worst case of the
    verdict's strength, details.
    """
    case, shown, found = p.case, structure.displayed, []
    y, x = case.y[:1], shown(case.x[:1])
    before = {
        "f": shown(p.f(y)),
        "stable": shown(case.tv(y)),
        "front_end": shown(case.front_end(y)),
    }
    names = {"f": "reconstruction", "stable": "total variation", "front_end": "front end"}
    top = float(x.max())

    def add(group, title, caption, image, kind="image"):
        window = (0.0, top) if kind == "image" else (-top / 2, top / 2)
        found.append(
            {
                "group": group,
                "title": title,
                "caption": caption,
                "kind": kind,
                "window": list(window),
                "values": image[0, 0],
            }
        )

    if r is not None:
        e = case.A(r)
        size = f"{100 * p.strength:g} % of the image"
        add("worst case", "Truth", "the first image", x)
        add("worst case", "Reconstruction", "before anything was changed", before["f"])
        for name, f in (("f", p.f), ("stable", case.tv), ("front_end", case.front_end)):
            after = shown(f(y + e))
            add(
                "worst case",
                f"{names[name].capitalize()} after",
                f"after a change of {size}, the worst found for f",
                after,
            )
            if name != "front_end":
                add(
                    "worst case",
                    f"What changed, {names[name]}",
                    f"after minus before, around 0 (window of half of {top:.2g})",
                    after - before[name],
                    "difference",
                )
    if p.why_no_details is None:
        drawn = structure.detail(
            case, 0, "suits", profiles.generator(0, f"details {case.name} suits 0")
        )
        height = CONTRAST * float(case.attacked[:1].abs().max())
        add(
            "details",
            "Truth with details",
            f"four suits of contrast {CONTRAST:g}",
            x + height * drawn.image.to(x.device),
        )
        for name, f in (("f", p.f), ("stable", case.tv), ("front_end", case.front_end)):
            add(
                "details",
                names[name].capitalize(),
                "of the measurement with the suits",
                shown(f(y + height * drawn.y)),
            )
    return {"pictures": found}


def encoded(unit: dict | None, public: bool) -> list[dict]:
    """As a card has them. Images that may not be passed on become JPEG; without Pillow they are
    left out.
    """
    made = []
    for picture in (unit or {}).get("pictures", []):
        low, high = picture["window"]
        grey = ((picture["values"].double() - low) / (high - low)).clamp(0, 1)
        eight = (255 * grey).round().to(torch.uint8).numpy()
        about = {key: picture[key] for key in ("group", "title", "caption", "kind")}
        about["alt"] = f"{picture['title']}: {picture['caption']}"
        if picture["kind"] == "image" and not public:
            content = _jpeg(eight)
            if content:
                made.append({**about, "jpeg": base64.b64encode(content).decode()})
        else:
            content = png(eight, diverging() if picture["kind"] == "difference" else None)
            made.append({**about, "png": base64.b64encode(content).decode()})
    return made


def diverging() -> np.ndarray:
    """256 colours: blue below 0, white at 0, red above; apart for the colour-blind, too."""
    t = np.linspace(-1, 1, 256)[:, None]
    blue, white, red = np.array([33, 102, 172]), np.array([247, 247, 247]), np.array([178, 24, 43])
    return (
        np.where(t < 0, white + -t * (blue - white), white + t * (red - white))
        .round()
        .astype(np.uint8)
    )


def png(grey: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """An 8-bit grey (h, w), or indices into a palette (256, 3), as a PNG file."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    h, w = grey.shape
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(grey))
    header = struct.pack(">IIBBBBB", w, h, 8, 0 if palette is None else 3, 0, 0, 0)
    colours = b"" if palette is None else chunk(b"PLTE", palette.tobytes())
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + colours
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


def _jpeg(grey: np.ndarray) -> bytes | None:
    try:
        from PIL import Image
    except ImportError:
        return None
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "JPEG", quality=80)
    return file.getvalue()
