"""Format numbers of the card's pages as text: true minus signs, a dash for what does not exist."""

from collections.abc import Sequence

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_DASH = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Return the value to `digits` significant digits; large whole numbers in full."""
    if value is None:
        return _DASH
    if isinstance(value, int) or 10**digits <= abs(value) < 1e7:
        text = f"{value:.0f}"
    else:
        text, _, power = f"{value:.{digits}g}".partition("e")
        text += f"·10{str(int(power)).translate(_RAISED)}" if power else ""
    return text.replace("-", "−")


def db(value: float | None) -> str:
    """Return decibels to one decimal."""
    return _fixed(value, "{:.1f}")


def change(value: float | None) -> str:
    """Return a difference of decibels with its sign."""
    return _fixed(value, "{:+.1f}")


def share(value: float | None) -> str:
    """Return a share, or an area under a curve, to two decimals."""
    return _fixed(value, "{:.2f}")


def times(value: float | None) -> str:
    """Return a factor to three significant digits."""
    if value is None or not 0.01 <= abs(value) < 1000:
        return number(value)
    return _fixed(value, "{:#.3g}").rstrip(".")


def percent(value: float | None) -> str:
    """Return a share as per cent to three significant digits."""
    return _DASH if value is None else f"{number(100 * value)}\u00a0%"


def rate(mean: dict) -> str:
    """Return the mean of a share over images in whole per cent."""
    return percent(None if mean["mean"] is None else round(mean["mean"], 2))


def size(shape: Sequence[int]) -> str:
    """Return a shape such as 64 × 64."""
    return " × ".join(map(str, shape))


def count(n: int, noun: str) -> str:
    """Return "one image", "2 images", ..."""
    return f"one {noun}" if n == 1 else f"{n:,} {noun}s"


def plain(value: object) -> str:
    """Return a setting as text: lists with commas, "none" for what is empty."""
    if isinstance(value, list) and value:
        return ", ".join(map(plain, value))
    if value in (None, "", []):
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _fixed(value: float | None, form: str) -> str:
    return _DASH if value is None else form.format(value).replace("-", "−")
