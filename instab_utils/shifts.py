"""Changes of the image that no network was trained on: drawn details with their exact mask."""

import numpy as np
import torch


def text(message: str, image_size: int, *, height: int | None = None, centre: tuple[float, float] = (0.5, 0.5)) -> torch.Tensor:
    """The message in white on black, anti-aliased, as an image (1, 1, n, n) in [0, 1].

    Args:
        message: one line of text.
        image_size: n in pixels.
        height: font size in pixels; default n / 8. Antun et al. write "CAN U SEE IT" at 10 to 11 pixels.
        centre: (row, column) of the text's middle as fractions of n.

    Raises:
        ValueError: when the text does not fit into the image.
    """
    from PIL import Image, ImageDraw, ImageFont

    size = max(height or image_size // 8, 4)
    page = Image.new("L", (image_size, image_size))
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=size)
    at = (centre[1] * image_size, centre[0] * image_size)
    left, top, right, bottom = draw.textbbox(at, message, font=font, anchor="mm")
    if left < 0 or top < 0 or right > image_size or bottom > image_size:
        raise ValueError(f"{message!r} at {size} px takes {right - left} x {bottom - top} pixels and leaves the image of "
                         f"{image_size} x {image_size}. Lower `height` or move `centre`.")
    draw.text(at, message, fill=255, font=font, anchor="mm")
    return torch.from_numpy(np.asarray(page, np.float32) / 255)[None, None]
