"""The templates of the card's pages (folder templates): what they may call, how they escape."""

from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from . import formats

TESTS = {
    "worst_case": "Tiny changes, chosen to do harm",
    "structure": "Small details that no training had",
    "more_samples": "More measurements than in training",
    "alarms": "Would anything have warned?",
}
_SYMBOLS = {
    ("good", "✓"): ("stable", "preserves", "improves", "rings"),
    ("mid", "◐"): ("between", "blurs", "stagnates"),
    ("bad", "✗"): ("unstable", "erases", "degrades", "silent"),
}
# Every line of a plot has its name, its dash and its marker; colours are the style sheet's.
DASHES = {"network": "", "stable": "", "own": "7 4", "twin": "2 4", "front": "9 3 2 3"}


class Frame(NamedTuple):
    """The drawing of curves: its size, and the sides of its axes, in pixels."""

    width: int = 460
    height: int = 270
    left: int = 48
    right: int = 322
    top: int = 14
    bottom: int = 226


FRAME = Frame()


def _unbroken(value: object) -> object:
    """Keep a number on the line of its per cent sign; print None as a dash."""
    if value is None:
        return formats.number(None)
    return value if isinstance(value, Markup) else str(value).replace(" %", "\u00a0%")


TEMPLATES = Environment(
    loader=PackageLoader("instab_utils.report"),
    autoescape=True,
    finalize=_unbroken,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=StrictUndefined,
)
TEMPLATES.globals |= {
    "TESTS": TESTS,
    "LOOKS": {word: look for look, words in _SYMBOLS.items() for word in words},
    "FRAME": FRAME,
}
for _format in (
    "change",
    "count",
    "db",
    "number",
    "percent",
    "plain",
    "rate",
    "share",
    "size",
    "times",
):
    TEMPLATES.globals[_format] = getattr(formats, _format)
